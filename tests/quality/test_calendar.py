"""The quality calendar: a row a symbol and day, saying what is there, what is wrong and what was released."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.coverage import Ledger
from lake.store import Lake
from tasks.quality import verdicts
from tasks.quality.calendar import DAYS, quality_calendar
from tasks.quality.plan import Market
from tasks.quality.task import check_lake, check_partition, release_partitions

STEP = timedelta(minutes=30)
START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2024, 1, 11, tzinfo=UTC)
ROW = pl.int_range(pl.len())


@pytest.fixture
def lake(tmp_path: Path, make_bars: Callable[..., pl.DataFrame]) -> Lake:
    """Return a lake of two symbols over ten days: a bad bar on the 2nd, a hole on the 3rd, a wick on the 4th."""
    lake = Lake(tmp_path / "lake", clock=lambda: END + STEP)
    bars = make_bars((END - START) // STEP, start=START, step=STEP)
    lake.write_bars(bars, symbol="GOOD", interval="30m", start=START, end=END)
    bad = bars.with_columns(
        volume=pl.when(ROW == 50).then(-1.0).otherwise("volume"),
        high=pl.when(ROW == 150).then(pl.col("high") * 2).otherwise("high"),
    ).filter(~ROW.is_between(100, 103))
    lake.write_bars(bad, symbol="BAD", interval="30m", start=START, end=END)
    return lake


def _of(days: pl.DataFrame, symbol: str, column: str) -> list[object]:
    return days.filter(pl.col("symbol") == symbol)[column].to_list()


def test_each_day_says_what_is_wrong(lake: Lake) -> None:
    """Days of a rejected partition are told apart: bad bar, hole with its reason, warning, sound ones."""
    ledger = Ledger(lake)
    for _ in range(2):
        ledger.record_answer("BAD", "30m", START, END, asked_at=END)
    check_lake.fn(str(lake.location.uri), "30m", as_of=END + STEP)
    days = quality_calendar(lake, "30m", START, END)
    assert days.schema == DAYS
    assert _of(days, "GOOD", "status") == ["pass"] * 10
    assert _of(days, "BAD", "status") == ["pass", "reject", "reject", "warn", *["pass"] * 6]
    assert set(_of(days, "BAD", "partition_status")) == {"reject"}
    assert _of(days, "BAD", "rows") == [48, 48, 44, *[48] * 7]
    assert _of(days, "BAD", "bad_rows")[:4] == [0, 1, 4, 0]
    assert _of(days, "BAD", "absence")[:4] == [None, None, "vendor_empty", None]


def test_releases_and_missing_verdicts_are_shown(lake: Lake) -> None:
    """A released partition is shown as such; before any verdict every day is unjudged."""
    root = str(lake.location.uri)
    assert set(quality_calendar(lake, "30m", START, END)["status"]) == {"unjudged"}
    check_partition.fn(root, "BAD", "30m", START, END)
    assert release_partitions.fn(root, "BAD", "30m", START, END, reason="known outage", released_by="maria") == 1
    days = quality_calendar(lake, "30m", START, END)
    assert _of(days, "BAD", "status")[:3] == ["pass", "released", "released"]
    assert set(_of(days, "GOOD", "status")) == {"unjudged"}
    verdicts.refuse_rejected(lake, ["BAD"], "30m", START, END)


def test_closed_days_have_no_row(lake: Lake) -> None:
    """A weekend of an exchange is no gap: without a bar and without one expected there is no row."""
    nyse = {"NYSE": Market("exchange:XNYS")}
    days = quality_calendar(lake, "30m", START, END, symbols=["NYSE"], markets=nyse)
    assert _of(days, "NYSE", "day") == [date(2024, 1, day) for day in (2, 3, 4, 5, 8, 9, 10)]
    assert set(_of(days, "NYSE", "rows")) == {0}
    assert set(_of(days, "NYSE", "expected_rows")) == {13}
    assert set(_of(days, "NYSE", "absence")) == {"not_fetched"}
