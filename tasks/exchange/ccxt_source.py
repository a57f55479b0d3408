"""Any exchange of ccxt behind the same port. The only file of this room that knows ccxt.

ccxt throttles per process and never across them, so that its throttle is off and the shared budget takes its place, at
the rate that ccxt knows the exchange allows. Exchanges differ in what they make of the end of a range: rows outside the
window are cut off here, and what is absent inside it is judged as for any other vendor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import ccxt.async_support as ccxt
import polars as pl

from lake.schema import BARS, TIMESTAMP
from lake.timeline import LATEST_MS, interval, to_ms
from tasks.errors import (
    ConfigurationError,
    InputError,
    KlinehouseError,
    ProtocolError,
    RateLimitedError,
    TransientError,
    UnknownSymbolError,
)
from tasks.exchange.limiter import Limits
from tasks.exchange.page import Page, checked_page
from tasks.exchange.request import PAGE_BARS, Window, slots, vendor_interval
from tasks.exchange.retry import RetryPolicy
from tasks.exchange.sending import Sender
from tasks.exchange.source import BarSource, SourceSettings, shared_budget
from tasks.exchange.throttle import Throttle

#: Bars a page where ccxt does not say what the exchange serves: every exchange we looked at serves this many.
_SMALLEST_PAGE = 100
#: Requests that may go out at once; then one every `rateLimit` milliseconds, ccxt's figure for the exchange. Many count
#: by the second, so that a minute's worth at once would be refused.
_BURST = 10

#: ccxt's errors, most special first, and what cures them.
_CURES: tuple[tuple[type[Exception], type[KlinehouseError], str], ...] = (
    (ccxt.DDoSProtection, RateLimitedError, "the exchange asks for fewer requests"),
    (ccxt.NetworkError, TransientError, "the connection or the exchange failed"),
    (ccxt.BadSymbol, UnknownSymbolError, "the exchange does not list this symbol: use ccxt's spelling, as BTC/USDT"),
    (ccxt.AuthenticationError, ConfigurationError, "the exchange refuses the key: check the key and its rights"),
    (ccxt.RestrictedLocation, ConfigurationError, "the exchange does not serve this place: choose another exchange"),
    (ccxt.NotSupported, ConfigurationError, "the exchange serves no such bars: choose another exchange or interval"),
    (ccxt.BadRequest, InputError, "a parameter is wrong"),
    (ccxt.ArgumentsRequired, InputError, "a parameter is missing"),
)

#: What ccxt's own parsing raises on an answer of another shape.
_SURPRISED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


class CcxtSource:
    """Bars of one exchange.

    Args:
        exchange: ccxt's client of it.
        sender: The way to the network.

    Attributes:
        page_bars: The most bars a page holds.
    """

    def __init__(self, exchange: Any, sender: Sender) -> None:
        self._exchange = exchange
        self._sender = sender
        self.page_bars = _page_bars(exchange)

    @property
    def requests(self) -> int:
        """Requests for bars sent so far, retries included; the exchange's list of markets comes beside them."""
        return self._sender.requests

    async def fetch_page(self, symbol: str, interval_name: str, window: Window, *, now: datetime) -> Page:
        """Return the closed bars of one window; raises as `BarSource` says."""
        limit = min(slots(interval_name, window), self.page_bars)
        where = f"{self._exchange.id} {symbol} {interval_name} {window}"

        async def attempt() -> list[list[float | None]]:
            try:
                return await self._exchange.fetch_ohlcv(
                    symbol,
                    vendor_interval(interval_name),
                    since=to_ms(window.start),
                    limit=limit,
                    params={"until": to_ms(window.end) - 1},
                )
            except ccxt.BaseError as error:
                raise _cure(error, where) from None
            except _SURPRISED as error:
                raise ProtocolError(f"{where}: expected rows of bars, ccxt met {type(error).__name__}") from None

        rows = _frame(await self._sender.send(attempt, where), where)
        inside = rows.filter(pl.col("timestamp").is_between(window.start, window.end, closed="left"))
        if inside.is_empty() and rows.height >= self.page_bars:
            _check_history(rows["timestamp"], interval_name, window, now, where)
        return checked_page(inside, symbol=symbol, interval_name=interval_name, window=window, limit=limit, now=now)


@asynccontextmanager
async def open_ccxt(name: str, settings: SourceSettings) -> AsyncIterator[BarSource]:
    """Open an exchange of ccxt.

    Raises:
        ConfigurationError: ccxt knows no exchange of that name, or the exchange serves no bars.
    """
    exchange = _exchange(name, settings)
    limits = Limits(_BURST, _BURST * exchange.rateLimit / 1_000, lease_s=settings.timeout_s)
    where = settings.exchange_url or f"ccxt:{name}"
    try:
        with closing(shared_budget(settings, where, limits)) as budget:
            sender = Sender(
                Throttle(budget),
                RetryPolicy(attempts=settings.attempts),
                concurrency=settings.concurrency,
                priority=settings.priority,
            )
            yield CcxtSource(exchange, sender)
    finally:
        await exchange.close()


def _exchange(name: str, settings: SourceSettings) -> Any:
    if name not in ccxt.exchanges:
        raise ConfigurationError(f"source: expected ccxt:<exchange> with an exchange ccxt knows, found ccxt:{name}")
    exchange = getattr(ccxt, name)({"enableRateLimit": False, "timeout": int(settings.timeout_s * 1_000)})
    if not exchange.has["fetchOHLCV"]:
        raise ConfigurationError(f"source: expected an exchange that serves bars, found ccxt:{name}")
    if settings.exchange_url is not None:
        exchange.urls["api"] = _moved(exchange.urls["api"], settings.exchange_url)
    return strict(exchange)


def strict(exchange: Any) -> Any:
    """Make ccxt's client refuse rows without a time, which it would drop.

    A proxy's page of text would be walked letter by letter, hold no bar, and count as "no bars here".
    """
    parse = exchange.parse_ohlcv

    def parse_ohlcv(row: Any, market: Any = None) -> Any:
        bar = parse(row, market)
        if bar[0] is None:
            raise ccxt.BadResponse("expected a row of bars with a time")
        return bar

    exchange.parse_ohlcv = parse_ohlcv
    return exchange


def _moved(urls: Any, base: str) -> Any:
    """Return ccxt's table of addresses with every scheme and host replaced, paths kept."""
    if isinstance(urls, dict):
        return {name: _moved(url, base) for name, url in urls.items()}
    scheme, host, *_ = urlsplit(base)
    return urlunsplit((scheme, host, *urlsplit(urls)[2:]))


def _page_bars(exchange: Any) -> int:
    features = (exchange.features or {}).get("spot") or {}
    limit = (features.get("fetchOHLCV") or {}).get("limit")
    return min(int(limit or _SMALLEST_PAGE), PAGE_BARS)


def _cure(error: ccxt.BaseError, where: str) -> KlinehouseError:
    for kind, ours, advice in _CURES:
        if isinstance(error, kind):
            return ours(f"{where}: {type(error).__name__}: {advice}")
    return ProtocolError(f"{where}: {type(error).__name__}: an answer that neither ccxt nor we expect")


def _check_history(opens: pl.Series, interval_name: str, window: Window, now: datetime, where: str) -> None:
    """Tell an exchange that serves its newest bars whatever is asked (Kraken) from one that has none of a window.

    Raises:
        InputError: The answer is a full page of bars after the window, up to the newest.
    """
    grid = interval(interval_name)
    first, last = opens.min(), opens.max()
    if first >= window.end and grid.next(grid.next(last)) >= grid.closed_end(now):  # type: ignore[arg-type,operator]
        raise InputError(
            f"{where}: the exchange keeps its newest {opens.len():,} bars only, from {first:%Y-%m-%dT%H:%M} on; begin "
            "there, or choose another exchange for what is older"
        )


def _frame(rows: list[list[float | None]], where: str) -> pl.DataFrame:
    """Return rows of open in milliseconds, prices and volume as `BARS`; raises `ProtocolError` where they are none."""
    try:
        columns = list(zip(*(row[:6] for row in rows), strict=True)) if rows else [()] * 6
        times = pl.Series("timestamp", columns[0], dtype=pl.Int64)
        if times.has_nulls() or not times.is_between(0, LATEST_MS).all():
            raise ValueError("a time that no table can hold")
        values = {
            name: pl.Series(column, dtype=pl.Float64) for name, column in zip(list(BARS)[1:6], columns[1:], strict=True)
        }
    except (ValueError, TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        raise ProtocolError(f"{where}: expected rows of a time and five numbers, found others: {error}") from None
    frame = pl.DataFrame(values).with_columns(
        # A blank price is a row for quality to reject, as with the first vendor.
        pl.all().fill_null(float("nan")),
        quote_volume=pl.lit(None, pl.Float64),
    )
    return frame.insert_column(0, (times * 1_000).cast(TIMESTAMP))
