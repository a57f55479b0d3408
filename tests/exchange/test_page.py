"""No page boundary is trusted."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.schema import BARS
from tasks.errors import ProtocolError
from tasks.exchange.page import Page, checked_page, grid_opens, missing_opens
from tasks.exchange.request import Window
from tests.exchange.conftest import MINUTE, NOW, START, window


def rows(*bars: tuple[int, float]) -> pl.DataFrame:
    """Return rows as served, each given by its minute after `START` and its price."""
    columns = {"timestamp": [START + minute * MINUTE for minute, _ in bars]}
    return pl.DataFrame(columns | {name: [price for _, price in bars] for name in list(BARS)[1:]}, schema=BARS)


def check(served: pl.DataFrame, bars: int = 10, limit: int | None = None, now: datetime = NOW) -> Page:
    """Judge rows served for a window of that many bars."""
    asked = window(bars)
    return checked_page(served, symbol="X", interval_name="1m", window=asked, limit=limit or bars, now=now)


@given(st.integers(0, 2**32), st.integers(0, 60))
def test_order_and_repetition_change_nothing(seed: int, bars: int) -> None:
    """Any order, any exact repetition: the same bars come out, and what was done is counted."""
    rng = random.Random(seed)
    truth = rows(*[(minute, float(minute)) for minute in range(bars)])
    served = pl.concat([truth, truth.sample(min(5, bars), seed=rng.randrange(2**31))])
    served = served.sample(fraction=1.0, shuffle=True, seed=rng.randrange(2**31))
    page = check(served, bars or 1)
    assert page.bars.equals(truth)
    assert page.duplicates == min(5, bars)


def test_two_values_for_one_bar_are_a_hole() -> None:
    """Where two rows disagree neither is believed: the bar is missing, named, and will be asked for again."""
    page = check(rows((0, 1.0), (1, 2.0), (1, 3.0), (2, 4.0), (2, 4.0)))
    assert page.bars["close"].to_list() == [1.0, 4.0]
    assert page.conflicts == (START + MINUTE,)
    assert page.duplicates == 1


@pytest.mark.parametrize("minute", [-1, 10])
def test_a_bar_outside_the_window_is_a_breach(minute: int) -> None:
    """A vendor that reads start_time, end_time or time in another way is caught, not stored."""
    with pytest.raises(ProtocolError, match="inside the window"):
        check(rows((0, 1.0), (minute, 2.0)))


def test_an_open_off_the_grid_is_a_breach() -> None:
    """A bar named by its close (59.999 s) or by local time is caught, not stored."""
    served = rows((0, 1.0)).with_columns(pl.col("timestamp") + timedelta(seconds=59, milliseconds=999))
    with pytest.raises(ProtocolError, match="on the 1m grid"):
        check(served)


@pytest.mark.parametrize(("name", "day"), [("1w", 2), ("1mo", 2), ("1d", 1)])
def test_every_interval_has_a_grid(name: str, day: int) -> None:
    """Weeks open on Mondays, months on their first, days at midnight."""
    moment = datetime(2024, 1, day, 0 if name != "1d" else 5, tzinfo=UTC)
    served = rows((0, 1.0)).with_columns(timestamp=pl.lit(moment).cast(BARS["timestamp"]))
    asked = Window(START, datetime(2024, 3, 1, tzinfo=UTC))
    with pytest.raises(ProtocolError, match=f"on the {name} grid"):
        checked_page(served, symbol="X", interval_name=name, window=asked, limit=100, now=NOW)


def test_more_bars_than_asked_for_is_a_breach() -> None:
    """A page over its limit means the vendor's limit rule is another."""
    with pytest.raises(ProtocolError, match="at most 2 bars, found 3"):
        check(rows((0, 1.0), (1, 1.0), (2, 1.0)), limit=2)


def test_a_full_page_proves_nothing_about_what_it_lacks() -> None:
    """A page as long as its limit may have been cut, unless no more bars could open in its window."""
    assert not check(rows((0, 1.0), (1, 1.0)), bars=10, limit=2).conclusive
    assert check(rows((0, 1.0), (1, 1.0)), bars=2, limit=2).conclusive
    assert check(rows((0, 1.0)), bars=10, limit=2).conclusive


@given(st.sets(st.integers(0, 99)), st.sets(st.integers(0, 150)))
def test_missing_is_expected_less_found(found: set[int], expected: set[int]) -> None:
    """What is missing is exactly the expected opens of the window that the page lacks."""
    page = check(rows(*[(minute, 1.0) for minute in sorted(found)]), bars=100)
    opens = pl.Series("timestamp", [START + m * MINUTE for m in sorted(expected)], dtype=BARS["timestamp"])
    truth = [START + m * MINUTE for m in sorted(expected - found) if m < 100]
    assert missing_opens(page, opens).to_list() == truth


@pytest.mark.parametrize(("name", "count"), [("1m", 1440 * 60), ("1h", 24 * 60), ("1d", 60), ("1mo", 2), ("1w", 9)])
def test_the_grid_of_a_market_that_never_closes(name: str, count: int) -> None:
    """Two months hold so many opens of each interval."""
    opens = grid_opens(name, START, datetime(2024, 3, 1, tzinfo=UTC))
    assert opens.len() == count
    assert opens.is_sorted()
