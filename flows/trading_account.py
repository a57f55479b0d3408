"""The account as risk sees it: what it is worth, what it lost, how much is open, how much went wrong lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from flows.trading_losses import LossStreak
from tasks.broker.port import Account, Broker
from tasks.errors import ConfigurationError
from tasks.journal.entries import Entry, Kind, Line
from tasks.journal.journal import Journal
from tasks.orders.account import Book, Limits, Market, TradingState
from tasks.orders.order import ZERO, Order, OrderRequest, Status
from tasks.orders.risk import next_state
from tasks.orders.states import Happening

_MINUTE_S = 60.0
#: What is held is valued at prices of at most this age; an order's own symbol is asked for anew.
_VALUED_S = 1.0
#: Orders refused for their rate within a minute: no strategy that is well asks so often.
_RAN_AWAY = 3


#: Orders whose signal may be asked for again after a start.
_RECENT = 1000
#: Why orders are in doubt that a process left behind: one crash is no trouble for each of them.
LEFT_BEHIND = "the process ended before an answer was on record"


def recent_orders(journal: Journal) -> deque[Order]:
    """Return the last orders of a journal that risk let pass, oldest first."""
    passed = (order for order in journal.state.orders.values() if order.status is not Status.DENIED)
    return deque(passed, maxlen=_RECENT)


def is_sending(line: Line) -> bool:
    """Return whether a line is the intent to send an order, for the first time or again."""
    intended = line.kind == Kind.EVENT and line.body().kind is Happening.SUBMIT_INTENDED
    return intended or line.kind == Kind.SEND


def is_trouble(line: Line) -> bool:
    """Return whether a line says that an order was refused, or that nobody knew what became of it."""
    body = line.body() if line.kind == Kind.EVENT else None
    unknown = body is not None and body.kind is Happening.OUTCOME_UNKNOWN and body.reason != LEFT_BEHIND
    return unknown or (body is not None and body.kind is Happening.REJECTED)


def last_minute(journal: Journal, orders: Iterable[Order], now: datetime) -> list[tuple[float, Order, Line]]:
    """Return what counts of orders within a minute: ages, orders and lines, the oldest first.

    Args:
        journal: Where their times are.
        orders: An old one may have been sent again lately.
        now: By the clock that the journal's times are of.
    """
    found: list[tuple[float, Order, Line]] = []
    for order in orders:
        young = (line for line in journal.lines(order.request.client_order_id) if _age_s(line, now) < _MINUTE_S)
        found += [(_age_s(line, now), order, line) for line in young if is_sending(line) or is_trouble(line)]
    return sorted(found, key=lambda one: -one[0])


def _age_s(line: Line, now: datetime) -> float:
    return max(now.timestamp() - line.wall_ns / 1e9, 0.0)  # from the future: the clock was set back


def check_broker(journal: Journal, name: str) -> None:
    """Refuse a journal whose orders another broker has: asked for one in doubt, this one finds nothing.

    Raises:
        ConfigurationError: It was traded elsewhere. Older journals do not say where.
    """
    last = journal.last(Kind.LIMITS)
    known = name if last is None else last.body().get("broker", name)
    if known != name:
        raise ConfigurationError(
            f"journal {journal.path.name}: expected to trade on at {name}, found that it was traded at {known}; give "
            "the account another name (KLINEHOUSE_LIVE_ACCOUNT), every broker's journal is its own"
        )


def told_limits(limits: Limits, journal: Journal, broker: Broker, operator: str) -> Entry:
    """Return the line that every start writes: the limits' hash and figures, who changed what since, and the broker."""
    values = {name: str(value) for name, value in asdict(limits).items()}
    body: dict[str, Any] = {"limits": limits.version, "values": values, "broker": broker.name}
    last = journal.last(Kind.LIMITS)
    before: dict[str, str] = values if last is None else last.body()["values"]
    changed = {name: [before.get(name), value] for name, value in values.items() if before.get(name) != value}
    return Entry(Kind.LIMITS, body=body | ({"changed": changed, "operator": operator} if changed else {}))


def is_another_day(known: date, now: datetime) -> bool:
    """Return whether a day has begun since the known one; a clock set back over midnight begins none."""
    return not 0 <= (known - now.date()).days <= 1


class Exposure:
    """What the limits are held against.

    Args:
        limits: What is allowed.
        market: What is known of a symbol right now.

    Attributes:
        equity: As the broker last said, None before it did.
        reducing: The day's loss, or too many losses in a row, leave only what closes positions; ends with the day.
    """

    def __init__(self, limits: Limits, market: Callable[[str], Market]) -> None:
        self.limits, self._market = limits, market
        self.equity: Decimal | None = None
        self.reducing = False
        self._peak, self._day, self._day_equity = ZERO, date.min, ZERO
        self._orders: deque[tuple[float, str, str]] = deque()
        self._streak = LossStreak()
        self._prices: dict[str, tuple[float, Decimal | None]] = {}
        self._troubles: deque[float] = deque()
        self._refused: deque[float] = deque(maxlen=_RAN_AWAY)

    def measure(self, account: Account, now: datetime) -> None:
        """Take over what the broker says the account is worth."""
        if is_another_day(self._day, now):
            self._day, self._day_equity, self.reducing = now.date(), account.equity, False
            self._streak.in_a_row = 0
        self.equity, self._peak = account.equity, max(self._peak, account.equity)

    def memory(self) -> dict[str, Any]:
        """Return what a restart must not forget: or a crash would forgive every loss."""
        return {
            "equity": self.equity,
            "peak": self._peak,
            "day": self._day.isoformat(),
            "day_equity": self._day_equity,
            "reducing": self.reducing,
            "losses_in_a_row": self._streak.in_a_row,
        }

    def recall(self, orders: Iterable[Order], memory: dict[str, Any] | None) -> None:
        """Take up what an earlier process knew."""
        self._streak = LossStreak(orders)
        self._streak.in_a_row = 0
        if memory is None:
            return
        self._streak.in_a_row = memory.get("losses_in_a_row", 0)  # older journals do not know it
        self._peak, self._day_equity = Decimal(memory["peak"]), Decimal(memory["day_equity"])
        self._day, self.reducing = date.fromisoformat(memory["day"]), memory["reducing"]

    def resume(self, lines: Iterable[tuple[float, Order, Line]], now_s: float) -> None:
        """Count an earlier process's requests and troubles of the last minute: a start forgives none."""
        troubled: dict[str, float] = {}
        for age_s, order, line in lines:
            if is_sending(line):
                self.ordered(order.request, now_s - age_s)
            else:
                troubled.setdefault(order.request.client_order_id, now_s - age_s)  # an order is one trouble
        for at_s in troubled.values():
            self.trouble(at_s)

    def ordered(self, request: OrderRequest, now_s: float) -> None:
        """Count an order, sent for the first time or again, towards the rate limits."""
        self._orders.append((now_s, request.symbol, request.strategy))

    def lost(self, order: Order) -> bool:
        """Count an order's fills; return whether they ended a round trip that lost."""
        return self._streak.follow(order)

    def trouble(self, now_s: float) -> None:
        """Count an order that was rejected or went into doubt."""
        self._troubles.append(now_s)

    def ran_away(self, now_s: float) -> bool:
        """Count an order that a rate limit refused; return whether it is the third within a minute."""
        self._refused.append(now_s)
        return len(self._refused) == _RAN_AWAY and now_s - self._refused[0] < _MINUTE_S

    def forgive(self) -> None:
        """Forget troubles, once a person has looked at them; the peak starts anew from what is left."""
        self._troubles.clear()
        self._refused.clear()
        self._streak.in_a_row = 0
        self._peak = self.equity or ZERO

    def called_for(self, book: Book, now_s: float) -> TradingState:
        """Return the state that losses and troubles call for."""
        while self._troubles and now_s - self._troubles[0] >= _MINUTE_S:
            self._troubles.popleft()
        return next_state(book, self.limits, troubles_last_minute=len(self._troubles))

    def book(self, state: TradingState, positions: dict[str, Decimal], orders: tuple[Order, ...], now_s: float) -> Book:
        """Return the account at this moment: everything open or in doubt counts as if it filled."""
        while self._orders and now_s - self._orders[0][0] >= _MINUTE_S:
            self._orders.popleft()
        symbols = {*positions, *(order.request.symbol for order in orders)}
        prices = {symbol: self._price(symbol, now_s) for symbol in symbols}
        return Book(
            state,
            self.equity,
            positions,
            {symbol: price for symbol, price in prices.items() if price is not None},
            orders,
            tuple(self._orders),
            ZERO if self.equity is None else self.equity - self._day_equity,
            self._peak,
            self._streak.in_a_row,
        )

    def _price(self, symbol: str, now_s: float) -> Decimal | None:
        known = self._prices.get(symbol)
        if known is None or not 0 <= now_s - known[0] < _VALUED_S:
            known = self._prices[symbol] = (now_s, self._market(symbol).reference_price)
        return known[1]
