"""Pages that wait for their commit."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.schema import BARS
from tasks.exchange.page import Page
from tasks.exchange.spool import Spool
from tests.exchange.conftest import MINUTE, NOW, START, window


def page(first: int, bars: int = 3) -> Page:
    """Return a page of that many bars from that minute on."""
    start = START + first * MINUTE
    rows = {"timestamp": [start + i * MINUTE for i in range(bars)]} | dict.fromkeys(list(BARS)[1:], 1.5)
    return Page(window(bars, start), pl.DataFrame(rows, schema=BARS), conflicts=(start + MINUTE,))


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    """Pages come back as they were, in the order they came, each under a name of its own."""
    for first in (100, 0, 20):
        Spool(tmp_path / "x").save(page(first), NOW)
    kept = list(Spool(tmp_path / "x").pages())
    assert [one.page.window for one in kept] == [page(first).window for first in (100, 0, 20)]
    assert all(one.page.bars.equals(page(first).bars) for one, first in zip(kept, (100, 0, 20), strict=True))
    assert kept[0].asked_at == NOW
    assert kept[0].page.conflicts == (START + 101 * MINUTE,)
    assert len({one.name for one in kept}) == 3


def test_an_empty_page_is_an_answer_too(tmp_path: Path) -> None:
    """That the vendor had nothing is worth keeping."""
    spool = Spool(tmp_path / "x")
    spool.save(Page(window(), pl.DataFrame(schema=BARS)), NOW)
    assert [one.page.bars.height for one in spool.pages()] == [0]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.integers(0, 10_000), st.booleans())
def test_a_damaged_journal_keeps_what_lies_before_the_damage(tmp_path: Path, place: int, cut: bool) -> None:
    """Wherever a journal is cut or a byte of it is wrong, every page before that comes back, and none after it."""
    spool = Spool(tmp_path / "x")
    spool.clear()
    ends = [spool.save(page(first), NOW) and (tmp_path / "x").stat().st_size for first in (0, 10, 20)]
    data = bytearray((tmp_path / "x").read_bytes())
    place %= len(data)
    data[place] ^= 0xFF
    (tmp_path / "x").write_bytes(data[:place] if cut else data)
    whole = sum(end <= place for end in ends)
    assert [one.page.window for one in spool.pages()] == [page(first).window for first in (0, 10, 20)[:whole]]


def test_clearing_leaves_nothing(tmp_path: Path) -> None:
    """After the commit no page is left; clearing twice is nothing."""
    spool = Spool(tmp_path / "x")
    spool.save(page(0), NOW)
    spool.clear()
    spool.clear()
    assert list(tmp_path.iterdir()) == []
    assert list(spool.pages()) == []
