"""The market as trading sees it: the stream's books behind the risk controls, and behind the paper broker's fills."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from time import monotonic
from typing import Any

from flows.live_account import Account, Steps
from lake.timeline import from_ms
from tasks.broker.matching import exact
from tasks.orders.account import Market
from tasks.orders.collar import PriceWindow
from tasks.strategies.book_gate import BookView
from tasks.stream.desk import Desk, Seat
from tasks.stream.messages import Depth, Ticker, Trade

#: A trade this much older than the book beside it was fetched after a gap: it fills nothing any more.
_LATE_TRADE_MS = 5_000
#: Ages are journaled; no book at all is as old as this.
_NEVER_S = Decimal(86_400)


class TradedDesk(Desk):
    """The stream's desk, with the account behind it: a paper broker sees every sound book and trade that it sees.

    Args:
        account: Whose market this is.
        real_time: Whether the market's clock runs as ours does; where not, its stamps say nothing about age or delay.
        clock: Monotonic seconds.
        period_s: How long ago the price is that orders are also held against.
        desk: What the stream's desk takes.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        *desk: Any,
        account: Account,
        real_time: bool = True,
        clock: Callable[[], float] = monotonic,
        period_s: float = 60.0,
        **more: Any,
    ) -> None:
        super().__init__(symbols, *desk, **more)
        self._paper, self._steps, self._real_time, self._clock = account.paper, account.steps, real_time, clock
        self._vendors: Mapping[str, str] = {theirs: ours for ours, theirs in account.spelling.items()}
        self._windows = {symbol: PriceWindow(period_s) for symbol in self.seats}

    def market(self, symbol: str) -> Market:
        """Return what is known now of a symbol in the broker's spelling: the middle of its book, or its last price.

        The price of a book that nobody vouches for is still told, to value what is held; it is not valid to trade on.
        """
        seat, steps = self.seats.get(self._vendors.get(symbol, "")), self._steps.get(symbol, Steps())
        if seat is None:
            return Market(None, _NEVER_S, False, steps.quantity, steps.price, steps.least)
        now = self._clock()
        quote = self.quote(seat, now)
        age_s = quote.validity.age_s
        return Market(
            _middle(quote.bid, quote.ask) if quote.validity.ok else _last(seat),
            exact(round(age_s, 3)) if math.isfinite(age_s) else _NEVER_S,
            quote.validity.ok,
            steps.quantity,
            steps.price,
            steps.least,
            steps.most,
            self._windows[seat.book.symbol].price(now),
        )

    def book_view(self, symbol: str) -> BookView:
        """Return what the book of a symbol in the broker's spelling says now, to strategies."""
        seat = self.seats.get(self._vendors.get(symbol, ""))
        if seat is None:
            return BookView(faults=("nobody streams it",))
        quote = self.quote(seat, self._clock())
        if not quote.validity.ok:
            return BookView(faults=tuple(str(fault) for fault in quote.validity.faults))
        bid, ask = (quote.bid, quote.bid_size), (quote.ask, quote.ask_size)
        return BookView.of(bid, ask, round(quote.validity.age_s, 3))

    def set_clock(self, offset_ms: float | None, round_trip_ms: float | None) -> None:
        """Take the venue's clock, unless it runs at another speed than ours."""
        super().set_clock(offset_ms if self._real_time else None, round_trip_ms)

    def take(self, symbol: str, message: Depth | Ticker, received: float) -> None:
        """Take a book, and show it to the paper broker where it is sound."""
        super().take(symbol, message, received)
        seat = self.seats.get(symbol)
        if seat is None or not isinstance(message, Depth) or seat.book.gap:
            return
        self._remember(seat)
        if self._paper is None:
            return
        if seat.book.is_sound:
            self._paper.on_book(symbol, message.bids, message.asks, from_ms(message.timestamp))

    def take_trades(self, trades: Iterable[tuple[str, Trade, float]]) -> None:
        """Take trades, and show those that are new, and not late, to the paper broker."""
        if self._paper is None:
            super().take_trades(trades)
            return
        for one in trades:
            seat = self.seats.get(one[0])
            before = seat.tape.count if seat else 0
            super().take_trades([one])
            if seat is not None and seat.tape.count > before and self._is_fresh(seat, one[1]):
                stamp = from_ms(round(min(one[1].timestamp, self._venue_ms(one[2]))))
                self._paper.on_trade(one[0], one[1].price, one[1].quantity, stamp)

    def _remember(self, seat: Seat) -> None:
        """Keep the price of a sound book, once in a while."""
        now, window = self._clock(), self._windows[seat.book.symbol]
        if window.is_due(now):
            quote = self.quote(seat, now)
            if quote.validity.ok:
                window.note(now, _middle(quote.bid, quote.ask))

    def _is_fresh(self, seat: Seat, trade: Trade) -> bool:
        book = seat.book.snapshot
        return book is not None and trade.timestamp >= book.timestamp - _LATE_TRADE_MS


def wall_clock() -> datetime:
    """Return the time now, UTC."""
    return datetime.now(UTC)


def _middle(bid: float, ask: float) -> Decimal:
    return (exact(bid) + exact(ask)) / 2


def _last(seat: Seat) -> Decimal | None:
    return exact(seat.last_price) if math.isfinite(seat.last_price) and seat.last_price > 0 else None
