"""The truth: which instruments exist, and every bar they really had.

A market knows its clock (milliseconds since the epoch, UTC); bars that the clock has not closed do not exist for
`bars`. Three kinds of market are built here: generated ones, replays of files, and real daily US equities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from tasks.errors import InputError
from tasks.simulator.generator import generate
from tasks.simulator.instruments import Instrument, instrument
from tasks.simulator.intervals import spelled
from tasks.simulator.series import PRICES, Bars, Series

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DECIMALS = {"crypto": (1, 4), "stock": (2, 0), "forex": (5, 0), "indices": (2, 0), "futures": (1, 0)}

Clock = Callable[[], int]


def milliseconds(moment: datetime) -> int:
    """Return milliseconds since the epoch.

    Raises:
        InputError: The datetime carries no time zone.
    """
    if moment.tzinfo is None:
        raise InputError(f"time: expected a time zone, found the naive {moment.isoformat()}; add tzinfo=UTC")
    return (moment - EPOCH) // timedelta(milliseconds=1)


class AmbiguousSymbolError(InputError):
    """A symbol names instruments of several types; the caller must say which."""


class Market:
    """Instruments and their bars, read-only; `at` gives the same market another clock.

    Attributes:
        instruments: Everything listed, in listing order.
        clock: Returns the market's time in milliseconds.
    """

    def __init__(self, listed: Mapping[Instrument, Series], clock: Clock | None = None) -> None:
        self._series = dict(listed)
        self.instruments = tuple(self._series)
        end = max((series.end_ms for series in self._series.values()), default=0)
        self.clock: Clock = clock or (lambda: end)

    def at(self, clock: Clock) -> Market:
        """Return this market with another clock; the bars are shared."""
        return Market(self._series, clock)

    @property
    def now(self) -> datetime:
        """The market's time."""
        return EPOCH + timedelta(milliseconds=self.clock())

    def find(self, symbol: str, kind: str | None = None) -> Instrument:
        """Return the instrument of that symbol.

        Raises:
            KeyError: Nothing of that symbol (and type) is listed.
            AmbiguousSymbolError: Several types share the symbol and `kind` is None.
        """
        found = [item for item in self.instruments if item.symbol == symbol and kind in (None, item.type)]
        if len(found) > 1:
            raise AmbiguousSymbolError(f"{symbol}: expected type out of {[item.type for item in found]}, found none")
        if not found:
            raise KeyError(symbol)
        return found[0]

    def series(self, item: Instrument) -> Series:
        """Return the bars of an instrument at every interval."""
        return self._series[item]

    def closed(self, item: Instrument, interval: str) -> tuple[Bars, int]:
        """Return the bars of an interval and how many of them are complete by the market's clock."""
        bars = self.series(item).bars(interval)
        return bars, bars.closed(min(self.clock(), self.series(item).end_ms))

    def bars(
        self,
        symbol: str,
        interval: str,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        kind: str | None = None,
    ) -> pl.DataFrame:
        """Return the true closed bars with opens in ``[start, end)``.

        Columns ``timestamp`` (microseconds, UTC), ``open, high, low, close, volume, quote_volume``; `quote_volume` is
        null where the instrument has none. ``interval`` is spelled as anywhere in the house (``1mo``).
        """
        bars, closed = self.closed(self.find(symbol, kind), spelled(interval))
        first = bars.position(milliseconds(start)) if start else 0
        stop = min(bars.position(milliseconds(end)), closed) if end else closed
        frame = bars.frame.slice(first, max(stop - first, 0))
        if "quote_volume" not in frame.columns:
            frame = frame.with_columns(quote_volume=pl.lit(None, pl.Float64))
        stamp = pl.from_epoch("time", time_unit="ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return frame.select(stamp.alias("timestamp"), *PRICES, "volume", "quote_volume")


def generated(
    *,
    seed: int = 7,
    symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"),
    interval: str = "1m",
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC),
    end: datetime = datetime(2025, 4, 1, tzinfo=UTC),
) -> Market:
    """Return a seeded market: the same seed, symbol and interval have the same bars at the same time, in every process.

    Args:
        seed: Anything; each symbol draws its own stream from it.
        symbols: The vendor's spelling. ``.US``, ``.HK``, ``.SH`` and ``.SZ`` symbols keep their exchange's sessions
            and holidays, all others never close. ``NAME:type`` lists an instrument of a type its name does not tell;
            the same name with two types makes it ambiguous.
        interval: The shortest interval that exists; longer ones are built from it.
        start: The first instant.
        end: The exclusive last instant; also the market's clock until it is given another.
    """
    base, start_ms, end_ms = spelled(interval), milliseconds(start), milliseconds(end)
    listed = {}
    for name in symbols:
        price_decimals, lot_decimals = _DECIMALS[instrument(name).type]
        item = instrument(name, price_decimals=price_decimals, lot_decimals=lot_decimals)
        frame = generate(item, seed=seed, interval=base, start_ms=start_ms, end_ms=end_ms)
        listed[item] = Series(frame, base, end_ms)
    return Market(listed, lambda: end_ms)


def replay(files: Mapping[str, Path | str], *, interval: str) -> Market:
    """Return a market that replays Parquet or CSV files of bars, value for value.

    Args:
        files: A file for each symbol, with the columns ``timestamp`` (the bar's open) or ``time`` (milliseconds),
            ``open, high, low, close, volume`` and, if it has one, ``quote_volume``.
        interval: The length of the bars in the files.

    Raises:
        InputError: A file lacks a column, holds no bars, or names a bar twice.
    """
    base = spelled(interval)
    listed = {}
    for name, path in files.items():
        frame = _read(Path(path))
        item = instrument(name, price_decimals=_digits(frame["close"]), lot_decimals=_digits(frame["volume"]))
        listed[item] = Series(frame, base)
    return Market(listed)


def us_equities(symbols: Iterable[str] = ("AAPL", "GOOG", "IBM", "MSFT")) -> Market:
    """Return real daily bars of US equities, 2000-03-01 to 2013-03-01, from the `bokeh-sampledata` package."""
    # Imported here: the module decodes its files on import.
    from bokeh_sampledata import stocks

    listed = {}
    for symbol in symbols:
        columns = getattr(stocks, symbol)
        frame = pl.DataFrame({name: columns[name] for name in ("date", *PRICES, "volume")})
        frame = _normalised(frame.with_columns(timestamp=pl.col("date").str.to_date()).drop("date"), symbol)
        listed[instrument(f"{symbol}.US")] = Series(frame, "1d")
    return Market(listed)


def _read(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return _normalised(pl.read_parquet(path), path.name)
    if path.suffix == ".csv":
        return _normalised(pl.read_csv(path, try_parse_dates=True), path.name)
    raise InputError(f"replay {path.name}: expected a .parquet or .csv file, found {path.suffix or 'no suffix'}")


def _normalised(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the frame with `time` in milliseconds and floats, sorted."""
    if "timestamp" in frame.columns:
        stamp = pl.col("timestamp").cast(pl.Datetime("ms"))
        frame = frame.with_columns(time=stamp.dt.epoch("ms"))
    wanted = ["time", *PRICES, "volume"]
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        raise InputError(f"replay {name}: expected the columns {wanted}, missing {missing}, found {frame.columns}")
    extra = [column for column in ("quote_volume", "open_interest") if column in frame.columns]
    floats = [pl.col(column).cast(pl.Float64) for column in [*PRICES, "volume", *extra]]
    frame = frame.select(pl.col("time").cast(pl.Int64), *floats).sort("time")
    if frame.is_empty() or frame["time"].n_unique() != len(frame):
        raise InputError(f"replay {name}: expected one row for each bar and at least one, found {len(frame)} rows")
    return frame


def _digits(values: pl.Series) -> int:
    """Return how many digits after the point the shortest form of the values needs, at most 9."""
    text = values.drop_nulls().unique().cast(pl.String).str.strip_suffix(".0")
    longest = text.filter(~text.str.contains("e")).str.extract(r"\.(\d+)$").str.len_chars().max()
    return min(int(longest or 0), 9)  # type: ignore[arg-type]
