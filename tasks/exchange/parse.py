"""The vendor's JSON, decoded into typed values and polars frames. Pure.

Prices and volumes arrive as strings; msgspec reads them as floats while it decodes, correctly rounded and without a
detour over Python strings (0.7 ms for a page of 1,000 bars; `json` and pandas need 13). Full pages of bars that are all
written alike go through `rows` (0.3 ms); what it leaves, and every error, is msgspec's to tell.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time
from operator import attrgetter
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import polars as pl

from lake.schema import TIMESTAMP
from lake.timeline import LATEST_MS, from_ms
from tasks.errors import ProtocolError, TransientError
from tasks.exchange.codes import SUCCESS, error_for
from tasks.exchange.page import Page, checked_page
from tasks.exchange.request import Window, vendor_interval

#: Milliseconds since 1970, up to the year 9999: what a table and a `datetime` can hold.
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=LATEST_MS)]


class Kline(msgspec.Struct, gc=False):
    """A bar as the vendor spells it; `time` is its open in milliseconds."""

    time: Milliseconds
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None = None


class Klines(msgspec.Struct, gc=False):
    """One symbol's bars."""

    symbol: str
    interval: str
    klines: list[Kline]
    type: str | None = None


class Product(msgspec.Struct, frozen=True):
    """A tradable instrument."""

    symbol: str
    name: str = ""
    market: str = ""
    type: str = ""
    currency: str = ""
    is_active: bool = True


class Pagination(msgspec.Struct):
    """Where a page of the symbol list lies."""

    limit: int
    offset: int
    total: int
    count: int


class Products(msgspec.Struct):
    """A page of the symbol list."""

    products: list[Product]
    pagination: Pagination


class Depth(msgspec.Struct, frozen=True):
    """An order book; levels are ``(price, size)``, best first."""

    symbol: str
    timestamp: Milliseconds
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]


class Trade(msgspec.Struct, frozen=True):
    """One trade of the market; `side` is buy, sell or neutral."""

    id: str
    price: float
    quantity: float
    side: str
    timestamp: Milliseconds


class Trades(msgspec.Struct):
    """A symbol's latest trades."""

    symbol: str
    trades: list[Trade]


class Ticker(msgspec.Struct, frozen=True):
    """A price snapshot. Prices the vendor leaves out are None."""

    symbol: str
    timestamp: Milliseconds
    last_price: float | None = None
    bid_price: float | None = None
    ask_price: float | None = None
    volume_24h: float | None = None


class Intervals(msgspec.Struct):
    """The intervals the vendor serves, in its spelling."""

    intervals: list[str]


class TradeDays(msgspec.Struct):
    """A market's trading days as YYYYMMDD; half days are listed apart."""

    market: str
    trade_days: list[str]
    half_trade_days: list[str] = []

    def days(self) -> list[date]:
        """Return every day with trading, half days included, in order; raises `ProtocolError` where one is none."""
        return sorted({_day(text) for text in (*self.trade_days, *self.half_trade_days)})

    def half_days(self) -> list[date]:
        """Return the half days, in order."""
        return sorted(_day(text) for text in self.half_trade_days)


class Session(msgspec.Struct, frozen=True):
    """A daily session in the market's local time; `trade_session` is 0 for the regular one."""

    begin_time: int
    end_time: int
    trade_session: int = 0

    def begins(self) -> time:
        """Return the local time at which the session begins (``930`` is 09:30)."""
        return _time_of_day(self.begin_time)

    def ends(self) -> time:
        """Return the local time at which the session ends; midnight is ``2400``."""
        return _time_of_day(0 if self.end_time == 2400 else self.end_time)


class Sessions(msgspec.Struct):
    """The sessions of one market."""

    market: str
    trading_sessions: list[Session]


class _Head(msgspec.Struct):
    code: int
    message: str = ""


class _Envelope(msgspec.Struct):
    data: msgspec.Raw
    code: int
    message: str = ""


class _KlineEnvelope(msgspec.Struct):
    data: Klines
    code: int
    message: str = ""


#: What msgspec raises on bytes that are no JSON, no UTF-8, nested too deeply, or of another shape.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FIELDS = Kline.__struct_fields__
#: Answers from this length on, some 200 bars, are worth a compiled reader.
_LARGE = 1 << 15
T = TypeVar("T")
_HEAD = msgspec.json.Decoder(_Head)
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_KLINES = msgspec.json.Decoder(_KlineEnvelope, strict=False)
_PRICES = ("open", "high", "low", "close", "volume")
_BAR_PATH = re.compile(r"\$\.data\.klines\[(\d+)\]\.(\w+)")


def parse_klines(body: bytes, *, symbol: str, interval_name: str, window: Window, limit: int, now: datetime) -> Page:
    """Return the page of closed bars in an answer to a k-line request.

    Raises:
        TransientError: The body ends early.
        ProtocolError: The body breaks the published protocol, or holds other bars than were asked for.
        KlinehouseError: What the vendor's code means (`tasks.exchange.codes`).
    """
    where = f"{symbol} {interval_name} {window}"
    data, columns = _read(body, where)
    if data.symbol != symbol or data.interval != vendor_interval(interval_name):
        raise ProtocolError(f"{where}: found the bars of {data.symbol} {data.interval}, which nobody asked for")
    return checked_page(
        _frame(columns),
        symbol=symbol,
        interval_name=interval_name,
        window=window,
        limit=limit,
        now=now,
        size_bytes=len(body),
    )


def parse_data(body: bytes, kind: type[T], *, where: str) -> T:
    """Return the `data` of an answer as `kind`; raises as `parse_klines` does."""
    try:
        envelope = _ENVELOPE.decode(body)
        if envelope.code == SUCCESS:
            return msgspec.json.decode(envelope.data, type=kind, strict=False)
    except _UNREADABLE as error:
        raise _broken(body, error, where) from None
    raise error_for(envelope.code, envelope.message, where=where)


def parse_head(body: bytes) -> tuple[int, str] | None:
    """Return the code and message of an answer, None where the body is not the vendor's."""
    try:
        head = _HEAD.decode(body)
    except _UNREADABLE:
        return None
    return head.code, head.message


def _decode_klines(body: bytes, where: str) -> Klines:
    try:
        envelope = _KLINES.decode(body)
    except msgspec.ValidationError as error:
        envelope = _with_blanks(body, error, where)
    except _UNREADABLE as error:
        raise _broken(body, error, where) from None
    if envelope.code != SUCCESS:
        raise error_for(envelope.code, envelope.message, where=where)
    return envelope.data


def _broken(body: bytes, error: Exception, where: str) -> Exception:
    """Return what a body that does not decode means: an error answer, a cut body, or a breach of the protocol."""
    head = parse_head(body)
    if head is not None and head[0] != SUCCESS:
        return error_for(*head, where=where)
    if not isinstance(error, msgspec.ValidationError | RecursionError):
        return TransientError(f"{where}: the body of {len(body)} bytes is not whole JSON ({error}); asked again")
    return ProtocolError(f"{where}: {_name_bar(body, str(error))}; the vendor's format differs from its documentation")


def _with_blanks(body: bytes, error: msgspec.ValidationError, where: str) -> _KlineEnvelope:
    """Decode a page in which bars have blank values: null or "" becomes NaN, a row for quality to reject.

    One blank bar must not cost the others of its page. Any other text that is no number is a breach of the protocol.
    """
    if _BAR_PATH.search(str(error)) is None:
        raise _broken(body, error, where)
    try:
        document = msgspec.json.decode(body)
        for row in _rows(document):
            row.update({name: math.nan for name in _PRICES if row.get(name, "") in (None, "")})
        return msgspec.convert(document, _KlineEnvelope, strict=False)
    except _UNREADABLE as worse:
        raise _broken(body, worse, where) from None


def _rows(document: Any) -> list[dict[str, Any]]:
    """Return the bars of an untyped page, none where it has another shape: what is wrong is for the types to say."""
    data = document.get("data") if isinstance(document, dict) else None
    rows = data.get("klines") if isinstance(data, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _name_bar(body: bytes, complaint: str) -> str:
    """Return msgspec's complaint with the bar's own time and text beside its position in the list."""
    found = _BAR_PATH.search(complaint)
    if found is None:
        return complaint
    try:
        row = msgspec.json.decode(body)["data"]["klines"][int(found.group(1))]
        opened, field = row.get("time"), found.group(2)
        when = from_ms(opened).isoformat() if isinstance(opened, int) else f"time {opened!r}"
    except (*_UNREADABLE, LookupError, TypeError, AttributeError, ValueError, OverflowError):
        return complaint  # the page is broken in more than one way: the first complaint stands as it is
    return f"bar {when}, field {field}: found {str(row.get(field))[:80]!r}: {complaint}"


def _read(body: bytes, where: str) -> tuple[Klines, dict[str, Any]]:
    """Return what an answer holds, and the values of its bars under each field's name."""
    quick = read_quickly(body) if len(body) >= _LARGE else None
    if quick is not None:
        return quick
    data = _decode_klines(body, where)
    return data, {name: list(map(attrgetter(name), data.klines)) for name in _FIELDS}


def read_quickly(body: bytes) -> tuple[Klines, dict[str, Any]] | None:
    """Return the answer, its bars in columns only, where all are written alike and in order; None for any other."""
    from tasks.exchange.rows import read_alike  # numba takes half a second to load, small answers do without

    alike = read_alike(body, integer="time")
    try:
        if alike is None:
            return None
        first = msgspec.json.decode(alike.first, type=Kline, strict=False)
        envelope = _KLINES.decode(alike.envelope)
    except _UNREADABLE:
        return None
    times = alike.columns["time"]
    absent = {name: [None] * len(times) for name in _FIELDS if name not in alike.columns}
    if envelope.code != SUCCESS or times.max() > LATEST_MS or any(getattr(first, name) is not None for name in absent):
        return None
    return envelope.data, absent | alike.columns


def _frame(columns: dict[str, Any]) -> pl.DataFrame:
    times = pl.Series("timestamp", np.asarray(columns["time"], np.int64) * 1_000).cast(TIMESTAMP)
    return pl.DataFrame([times, *(pl.Series(name, columns[name], dtype=pl.Float64) for name in _FIELDS[1:])])


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise ProtocolError(f"trade days: expected days as YYYYMMDD, found {text[:20]!r}") from None


def _time_of_day(figure: int) -> time:
    try:
        return time(*divmod(figure, 100))
    except (ValueError, OverflowError):
        raise ProtocolError(f"trading sessions: expected a time as HHMM, found {str(figure)[:20]}") from None
