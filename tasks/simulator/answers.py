"""The vendor's REST endpoints as plain functions: a query in, the bytes of a body out, no socket anywhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from tasks.errors import InputError
from tasks.simulator import sessions
from tasks.simulator.faults import Faults
from tasks.simulator.instruments import MARKETS, TYPES, Instrument
from tasks.simulator.intervals import INTERVALS
from tasks.simulator.market import AmbiguousSymbolError, Market
from tasks.simulator.pages import Pages
from tasks.simulator.plans import Plan
from tasks.simulator.quotes import Quotes
from tasks.simulator.refusals import Refusal, envelope

MAX_PAGE = 1_000
MAX_SYMBOLS = 50
MAX_DEPTH = 50

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the vendor does not document, so that a client can be tried against every reading.

    Attributes:
        end_included: Whether a bar that opens at ``end_time`` belongs to the page.
        newest_kept: Whether a too-long range keeps its newest bars instead of its oldest.
        descending: Whether a page runs from new to old.
        refused_in_band: Codes with which a WebSocket is refused by a frame after the handshake; all others are
            refused by the HTTP status of the handshake.
    """

    end_included: bool = False
    newest_kept: bool = False
    descending: bool = False
    refused_in_band: frozenset[int] = frozenset({3003})


class Answers:
    """Answers requests for market data.

    Attributes:
        faults: What goes wrong with bars; may be replaced at any time.
        dialect: How the undocumented is done; may be replaced at any time.
    """

    def __init__(self, market: Market, *, seed: int = 0) -> None:
        self.market = market
        self.quotes = Quotes(market, seed)
        self.pages = Pages()
        self.faults = Faults()
        self.dialect = Dialect()
        self._routes = {
            "/v1/market/kline": self._klines,
            "/v1/market/kline/latest": self._latest,
            "/v1/market/depth": self._depth,
            "/v1/market/trades": self._trades,
            "/v1/market/ticker": self._ticker,
            "/v1/symbols/available": self._symbols,
            "/v1/market/intervals/kline": self._intervals,
            "/v1/market/trade-days": self._trade_days,
            "/v1/market/trading-sessions": self._trading_sessions,
        }

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path answered here."""
        return tuple(self._routes)

    def answer(self, path: str, query: Query, plan: Plan) -> bytes:
        """Return the body of a successful answer.

        Raises:
            Refusal: The request is answered with an error code.
        """
        return self._routes[path](query, plan)

    def instrument(self, symbol: str, kind: str | None) -> Instrument:
        """Return the instrument asked for.

        Raises:
            Refusal: Code 2002 for a symbol not listed, 2001 with AMBIGUOUS_SYMBOL where the type is needed.
        """
        try:
            return self.market.find(symbol, kind)
        except AmbiguousSymbolError:
            kinds = [item.type for item in self.market.instruments if item.symbol == symbol]
            detail = f"AMBIGUOUS_SYMBOL {symbol}, pass type as one of {', '.join(kinds)}"
            raise Refusal(2001, detail, data={"error": "AMBIGUOUS_SYMBOL", "types": kinds}) from None
        except KeyError:
            raise Refusal(2002, symbol) from None

    def _klines(self, query: Query, plan: Plan) -> bytes:
        item = self.instrument(_text(query, "symbol"), _choice(query, "type", TYPES))
        interval, limit = _interval(query), _limit(query, 100, MAX_PAGE)
        start, end = _integer(query, "start_time"), _integer(query, "end_time")
        if start is not None and end is not None and start > end:
            raise Refusal(2003, f"start_time {start} is after end_time {end}")
        oldest = plan.oldest_ms(self.market.clock())
        if oldest is not None and (plan.history_days == 0 or (start is not None and start < oldest)):
            raise Refusal(1004, f"{plan.name} plan: history of {plan.history_days} days")
        try:
            bars, closed = self.market.closed(item, interval)
        except InputError as error:
            raise Refusal(2001, str(error)) from None
        first = bars.position(max(start or 0, oldest or 0))
        stop = closed if end is None else min(closed, bars.position(end + self.dialect.end_included))
        if start is None or self.dialect.newest_kept:
            first = max(first, stop - limit)
        stop = max(first, min(stop, first + limit))
        forming = self._forming(item, interval, start, end) if stop == closed else None
        target = f"{item.symbol} {interval} [{first}, {stop})"
        text = self.pages.cut(self.faults, item, bars, first, stop, forming=forming, target=target)
        if self.dialect.descending:
            text = json.dumps(json.loads(b"[%b]" % text)[::-1], separators=(",", ":")).encode()[1:-1]
        head = f'"symbol":{json.dumps(item.symbol)},"type":"{item.type}","interval":"{interval}"'
        return b'{"code":0,"message":"success","data":{%b,"klines":[%b]}}' % (head.encode(), text)

    def _forming(self, item: Instrument, interval: str, start: int | None, end: int | None) -> str | None:
        if not self.faults.forming_p:
            return None
        bar = self.quotes.forming(item, interval)
        inside = (start is None or bar["time"] >= start) and (end is None or bar["time"] <= end)
        return json.dumps(bar, separators=(",", ":")) if inside else None

    def _latest(self, query: Query, plan: Plan) -> bytes:
        interval = _interval(query)
        data = [
            {
                "symbol": item.symbol,
                "type": item.type,
                "interval": interval,
                "klines": [self.quotes.forming(item, interval)],
            }
            for item in self._several(query)
        ]
        return envelope(data)

    def _depth(self, query: Query, plan: Plan) -> bytes:
        item = self.instrument(_text(query, "symbol"), _choice(query, "type", TYPES))
        book = self.quotes.depth(item, _limit(query, 10, MAX_DEPTH))
        return envelope({"symbol": item.symbol, "type": item.type, **book})

    def _trades(self, query: Query, plan: Plan) -> bytes:
        item = self.instrument(_text(query, "symbol"), _choice(query, "type", TYPES))
        trades = self.quotes.trades(item, _limit(query, 100, MAX_PAGE))
        return envelope({"symbol": item.symbol, "type": item.type, "trades": trades})

    def _ticker(self, query: Query, plan: Plan) -> bytes:
        return envelope([self.quotes.ticker(item) for item in self._several(query)])

    def _several(self, query: Query) -> list[Instrument]:
        symbols = [symbol for symbol in _text(query, "symbols").split(",") if symbol]
        if len(symbols) > MAX_SYMBOLS:
            raise Refusal(2004, f"{len(symbols)} symbols, at most {MAX_SYMBOLS}")
        kind = _choice(query, "type", TYPES)
        return [self.instrument(symbol, kind) for symbol in symbols]

    def _symbols(self, query: Query, plan: Plan) -> bytes:
        kind, place = _choice(query, "type", TYPES), _choice(query, "market", MARKETS)
        limit, offset = _limit(query, 100, MAX_PAGE), _integer(query, "offset") or 0
        listed = [
            item for item in self.market.instruments if kind in (None, item.type) and place in (None, item.market)
        ]
        page = listed[offset : offset + limit]
        stamp = self.market.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        everything = self.market.instruments
        summary = {
            "total_products": len(everything),
            "by_market": Counter(item.market for item in everything),
            "by_type": Counter(item.type for item in everything),
            "last_updated": stamp,
        }
        pagination = {"limit": limit, "offset": offset, "total": len(listed), "count": len(page)}
        products = [_product(item, stamp) for item in page]
        return envelope({"products": products, "summary": summary, "pagination": pagination})

    def _intervals(self, query: Query, plan: Plan) -> bytes:
        words = "Supported K-line time intervals for historical data queries"
        return envelope({"count": len(INTERVALS), "description": words, "intervals": INTERVALS})

    def _trade_days(self, query: Query, plan: Plan) -> bytes:
        place = _required_choice(query, "market", MARKETS[1:])
        first, last = _day(query, "beg_day"), _day(query, "end_day")
        if first > last:
            raise Refusal(2003, f"beg_day {first} is after end_day {last}")
        full, half = sessions.trade_days(place, first, last)
        days = {"trade_days": full, "half_trade_days": half}
        return envelope({"market": place} | {name: [f"{day:%Y%m%d}" for day in group] for name, group in days.items()})

    def _trading_sessions(self, query: Query, plan: Plan) -> bytes:
        place = _required_choice(query, "market", MARKETS[1:])
        return envelope([{"market": place, "trading_sessions": sessions.TRADING_SESSIONS[place]}])


def _product(item: Instrument, stamp: str) -> dict[str, Any]:
    return {
        "symbol": item.symbol,
        "name": item.symbol,
        "market": item.market,
        "type": item.type,
        "currency": item.currency,
        "is_active": True,
        "updated_at": stamp,
    }


def _text(query: Query, name: str) -> str:
    value = query.get(name, "")
    if not value:
        raise Refusal(2001, f"{name} is required")
    return value


def _choice(query: Query, name: str, choices: tuple[str, ...]) -> str | None:
    value = query.get(name) or None
    if value is not None and value not in choices:
        raise Refusal(2001, f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


def _required_choice(query: Query, name: str, choices: tuple[str, ...]) -> str:
    _text(query, name)
    return _choice(query, name, choices) or choices[0]


def _interval(query: Query) -> str:
    _text(query, "interval")
    return _choice(query, "interval", INTERVALS) or ""


def _integer(query: Query, name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not value.isdecimal() or len(value) > 15:
        raise Refusal(2001, f"{name} must be a whole number, not {value!r}")
    return int(value)


def _limit(query: Query, default: int, most: int) -> int:
    limit = _integer(query, "limit")
    if limit is None:
        return default
    if limit < 1:
        raise Refusal(2001, f"limit must be at least 1, not {limit}")
    if limit > most:
        raise Refusal(2004, f"limit {limit}, at most {most}")
    return limit


def _day(query: Query, name: str) -> date:
    value = _text(query, name)
    try:
        return datetime.strptime(value, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise Refusal(2001, f"{name} must be YYYYMMDD, not {value!r}") from None
