"""What to ask the vendor, as values: paths, parameters and windows. Nothing here touches a network or a clock.

A window is asked for with ``start_time`` at its first open and ``end_time`` one millisecond before its end. The vendor
does not document whether ``end_time`` is included; no bar opens in that last millisecond, so both readings select the
same bars.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime

from lake.timeline import from_ms, interval, to_ms, utc
from tasks.errors import InputError

#: The most bars the vendor serves in one page, and its most symbols in one request.
PAGE_BARS = 1_000
MAX_SYMBOLS = 50
MAX_DEPTH = 50

#: Our spelling of an interval, where the vendor's differs (theirs collides with minutes on case-folding file systems).
_VENDOR_INTERVALS = {"1mo": "1M"}
_OUR_INTERVALS = {theirs: ours for ours, theirs in _VENDOR_INTERVALS.items()}


@dataclass(frozen=True, slots=True)
class Request:
    """One GET request, without host and without key.

    Attributes:
        path: The path below the vendor's base address.
        params: Query parameters in a fixed order, so that equal requests are equal values.
    """

    path: str
    params: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.params)
        return f"{self.path}?{query}" if query else self.path


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open range of bar opens ``[start, end)``, small enough for one page."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"[{self.start:%Y-%m-%dT%H:%M}, {self.end:%Y-%m-%dT%H:%M})"


def vendor_interval(name: str) -> str:
    """Return the vendor's spelling of our interval; raises InputError for a name that is not ours."""
    return _VENDOR_INTERVALS.get(interval(name).name, name)


def our_interval(vendor_name: str) -> str:
    """Return our spelling of the vendor's interval; raises InputError for one we do not store."""
    return interval(_OUR_INTERVALS.get(vendor_name, vendor_name)).name


def plan_windows(interval_name: str, start: datetime, end: datetime, page_bars: int = PAGE_BARS) -> Iterator[Window]:
    """Yield the windows that cover ``[start, end)``, oldest first, each of at most `page_bars` bars.

    Both ends are rounded up to an open: a bar belongs to the range if it opens inside it.

    Raises:
        InputError: The range ends before it starts, or a page holds no bar.
    """
    grid = interval(interval_name)
    if utc(end) < utc(start):
        raise InputError(f"range: expected start <= end, found start {start.isoformat()} and end {end.isoformat()}")
    if page_bars < 1:
        raise InputError(f"page_bars: expected at least 1, found {page_bars}")
    opened, stop = grid.ceil(start), grid.ceil(end)
    while opened < stop:
        cut = _advance(interval_name, opened, page_bars, stop)
        yield Window(opened, cut)
        opened = cut


def _advance(interval_name: str, opened: datetime, bars: int, stop: datetime) -> datetime:
    grid = interval(interval_name)
    if grid.step is not None:
        return min(opened + bars * grid.step, stop)
    for _ in range(bars):
        if opened >= stop:
            break
        opened = grid.next(opened)
    return min(opened, stop)


def slots(interval_name: str, window: Window) -> int:
    """Return how many bars could open in the window if the market never closed."""
    grid = interval(interval_name)
    if grid.step is not None:
        return -((window.start - window.end) // grid.step)
    return sum(1 for _ in grid.opens(window.start, window.end))


def halves(interval_name: str, window: Window) -> tuple[Window, Window]:
    """Return the window cut in the middle, at an open."""
    middle = _advance(interval_name, window.start, slots(interval_name, window) // 2, window.end)
    return Window(window.start, middle), Window(middle, window.end)


def kline_request(symbol: str, interval_name: str, window: Window, *, type: str | None = None) -> Request:
    """Return the request for one window of completed bars."""
    params = [
        ("symbol", symbol),
        ("interval", vendor_interval(interval_name)),
        ("limit", str(min(slots(interval_name, window), PAGE_BARS))),
        ("start_time", str(to_ms(window.start))),
        ("end_time", str(to_ms(window.end) - 1)),
    ]
    return Request("/v1/market/kline", tuple(params + ([("type", type)] if type else [])))


def latest_request(symbols: Iterable[str], interval_name: str) -> Request:
    """Return the request for the bars still being formed. They are for display only and never reach the lake."""
    return Request(
        "/v1/market/kline/latest", (("symbols", _joined(symbols)), ("interval", vendor_interval(interval_name)))
    )


def depth_request(symbol: str, levels: int = 10) -> Request:
    """Return the request for the order book, best prices first."""
    if not 1 <= levels <= MAX_DEPTH:
        raise InputError(f"levels: expected 1..{MAX_DEPTH}, found {levels}")
    return Request("/v1/market/depth", (("symbol", symbol), ("limit", str(levels))))


def trades_request(symbol: str, limit: int = 100) -> Request:
    """Return the request for the latest trades."""
    if not 1 <= limit <= PAGE_BARS:
        raise InputError(f"limit: expected 1..{PAGE_BARS}, found {limit}")
    return Request("/v1/market/trades", (("symbol", symbol), ("limit", str(limit))))


def tickers_request(symbols: Iterable[str]) -> Request:
    """Return the request for price snapshots of at most 50 symbols."""
    return Request("/v1/market/ticker", (("symbols", _joined(symbols)),))


def symbols_request(offset: int, limit: int = PAGE_BARS, market: str | None = None) -> Request:
    """Return the request for one page of the symbol list."""
    params = [("limit", str(limit)), ("offset", str(offset))]
    return Request("/v1/symbols/available", tuple(params + ([("market", market)] if market else [])))


def intervals_request() -> Request:
    """Return the request for the intervals the vendor serves."""
    return Request("/v1/market/intervals/kline")


def trade_days_request(market: str, first: date, last: date) -> Request:
    """Return the request for a market's trading days, both ends included."""
    days = (("beg_day", f"{first:%Y%m%d}"), ("end_day", f"{last:%Y%m%d}"))
    return Request("/v1/market/trade-days", (("market", market), *days))


def trading_sessions_request(market: str) -> Request:
    """Return the request for a market's daily sessions in its local time."""
    return Request("/v1/market/trading-sessions", (("market", market),))


def request_window(request: Request) -> Window:
    """Return the window that a k-line request asks for (the inverse of `kline_request`)."""
    params = dict(request.params)
    return Window(from_ms(int(params["start_time"])), from_ms(int(params["end_time"]) + 1))


def _joined(symbols: Iterable[str]) -> str:
    names = list(symbols)
    if not 1 <= len(names) <= MAX_SYMBOLS:
        raise InputError(f"symbols: expected 1..{MAX_SYMBOLS} names, found {len(names)}")
    return ",".join(names)
