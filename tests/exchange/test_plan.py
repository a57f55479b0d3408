"""A backfill's plan, read before it runs."""

from __future__ import annotations

import random
from itertools import pairwise

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.exchange.page import grid_opens
from tasks.exchange.plan import BackfillPlan, Range, pack_windows, plan_line
from tests.exchange.conftest import MINUTE, START

DAY = 1_440


def opens(minutes: range | list[int]) -> pl.Series:
    """Return the opens of these minutes after `START`."""
    return pl.Series("timestamp", [START + minute * MINUTE for minute in minutes], dtype=pl.Datetime("us", "UTC"))


def span(first: int, last: int) -> Range:
    """Return the range between two minutes after `START`."""
    return START + first * MINUTE, START + last * MINUTE


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(5, 200))
def test_windows_cover_what_is_wanted_and_fit_a_page(seed: int, page_bars: int) -> None:
    """Every wanted open lies in exactly one window, no window expects more bars than a page holds."""
    rng = random.Random(seed)
    expected = opens([minute for minute in range(600) if minute % 300 < 200])
    cuts = sorted(rng.sample(range(600), 2 * rng.randint(1, 8)))
    ranges = [span(*pair) for pair in zip(cuts[::2], cuts[1::2], strict=True)]
    windows = pack_windows("1m", ranges, expected, page_bars)
    assert all(expected.is_between(one.start, one.end, closed="left").sum() <= page_bars for one in windows)
    assert all(left.end <= right.start for left, right in pairwise(windows))
    wanted = {one for one in expected if any(start <= one < end for start, end in ranges)}
    asked = [opened for one in windows for opened in expected.filter(expected.is_between(one.start, one.end, "left"))]
    assert wanted <= set(asked)
    assert len(asked) == len(set(asked))


def test_scattered_holes_share_a_request() -> None:
    """Ten holes within a page of each other cost one request; one beyond it costs a second."""
    holes = [span(minute, minute + 1) for minute in (*range(0, 1_000, 100), 1_500)]
    windows = pack_windows("1m", holes, opens(range(3_000)))
    assert [(one.start, one.end) for one in windows] == [span(0, 901), span(1_500, 1_501)]


def test_closed_hours_cost_nothing() -> None:
    """A window reaches over the night: three sessions of 390 minutes need two requests, not five."""
    expected = opens([day * DAY + minute for day in range(3) for minute in range(390)])
    windows = pack_windows("1m", [span(0, 3 * DAY)], expected)
    assert len(windows) == 2


def test_nothing_wanted_is_nothing_asked() -> None:
    """Where every absent bar is explained the plan is empty and says so."""
    line = plan_line("X", "1m", [], opens(range(10)))
    plan = BackfillPlan((line,), 60)
    assert (plan.requests, plan.bars, plan.minutes) == (0, 0, 0.0)
    assert "Nothing to ask" in plan.render()


def test_the_plan_says_what_it_costs() -> None:
    """Requests, minutes at the plan's rate without the live reserve, and bytes, per symbol and in all."""
    month = grid_opens("1m", START, START + 31 * DAY * MINUTE)
    lines = tuple(plan_line(name, "1m", [span(0, 31 * DAY)], month) for name in ("BTCUSDT", "ETHUSDT"))
    plan = BackfillPlan(lines, 600)
    assert (plan.requests, plan.bars) == (90, 89_280)
    assert plan.minutes == 90 / 594
    assert plan.summary() == "90 requests for 89,280 bars, 13.4 MB, 0.2 minutes at 600 requests a minute."
    assert plan.render().splitlines()[:2] == [
        "symbol   range                     requests  bars    MB",
        "BTCUSDT  2024-01-01 to 2024-02-01  45        44,640  6.7",
    ]
