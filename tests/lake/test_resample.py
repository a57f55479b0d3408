"""Longer bars are made only from what is complete and closed, and follow corrections."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.resample import aggregate, resample
from lake.revisions import revisions
from lake.store import Lake
from tasks.errors import InputError

START = datetime(2024, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
Maker = Callable[..., pl.DataFrame]
SHARED = Path(__file__).parents[3] / "shared/data"


def write(lake: Lake, bars: pl.DataFrame, start: datetime = START) -> None:
    """Write one-minute bars."""
    lake.write_bars(bars, symbol="BTCUSDT", interval="1m", start=start, end=start + timedelta(days=99))


def test_hours_from_minutes(lake: Lake, make_bars: Maker) -> None:
    """Each hour has the first open, the extremes, the last close and the summed volume of its minutes."""
    bars = make_bars(180, START)
    write(lake, bars)
    receipt = resample(lake, "BTCUSDT", "1m", "1h", START, START + 3 * HOUR)
    assert receipt.rows_new == 3
    for number, hour in enumerate(lake.read_bars("BTCUSDT", "1h").iter_rows(named=True)):
        part = bars.slice(60 * number, 60)
        assert hour == {
            "timestamp": START + number * HOUR,
            "open": part["open"][0],
            "high": part["high"].max(),
            "low": part["low"].min(),
            "close": part["close"][-1],
            "volume": part["volume"].sum(),
            "quote_volume": None,
        }
    assert not resample(lake, "BTCUSDT", "1m", "1h", START, START + 3 * HOUR).changed


def test_an_incomplete_hour_waits(lake: Lake, make_bars: Maker) -> None:
    """An hour with an unexplained hole is not made; once the hole is confirmed empty or healed, it is."""
    bars = make_bars(180, START)
    write(lake, bars.filter(~pl.int_range(pl.len()).is_in([70, 130])))
    hours = (START, START + 3 * HOUR)
    resample(lake, "BTCUSDT", "1m", "1h", *hours)
    assert lake.read_bars("BTCUSDT", "1h")["timestamp"].to_list() == [START]
    write(lake, bars.slice(70, 1))
    ledger = Ledger(lake)
    for _ in range(2):
        ledger.record_answer("BTCUSDT", "1m", START + 2 * HOUR, START + 3 * HOUR, asked_at=lake.now())
    resample(lake, "BTCUSDT", "1m", "1h", *hours)
    assert lake.read_bars("BTCUSDT", "1h").height == 3


def test_the_hour_that_has_not_closed_waits(root: Path, make_bars: Maker) -> None:
    """Half an hour of minutes makes no hour, whatever range is asked for."""
    lake = Lake(root, clock=lambda: START + timedelta(minutes=90, seconds=20))
    write(lake, make_bars(90, START))
    resample(lake, "BTCUSDT", "1m", "1h", START, START + timedelta(days=1))
    assert lake.read_bars("BTCUSDT", "1h")["timestamp"].to_list() == [START]


def test_a_correction_is_carried_through(lake: Lake, make_bars: Maker) -> None:
    """A corrected minute corrects the hour, and the hour's old value is recorded too."""
    bars = make_bars(60, START)
    write(lake, bars)
    resample(lake, "BTCUSDT", "1m", "1h", START, START + HOUR)
    write(lake, bars.slice(59, 1).with_columns(close=1.25))
    resample(lake, "BTCUSDT", "1m", "1h", START, START + HOUR)
    assert revisions(lake, "1h").select("column", "old", "new").rows() == [("close", bars["close"][59], 1.25)]


def test_a_trading_day_is_one_bar(lake: Lake, make_bars: Maker) -> None:
    """A session that begins on the evening before belongs to its trading day, which opens at that day's midnight."""
    days = [date(2024, 1, day) for day in (2, 3, 4)]
    calendar = TradingCalendar.from_sessions(days, [], [(time(22), time(20))], "UTC")
    opens = calendar.expected_opens("1m", START - timedelta(hours=2), START + timedelta(days=2, hours=20))
    bars = make_bars(len(opens), START).with_columns(opens)
    write(lake, bars, START - timedelta(days=1))
    resample(lake, "BTCUSDT", "1m", "1d", START, START + timedelta(days=3), calendar=calendar)
    found = lake.read_bars("BTCUSDT", "1d")
    assert found["timestamp"].to_list() == [START + timedelta(days=day) for day in range(3)]
    assert found["volume"].to_list() == [bars["volume"].slice(1320 * day, 1320).sum() for day in range(3)]


def test_weeks_from_trading_days(lake: Lake, make_bars: Maker) -> None:
    """Four trading days of a week with a holiday make one whole week; a week with a day missing makes none."""
    calendar = TradingCalendar.from_exchange("XNYS")
    weeks = (datetime(2024, 7, 1, tzinfo=UTC), datetime(2024, 7, 15, tzinfo=UTC))
    days = calendar.expected_opens("1d", *weeks)
    bars = make_bars(len(days), START).with_columns(days).head(8)
    lake.write_bars(bars, symbol="A.US", interval="1d", start=weeks[0], end=weeks[1])
    resample(lake, "A.US", "1d", "1w", *weeks, calendar=calendar)
    assert lake.read_bars("A.US", "1w", columns=["timestamp", "volume"]).rows() == [
        (weeks[0], bars["volume"].head(4).sum())
    ]


@pytest.mark.parametrize("target", ["3m", "1h", "1d", "1w"])
def test_real_minutes_join_in_any_order_of_steps(target: str) -> None:
    """A month of real minutes joined at once equals the same joined over an interval between."""
    path = SHARED / "BTC-PERP.1m.parquet"
    if not path.exists():
        pytest.skip("shared data is not beside the project")
    bars = pl.read_parquet(path).with_columns(quote_volume=pl.lit(None, pl.Float64))
    between = {"3m": "1m", "1h": "15m", "1d": "1h", "1w": "1d"}[target]
    direct, stepwise = aggregate(bars, target), aggregate(aggregate(bars, between), target)
    assert direct.drop("volume").equals(stepwise.drop("volume"))
    assert direct["volume"].to_list() == pytest.approx(stepwise["volume"].to_list(), rel=1e-12)


@pytest.mark.parametrize(("source", "target"), [("1h", "1m"), ("1d", "1d"), ("3m", "5m"), ("1w", "1mo"), ("1mo", "1w")])
def test_a_source_must_divide(lake: Lake, source: str, target: str) -> None:
    """Intervals that do not fit into each other are refused."""
    with pytest.raises(InputError, match="divides"):
        resample(lake, "BTCUSDT", source, target, START, START + timedelta(days=60))
