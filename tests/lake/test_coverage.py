"""Every absent bar has a reason, and a backfill asks for nothing it knows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.absences import Facts, Reason, Segments, bars_by_reason, explain, runs, to_fetch
from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.schema import BARS
from lake.store import Lake

START = datetime(2024, 1, 2, tzinfo=UTC)
NOW = datetime(2024, 1, 5, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Maker = Callable[..., pl.DataFrame]


def minutes(first: int, last: int) -> tuple[datetime, datetime]:
    """Return the range of minutes of the test's day."""
    return START + first * MINUTE, START + last * MINUTE


def write(lake: Lake, bars: pl.DataFrame) -> None:
    """Write bars of the symbol under test."""
    lake.write_bars(bars, symbol="BTCUSDT", interval="1m", start=START, end=START + timedelta(days=9))


def reasons(ledger: Ledger, first: int, last: int, **options: object) -> list[tuple[int, int, str]]:
    """Return the absences as minutes of the day."""
    found = ledger.absences("BTCUSDT", "1m", *minutes(first, last), **{"now": NOW, **options})  # type: ignore[arg-type]
    return [
        ((start - START) // MINUTE, (end - START) // MINUTE, reason)
        for start, end, reason in found.select("start", "end", "reason").iter_rows()
    ]


def test_a_hole_inside_the_history_is_found(lake: Lake, make_bars: Maker) -> None:
    """Rows, not file names, say what is there: a hole inside one file is missing, and nothing else."""
    bars = make_bars(100, START)
    write(lake, bars.filter((pl.int_range(pl.len()) < 40) | (pl.int_range(pl.len()) >= 45)))
    ledger = Ledger(lake)
    assert reasons(ledger, 0, 100) == [(40, 45, "not_fetched")]
    assert to_fetch(ledger.absences("BTCUSDT", "1m", *minutes(0, 100), now=NOW)) == [minutes(40, 45)]
    write(lake, bars.slice(40, 5))
    assert to_fetch(ledger.absences("BTCUSDT", "1m", *minutes(0, 100), now=NOW)) == []


def test_the_vendor_says_nothing_often_enough(lake: Lake, make_bars: Maker) -> None:
    """An answer without a bar is retried until it is confirmed; then it is never asked for again."""
    write(lake, make_bars(10, START))
    ledger = Ledger(lake, confirmations=3)
    for expected in ("not_fetched", "to_retry", "to_retry", "vendor_empty"):
        assert reasons(ledger, 0, 20) == [(10, 20, expected)]
        ledger.record_answer("BTCUSDT", "1m", *minutes(0, 20), asked_at=NOW)
    assert to_fetch(ledger.absences("BTCUSDT", "1m", *minutes(0, 20), now=NOW)) == []
    assert ledger.absences("BTCUSDT", "1m", *minutes(0, 20), now=NOW)["confirmations"].to_list() == [4]


def test_an_answer_under_a_name_counts_once(lake: Lake) -> None:
    """A run that was killed may record its answers again: the same name counts once, another counts more."""
    ledger, ranges = Ledger(lake, confirmations=9), [minutes(0, 5), minutes(10, 12)]
    for name in ("first", "first", "second", "first"):
        ledger.record_answers("BTCUSDT", "1m", ranges, asked_at=NOW, once=name)
    found = ledger.absences("BTCUSDT", "1m", *minutes(0, 12), now=NOW)
    assert found["confirmations"].to_list() == [2, 0, 2]


def test_failures_stay_to_be_retried_until_answered(lake: Lake) -> None:
    """A failed request is remembered with its cause; an answer clears just the part it covers."""
    ledger = Ledger(lake, confirmations=1)
    ledger.record_failure("BTCUSDT", "1m", *minutes(0, 30), detail="HTTP 502")
    ledger.record_answer("BTCUSDT", "1m", *minutes(10, 20), asked_at=NOW)
    assert reasons(ledger, 0, 40) == [
        (0, 10, "to_retry"),
        (10, 20, "vendor_empty"),
        (20, 30, "to_retry"),
        (30, 40, "not_fetched"),
    ]
    assert ledger.records("1m").filter(kind="failed")["detail"].unique().to_list() == ["HTTP 502"]


def test_the_forming_bar_is_never_asked_for(lake: Lake) -> None:
    """Bars that have not closed are neither missing nor confirmed empty by an answer that came too early."""
    ledger = Ledger(lake, confirmations=1)
    asked_at = START + timedelta(minutes=10, seconds=59)
    ledger.record_answer("BTCUSDT", "1m", *minutes(0, 20), asked_at=asked_at)
    assert reasons(ledger, 0, 20, now=asked_at) == [(0, 10, "vendor_empty"), (10, 20, "not_closed")]
    assert reasons(ledger, 0, 20) == [(0, 10, "vendor_empty"), (10, 20, "not_fetched")]


def test_listing_and_plan_bound_the_history(lake: Lake) -> None:
    """Before trading began and beyond the plan nothing is asked for, and each has its own name."""
    ledger = Ledger(lake)
    ledger.record_listing("BTCUSDT", "1m", START + 5 * MINUTE)
    found = reasons(ledger, 0, 20, reachable_from=START + 10 * MINUTE)
    assert found == [(0, 5, "before_listing"), (5, 10, "beyond_history"), (10, 20, "not_fetched")]


def test_bars_from_before_the_listing_move_it(lake: Lake, make_bars: Maker) -> None:
    """Where older bars come from elsewhere, trading began with them: what lacks between is a hole to be asked for."""
    ledger = Ledger(lake)
    ledger.record_listing("BTCUSDT", "1m", START + 50 * MINUTE)
    write(lake, make_bars(10, START + 20 * MINUTE))
    assert reasons(ledger, 0, 60) == [(0, 20, "before_listing"), (30, 60, "not_fetched")]
    assert reasons(ledger, 40, 60) == [(40, 60, "not_fetched")]


def test_closed_hours_are_no_gaps(lake: Lake) -> None:
    """Nights and holidays are closed, and a request may span them."""
    calendar = TradingCalendar.from_sessions(
        [date(2024, 1, 2), date(2024, 1, 3)], [], [(time(10), time(12))], "Europe/London"
    )
    ledger = Ledger(lake)
    day = timedelta(days=1)
    found = ledger.absences("BTCUSDT", "1m", START, START + 2 * day, calendar=calendar, now=NOW)
    assert found["reason"].to_list() == ["market_closed", "not_fetched"] * 2 + ["market_closed"]
    assert to_fetch(ledger.absences("BTCUSDT", "1m", START, START + 2 * day, calendar=calendar, now=NOW)) == [
        (START + timedelta(hours=10), START + day + timedelta(hours=12))
    ]
    assert bars_by_reason(ledger.absences("BTCUSDT", "1m", START, START + day, calendar=calendar, now=NOW)) == {
        **dict.fromkeys((reason.value for reason in Reason), 0),
        "market_closed": 22 * 60,
        "not_fetched": 120,
    }


@pytest.mark.parametrize("interval", ["1m", "1h", "1d", "1w", "1mo"])
def test_every_interval_has_a_ledger(lake: Lake, interval: str) -> None:
    """An empty lake misses one whole range, whatever the interval."""
    start, end = datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
    found = Ledger(lake).absences("BTCUSDT", interval, start, end, now=NOW)
    grid = TradingCalendar.always_open().expected_opens(interval, start, end)
    assert found.select("start", "reason", "bars").rows() == [(grid[0], "not_fetched", grid.len())]


def test_records_stay_few(lake: Lake) -> None:
    """A hundred answers for neighbouring ranges are remembered as one range."""
    ledger = Ledger(lake)
    for minute in range(30):
        ledger.record_answer("BTCUSDT", "1m", *minutes(minute, minute + 1), asked_at=NOW)
    assert ledger.records("1m", "BTCUSDT").select("start", "end", "count").rows() == [(*minutes(0, 30), 1)]


_RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 3)), max_size=8)


@settings(max_examples=200)
@given(ranges=_RANGES)
def test_segments_count_what_covers_each_moment(ranges: list[tuple[int, int, int]]) -> None:
    """Segments are disjoint, in order, and count at every moment the ranges that hold it."""
    segments = Segments.of(ranges)
    assert (segments.start[1:] >= segments.end[:-1]).all()
    moments = np.arange(-1, 32)
    truth = [sum(count for start, end, count in ranges if start <= moment < end) for moment in moments]
    assert segments.at(moments).tolist() == truth


class FaultyVendor:
    """A vendor in memory that lacks bars for ever, fails at times, and serves bars that form.

    Asked for a range it gives the bars it has there, or None where the request fails.
    """

    def __init__(self, seed: int, size: int) -> None:
        self.random = np.random.default_rng(seed)
        self.lacking = self.random.random(size) < self.random.choice([0.0, 0.1, 0.6])
        self.closed = int(self.random.integers(size // 2, size + 1))
        self.failures = float(self.random.choice([0.0, 0.3]))
        self.asked: list[tuple[int, int]] = []

    def answer(self, start: int, end: int) -> np.ndarray | None:
        """Return the opens in the range that it serves, the forming bar among them."""
        self.asked.append((start, end))
        if self.random.random() < self.failures:
            return None
        opens = np.arange(start, min(end, self.closed + 1))
        return opens[~self.lacking[opens.clip(max=len(self.lacking) - 1)]]


@pytest.mark.parametrize("block", range(10))
def test_the_ledger_agrees_with_a_thousand_faulty_vendors(block: int) -> None:
    """Asked until nothing is missing, each vendor's truth is in the rows, and no confirmed range is asked for again."""
    for seed in range(block * 100, block * 100 + 100):
        vendor = FaultyVendor(seed, 60)
        grid, present = np.arange(60), np.zeros(0, np.int64)
        answered: list[tuple[int, int, int]] = []
        failed: list[tuple[int, int, int]] = []
        for _ in range(60):
            facts = Facts(vendor.closed, Segments.of(answered), Segments.of(failed))
            codes, answers = explain(grid, present, grid, facts)
            wanted = [(_minute(start), _minute(end)) for start, end in to_fetch(runs(grid, 60, codes, answers))]
            if not wanted:
                break
            for start, end in wanted:
                assert end <= vendor.closed, "a bar that has not closed was asked for"
                bars = vendor.answer(start, end)
                if bars is None:
                    failed.append((start, end, 1))
                else:
                    present = np.union1d(present, bars)
                    answered.append((start, end, 1))
        assert not wanted
        truth = np.flatnonzero(~vendor.lacking[: vendor.closed])
        assert present.tolist() == truth.tolist()
        asked = Segments.of((start, end, 1) for start, end, _ in answered).at(grid)
        assert (asked[np.flatnonzero(vendor.lacking[: vendor.closed])] == 2).all()
        assert (asked[truth] == 1).all()


def _minute(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def test_ten_years_of_minutes_take_a_moment(lake: Lake) -> None:
    """The ledger of ten years of minutes is one run where nothing is known, made without a row for each bar."""
    start = datetime(2014, 1, 1, tzinfo=UTC)
    found = Ledger(lake).absences("BTCUSDT", "1m", start, start + timedelta(days=3652), now=NOW)
    assert found["bars"].to_list() == [3652 * 1440]


def test_absences_have_their_schema(lake: Lake, make_bars: Maker) -> None:
    """Nothing absent is an empty frame of the same columns."""
    write(lake, make_bars(10, START).cast(BARS))  # type: ignore[arg-type]
    ledger = Ledger(lake)
    none = ledger.absences("BTCUSDT", "1m", *minutes(0, 10), now=NOW)
    assert none.is_empty()
    assert none.schema == ledger.absences("BTCUSDT", "1m", *minutes(0, 20), now=NOW).schema
