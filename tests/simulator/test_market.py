"""The market's truth: deterministic, on ticks, in session, and consistent between intervals."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks.errors import InputError
from tasks.simulator.generator import generate
from tasks.simulator.instruments import instrument, is_listed
from tasks.simulator.intervals import DAY_MS
from tasks.simulator.market import AmbiguousSymbolError, Market, generated, milliseconds, replay, us_equities

START, END = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 3, 15, tzinfo=UTC)
REAL_DATA = Path(__file__).parents[2].parent / "shared" / "data"

_DIGEST = """
import hashlib
from datetime import UTC, datetime
from tasks.simulator.market import generated
start, end = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 3, 15, tzinfo=UTC)
market = generated(seed=3, symbols=("BTCUSDT",), start=start, end=end)
bars = market.series(market.instruments[0]).bars("1m")
print(hashlib.sha256(bars.text(0, len(bars))).hexdigest())
"""


@pytest.fixture(scope="module")
def market() -> Market:
    """Two weeks of a crypto pair, a US stock, a Hong Kong stock and a future."""
    return generated(seed=3, symbols=("BTCUSDT", "ACME.US", "700.HK", "BU2609"), start=START, end=END)


def _text(market: Market, symbol: str) -> bytes:
    bars = market.series(market.find(symbol)).bars("1m")
    return bars.text(0, len(bars))


def test_same_seed_gives_the_same_bytes_in_another_process(market: Market) -> None:
    """A market is a function of its arguments, whatever process asks and whatever else is listed."""
    there = subprocess.run([sys.executable, "-c", _DIGEST], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == hashlib.sha256(_text(market, "BTCUSDT")).hexdigest()


def test_another_seed_gives_another_market(market: Market) -> None:
    """The seed matters."""
    other = generated(seed=4, symbols=("BTCUSDT",), start=START, end=END)
    assert _text(other, "BTCUSDT") != _text(market, "BTCUSDT")


@pytest.mark.parametrize("interval", ["1m", "1h", "1d", "1w"])
@pytest.mark.parametrize("symbol", ["BTCUSDT", "ACME.US", "700.HK", "BU2609"])
def test_neither_start_nor_end_changes_a_bar(symbol: str, interval: str) -> None:
    """What one process fetched, any other finds there, or a lake filled by both would hold two markets."""
    item, start, middle, end = instrument(symbol), *(milliseconds(START + timedelta(days=n)) for n in (0, 70, 71.3))
    wide, narrow = (
        generate(item, seed=3, interval=interval, start_ms=first, end_ms=last)
        for first, last in ((start, end + DAY_MS), (middle - 20 * DAY_MS, end))
    )
    assert narrow.height > 0
    assert narrow.equals(wide.filter(pl.col("time").is_between(middle - 20 * DAY_MS, end, closed="left")))
    assert wide["time"].is_sorted()
    assert wide["time"].n_unique() == wide.height


@pytest.mark.parametrize("interval", ["1m", "1h", "1d"])
def test_a_night_is_as_long_whatever_the_bars_are(interval: str) -> None:
    """A stock opens within a few per cent of its last close, also where its shortest bar is a day."""
    market = generated(symbols=("ACME.US",), interval=interval, start=START - timedelta(days=365), end=END)
    days = market.bars("ACME.US", "1d")
    gaps = np.log(days["open"].to_numpy()[1:] / days["close"].to_numpy()[:-1])
    assert 0.003 < gaps.std() < 0.015


def test_prices_go_on_where_a_month_ends() -> None:
    """Months are made one by one, and their seams show no gap that a minute has not."""
    bars = generated(symbols=("BTCUSDT",), start=START, end=START + timedelta(days=100)).bars("BTCUSDT", "1m")
    jumps = np.abs(np.diff(np.log(bars["close"].to_numpy())))
    first = (bars["timestamp"].dt.day() == 1) & (bars["timestamp"].dt.time() == time(0))
    assert jumps[np.flatnonzero(first.to_numpy())[1:] - 1].max() < np.quantile(jumps, 0.999)


def test_a_market_that_never_closes_has_every_minute(market: Market) -> None:
    """Crypto has one bar for each minute, weekends included."""
    times = market.bars("BTCUSDT", "1m")["timestamp"]
    assert len(times) == (END - START) // timedelta(minutes=1)
    assert times.diff().drop_nulls().unique().to_list() == [timedelta(minutes=1)]


def test_stocks_trade_in_their_exchanges_hours_only(market: Market) -> None:
    """A US stock has 390 minutes a day on weekdays; New York's clock change on 9 March moves them by an hour."""
    bars = market.bars("ACME.US", "1m").with_columns(day=pl.col("timestamp").dt.date())
    days = bars.group_by("day").agg(pl.len(), pl.col("timestamp").min().dt.time().alias("first")).sort("day")
    assert days["len"].unique().to_list() == [390]
    assert days["day"].dt.weekday().max() <= 5
    assert [str(first) for first in days["first"]] == ["14:30:00"] * 5 + ["13:30:00"] * 5


def test_hong_kong_rests_at_noon(market: Market) -> None:
    """No bar opens between 12:00 and 13:00 in Hong Kong."""
    local = market.bars("700.HK", "1m")["timestamp"].dt.convert_time_zone("Asia/Hong_Kong")
    assert 12 not in local.dt.hour().unique().to_list()


def test_holidays_and_half_days_are_kept() -> None:
    """Thanksgiving has no bar, the Friday after it closes at 13:00 in New York."""
    market = generated(
        symbols=("ACME.US",), start=datetime(2024, 11, 28, tzinfo=UTC), end=datetime(2024, 11, 30, tzinfo=UTC)
    )
    bars = market.bars("ACME.US", "1m")
    assert len(bars) == 210
    assert bars["timestamp"][0] == datetime(2024, 11, 29, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ACME.US", "BU2609"])
def test_generated_bars_are_sane(market: Market, symbol: str) -> None:
    """Low ≤ open, close ≤ high; positive volume; prices on ticks; volatility clusters; fat tails."""
    bars = market.bars(symbol, "1m")
    assert bars.filter((pl.col("low") > pl.min_horizontal("open", "close")) | (pl.col("low") <= 0)).is_empty()
    assert bars.filter(pl.col("high") < pl.max_horizontal("open", "close")).is_empty()
    assert bars["volume"].min() > 0
    item = market.find(symbol)
    ticks = bars["close"].to_numpy() * 10**item.price_decimals
    assert np.allclose(ticks, np.rint(ticks), atol=1e-6)
    returns = np.diff(np.log(bars["close"].to_numpy()))
    size = np.minimum(np.abs(returns), np.quantile(np.abs(returns), 0.99))  # opening gaps are not clusters
    assert np.corrcoef(size[1:], size[:-1])[0, 1] > 0.1
    assert ((returns - returns.mean()) ** 4).mean() / returns.var() ** 2 > 4


def test_volume_is_high_at_the_edges_of_a_session(market: Market) -> None:
    """A stock's first and last half hours trade more than its noon."""
    bars = market.bars("ACME.US", "1m").filter(pl.col("timestamp") > datetime(2025, 3, 10, tzinfo=UTC))
    minute = bars["timestamp"].dt.hour().cast(pl.Int32) * 60 + bars["timestamp"].dt.minute()
    first, noon, last = (bars.filter(minute.is_between(a, a + 29))["volume"].mean() for a in (810, 990, 1170))
    assert first > 1.2 * noon
    assert last > 1.2 * noon


@pytest.mark.parametrize(
    ("interval", "every"), [("5m", "5m"), ("1h", "1h"), ("1d", "1d"), ("1w", "1w"), ("1mo", "1mo")]
)
def test_longer_bars_are_built_from_shorter_ones(market: Market, interval: str, every: str) -> None:
    """Every interval equals polars' own resampling of the minutes; only complete bars exist."""
    expected = (
        market.bars("BTCUSDT", "1m")
        .group_by_dynamic("timestamp", every=every, start_by="window")
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
        .filter(pl.col("timestamp").dt.offset_by(every) <= END)
    )
    found = market.bars("BTCUSDT", interval)
    assert found["timestamp"].to_list() == expected["timestamp"].to_list()
    for name in ("open", "high", "low", "close", "volume"):
        assert np.allclose(found[name].to_numpy(), expected[name].to_numpy(), rtol=1e-12)


def test_the_clock_hides_what_has_not_closed(market: Market) -> None:
    """At 00:03:30 the bar that opened at 00:03 does not exist yet."""
    now = START + timedelta(minutes=3, seconds=30)
    early = market.at(lambda: int(now.timestamp() * 1000))
    assert early.bars("BTCUSDT", "1m")["timestamp"].to_list() == [START + timedelta(minutes=n) for n in range(3)]


def test_a_market_shut_for_the_weekend_has_had_its_friday() -> None:
    """On Saturday Friday's day is complete, on Monday its week is; before midnight UTC the day is not."""
    market = generated(symbols=("ACME.US",), start=START, end=datetime(2025, 3, 17, tzinfo=UTC))
    for now, interval, last in (
        (datetime(2025, 3, 14, 23, tzinfo=UTC), "1d", 13),
        (datetime(2025, 3, 15, 12, tzinfo=UTC), "1d", 14),
        (datetime(2025, 3, 17, tzinfo=UTC), "1w", 10),
    ):
        seen = market.at(lambda now=now: milliseconds(now)).bars("ACME.US", interval)
        assert seen["timestamp"][-1] == datetime(2025, 3, last, tzinfo=UTC)


def test_one_name_of_two_types_is_ambiguous() -> None:
    """The market does not guess between a stock and an index of the same name."""
    market = generated(symbols=("SPX:stock", "SPX:indices"), start=START, end=START + timedelta(hours=1))
    with pytest.raises(AmbiguousSymbolError, match="stock"):
        market.find("SPX")
    assert market.find("SPX", "stock").type == "stock"


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_replay_serves_a_file_value_for_value(market: Market, tmp_path: Path, suffix: str) -> None:
    """Written to Parquet or CSV and replayed, bars are what they were."""
    bars = market.bars("BTCUSDT", "1m").head(500)
    path = tmp_path / f"bars.{suffix}"
    bars.write_parquet(path) if suffix == "parquet" else bars.write_csv(path)
    again = replay({"BTCUSDT": path}, interval="1m")
    assert again.bars("BTCUSDT", "1m").equals(bars)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "EURUSD", "XAUUSD", "SPX", "AAPL.US", "700.HK", "600519.SH", "BU2609"])
def test_symbols_of_the_vendors_spelling_are_listed(symbol: str) -> None:
    """Every kind of symbol that the vendor's documentation names is one a market could have."""
    assert is_listed(symbol)


@pytest.mark.parametrize(
    "symbol", ["", "BTC", "USDT", "btcusdt", "BTC/USDT", "BTCUSTD", "AAPL", "AAPL.XX", "AAPL.US.US"]
)
def test_slips_of_the_pen_are_not_listed(symbol: str) -> None:
    """What the vendor would not know is not invented."""
    assert not is_listed(symbol)


def test_replay_refuses_a_file_without_prices(tmp_path: Path) -> None:
    """The message names the missing columns."""
    path = tmp_path / "bars.csv"
    path.write_text("timestamp,open\n2025-01-01T00:00:00,1\n")
    with pytest.raises(InputError, match=r"missing \['high', 'low', 'close', 'volume'\]"):
        replay({"X": path}, interval="1m")


def test_replay_refuses_a_bar_named_twice(tmp_path: Path) -> None:
    """Two rows of one timestamp have no truth."""
    path = tmp_path / "bars.csv"
    row = "2025-01-01T00:00:00,1,1,1,1,1\n"
    path.write_text("timestamp,open,high,low,close,volume\n" + row + row)
    with pytest.raises(InputError, match="one row for each bar"):
        replay({"X": path}, interval="1m")


def test_us_equities_are_real_daily_bars() -> None:
    """Apple opened at 118.56 on the first of March 2000."""
    bars = us_equities().bars("AAPL.US", "1d")
    assert len(bars) == 3270
    assert bars.row(0)[:2] == (datetime(2000, 3, 1, tzinfo=UTC), 118.56)


@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real bars of ../shared/data are not here")
def test_real_files_replay() -> None:
    """Every value of a real file is served, and its type is told from the symbol."""
    market = replay({"BTC-PERP": REAL_DATA / "BTC-PERP.1m.parquet"}, interval="1m")
    raw = pl.read_parquet(REAL_DATA / "BTC-PERP.1m.parquet")
    assert market.bars("BTC-PERP", "1m").select(raw.columns).equals(raw)
    assert market.find("BTC-PERP").type == "crypto"


def test_pages_are_kept_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of old pages is forgotten: for three years of minutes it was 229 MB a symbol."""
    monkeypatch.setattr("tasks.simulator.series._KEPT_BLOCKS", 1)
    market = generated(symbols=("BTCUSDT",), start=START, end=END)
    bars = market.series(market.instruments[0]).bars("1m")
    tracemalloc.start()
    try:
        size = sum(len(bars.text(first, first + 960)) for first in range(0, len(bars), 960))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < size / 2
