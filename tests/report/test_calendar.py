"""The quality calendar: which day is which cell, and how bad it is."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.schema import TIMESTAMP
from lake.store import Lake
from tasks.report.charts.calendar import LEVELS, calendar_figure
from tasks.report.coverage import missing_reasons, quality_days
from tasks.sweep.result import SweepResult

OPEN = TradingCalendar.always_open()
NONE_HELD = pl.Series("timestamp", [], TIMESTAMP)


def _days(count: int, symbols: tuple[str, ...] = ("A",), **changes: object) -> pl.DataFrame:
    """Return complete days, then set whole columns."""
    rows = [
        {"symbol": s, "day": date(2022, 1, 1) + timedelta(days=n), "rows": 24, "expected_rows": 24, "status": "pass"}
        for s in symbols
        for n in range(count)
    ]
    return pl.DataFrame(rows).with_columns(**{name: pl.lit(value) for name, value in changes.items()})


def test_days_are_counted_against_the_calendar(sweep: tuple[SweepResult, pl.DataFrame], quality: pl.DataFrame) -> None:
    """A day with missing bars has fewer rows than expected; a day that no verdict covers is told apart."""
    bars = sweep[1].with_row_index().filter(~pl.col("index").is_between(96, 105)).drop("index")
    days = quality_days(bars, "BTC-PERP", "15m", OPEN, quality, NONE_HELD)
    assert days.height == 31
    assert days.row(1) == ("BTC-PERP", date(2022, 1, 2), 86, 96, "pass")
    assert days["status"].to_list() == ["pass"] * 30 + ["unjudged"]  # the verdicts end before the 31st
    unjudged = quality_days(bars, "BTC-PERP", "15m", OPEN, pl.DataFrame(), NONE_HELD)
    assert unjudged["status"].unique().to_list() == ["unjudged"]
    assert quality_days(bars.clear(), "BTC-PERP", "15m", OPEN, quality, NONE_HELD).is_empty()


def test_a_day_is_marked_where_its_bars_are_bad(sweep: tuple[SweepResult, pl.DataFrame], quality: pl.DataFrame) -> None:
    """Quarantine marks its own days, a warning the days of its samples; a release softens the mark."""
    bars = sweep[1]
    moment = "2022-01-15T03:00:00+00:00"
    warned = quality.with_columns(
        findings_json=pl.when(pl.col("status") == "warn")
        .then(pl.lit(f'[{{"rule": "jump", "severity": "warn", "rows": 9, "sample": ["{moment}"]}}]'))
        .otherwise("findings_json"),
        release_reason=pl.lit(None, pl.String),
    )
    held = pl.Series([datetime(2022, 1, 25, 3, tzinfo=UTC)])
    days = quality_days(bars, "BTC-PERP", "15m", OPEN, warned, held)
    marked = days.filter(~pl.col("status").is_in(["pass", "unjudged"]))
    assert marked.select("day", "status").rows() == [(date(2022, 1, 15), "warn"), (date(2022, 1, 25), "reject")]
    released = quality_days(bars, "BTC-PERP", "15m", OPEN, warned.with_columns(release_reason=pl.lit("seen")), held)
    assert released.filter(pl.col("day") == date(2022, 1, 25))["status"].item() == "released"


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "complete"),
        ({"status": "unjudged"}, "never judged"),
        ({"rows": 23}, "bars missing"),
        ({"status": "unjudged", "rows": 23}, "bars missing"),
        ({"status": "warn", "rows": 0}, "warning"),
        ({"status": "released"}, "rejected, then released by a person"),
        ({"status": "reject"}, "rejected"),
    ],
)
def test_a_cell_shows_the_worst_of_its_day(changes: dict[str, object], level: str) -> None:
    """Rejected beats warned, warned beats incomplete, incomplete beats unjudged and complete."""
    figure = calendar_figure(_days(1, **changes))
    assert figure is not None
    assert LEVELS[figure.data[0].z[0][0]].words == level


@pytest.mark.parametrize(
    ("count", "symbols", "rows", "columns"),
    [(90, ("A",), 3, 31), (2000, ("A",), 7, 53), (90, ("A", "B"), 2, 90), (800, ("A", "B"), 2, 27)],
)
def test_the_calendar_fits_the_page(count: int, symbols: tuple[str, ...], rows: int, columns: int) -> None:
    """One symbol has months by days or years by weeks; several have a row each, by days or by months."""
    figure = calendar_figure(_days(count, symbols))
    assert figure is not None
    assert (len(figure.data[0].y), len(figure.data[0].x)) == (rows, columns)
    cells = [level for row in figure.data[0].z for level in row if level is not None]
    assert set(cells) == {0}


def test_no_days_make_no_calendar() -> None:
    """Nothing to show is no chart."""
    assert calendar_figure(pl.DataFrame()) is None


def test_every_missing_bar_has_its_reason(tmp_path: Path, sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """What the vendor lacks, what was never asked for, and what came after the run are told apart and add up."""
    bars = sweep[1].head(96)
    ten = bars["timestamp"].to_list()[10:20]
    held = bars.filter(~pl.col("timestamp").is_in(ten))
    lake = Lake(tmp_path)
    end = datetime(2022, 1, 2, tzinfo=UTC)
    now_in_lake = bars.filter(~pl.col("timestamp").is_in(ten[2:]))
    lake.write_bars(now_in_lake, symbol="X", interval="15m", start=bars["timestamp"][0], end=end)
    ledger = Ledger(lake, confirmations=1)
    ledger.record_answer("X", "15m", ten[2], ten[5], asked_at=end + timedelta(days=1))
    absent = ledger.absences("X", "15m", bars["timestamp"][0], end)
    reasons = missing_reasons(held, bars["timestamp"], absent)
    assert reasons == {"not_fetched": 5, "vendor_empty": 3, "fetched_since": 2}
