"""Pages that wait for their commit."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lake.schema import BARS
from tasks.exchange.page import Page
from tasks.exchange.spool import Spool
from tests.exchange.conftest import MINUTE, NOW, START, window


def page(first: int, bars: int = 3) -> Page:
    """Return a page of that many bars from that minute on."""
    start = START + first * MINUTE
    rows = {"timestamp": [start + i * MINUTE for i in range(bars)]} | dict.fromkeys(list(BARS)[1:], 1.5)
    return Page(window(bars, start), pl.DataFrame(rows, schema=BARS), conflicts=(start + MINUTE,))


def test_what_is_saved_comes_back_in_order(tmp_path: Path) -> None:
    """Pages come back as they were, oldest window first, whichever was saved first."""
    spool = Spool(tmp_path / "x")
    for first in (100, 0, 20):
        spool.save(page(first), NOW)
    kept = list(Spool(tmp_path / "x").pages())
    assert [one.page.window for one in kept] == [page(first).window for first in (0, 20, 100)]
    assert all(one.page.bars.equals(page(first).bars) for one, first in zip(kept, (0, 20, 100), strict=True))
    assert kept[0].asked_at == NOW
    assert len({one.name for one in kept}) == 3
    assert kept[0].page.conflicts == (START + MINUTE,)


def test_an_empty_page_is_an_answer_too(tmp_path: Path) -> None:
    """That the vendor had nothing is worth keeping."""
    spool = Spool(tmp_path / "x")
    spool.save(Page(window(), pl.DataFrame(schema=BARS)), NOW)
    assert [one.page.bars.height for one in spool.pages()] == [0]


def test_a_torn_file_is_dropped(tmp_path: Path) -> None:
    """A file that a power cut left half written is forgotten and its page asked again; the others stay."""
    spool = Spool(tmp_path / "x")
    spool.save(page(0), NOW)
    spool.save(page(10), NOW)
    torn = min((tmp_path / "x").glob("*.page"))
    for raw in (torn.read_bytes()[:200], b"", torn.read_bytes()[:-40]):
        torn.write_bytes(raw)
        assert [one.page.window for one in spool.pages()] == [page(10).window]
        assert not torn.exists()


def test_clearing_leaves_nothing(tmp_path: Path) -> None:
    """After the commit neither pages nor half-written ones are left; clearing twice is nothing."""
    spool = Spool(tmp_path / "x")
    spool.save(page(0), NOW)
    (tmp_path / "x" / "0-1.999").write_bytes(b"half")
    spool.clear()
    spool.clear()
    assert list(tmp_path.iterdir()) == []
    assert list(spool.pages()) == []
