"""The state that lines make: orders, positions, and which signals and trades are spoken for. Pure; one fold for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct

from tasks.errors import InputError
from tasks.journal.entries import Entry, Kind, Line
from tasks.orders.lifecycle import Applied, Event, apply
from tasks.orders.order import ZERO, Fill, Order, OrderRequest
from tasks.orders.position import effect

_K = TypeVar("_K")
_V = TypeVar("_V")


class Change(Struct, frozen=True):
    """What one entry did to the state.

    Attributes:
        applied: What it did to its order; None for an entry that explains and changes nothing.
        request: The order that was created, for a creation.
    """

    applied: Applied | None = None
    request: OrderRequest | None = None


class Money(NamedTuple):
    """What an account's fills did to its cash after fees, and the fees: quote asset, and those in others by asset."""

    cash: Decimal = ZERO
    fees: Decimal = ZERO
    elsewhere: Mapping[str, Decimal] = MappingProxyType({})

    def elsewhere_after(self, sign: int, fills: Iterable[Fill]) -> Mapping[str, Decimal]:
        """Return the fees in other assets with those of more fills added, or taken off again."""
        elsewhere = self.elsewhere
        for fill in fills:
            for asset, fee in fill.other_fees or ():
                elsewhere = {**elsewhere, asset: elsewhere.get(asset, ZERO) + sign * fee}
        return elsewhere


@dataclass
class State:
    """Every order ever written down, and what follows from them.

    Attributes:
        orders: By client order id.
        positions: Signed quantity by account and symbol: the sum of fills less the fees taken in kind, nothing else.
        signals: Signal key to the one order it became.
        trades: Every trade ever counted, with its order. Kept for ever: a window would forget its own replay.
        money: By account.
    """

    orders: dict[str, Order] = field(default_factory=dict)
    positions: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    signals: dict[str, str] = field(default_factory=dict)
    trades: dict[tuple[str, str, str], str] = field(default_factory=dict)
    money: dict[str, Money] = field(default_factory=dict)

    def take(self, entry: Entry) -> Change:
        """Apply an entry and return what it did.

        Raises:
            InputError: The order exists already, its signal became another order, or an event names an unknown order.
        """
        if entry.kind is Kind.CREATED:
            return Change(self.create(entry.body), entry.body)
        if entry.kind is Kind.EVENT:
            return Change(self.follow(entry.client_order_id, entry.body))
        return Change()

    def take_line(self, line: Line) -> Change:
        """Apply a line that was written earlier."""
        return self.take(Entry(Kind(line.kind), line.client_order_id, line.body()))

    def create(self, request: OrderRequest) -> Applied:
        """Take up a new order; see `take`."""
        identifier, key = request.client_order_id, request.signal_key
        if identifier in self.orders or (key and key in self.signals):
            known = "the id" if identifier in self.orders else f"signal {key!r}"
            raise InputError(
                f"order {identifier}: expected a new id and a signal that became no order yet, found {known} on "
                "record; the same signal is the same order"
            )
        order = Order(request)
        self.orders[identifier] = order
        if key:
            self.signals[key] = identifier
        return Applied(order)

    def follow(self, identifier: str, event: Event) -> Applied:
        """Apply an event to its order; see `take`."""
        order = self.orders.get(identifier)
        if order is None:
            raise InputError(f"order {identifier}: expected one on record, found none; create it before its events")
        applied = self._claimed(order, event) or apply(order, event)
        if applied.order is not order:
            self.orders[identifier] = applied.order
            if applied.order.fills is not order.fills:
                self._move(order, applied.order)
        return applied

    def _claimed(self, order: Order, event: Event) -> Applied | None:
        """Return what a trade means that counted before: for another order, or for this one until it was taken back."""
        if event.fill is None:
            return None
        trade = event.fill.trade_id
        owner = self.trades.get((order.request.account, order.request.symbol, trade))
        if owner is None:
            return None
        if owner != order.request.client_order_id:
            return Applied(order, anomaly=f"trade {trade} belongs to order {owner}", alert="fill conflict")
        taken_back = all(fill.trade_id != trade for fill in order.fills)
        return Applied(order, duplicate=True) if taken_back else None

    def _move(self, before: Order, after: Order) -> None:
        request = after.request
        key = (request.account, request.symbol)
        known = len(before.fills)
        extended = after.fills[:known] == before.fills  # else one was taken back, or told anew
        new, gone = (after.fills[known:], ()) if extended else (after.fills, before.fills)
        held, paid, fees = effect(request.side, new)
        if gone:
            moved = effect(request.side, gone)
            held, paid, fees = held - moved[0], paid - moved[1], fees - moved[2]
        self.positions[key] = self.positions.get(key, ZERO) + held
        money = self.money.get(request.account, Money())
        elsewhere = money.elsewhere_after(1, new)
        if gone:
            elsewhere = Money(elsewhere=elsewhere).elsewhere_after(-1, gone)
        self.money[request.account] = Money(money.cash + paid, money.fees + fees, elsewhere)
        for fill in reversed(after.fills):  # new ones stand at the end
            if (*key, fill.trade_id) in self.trades:
                break
            self.trades[(*key, fill.trade_id)] = request.client_order_id


class _New(dict[_K, _V]):
    """What is new on top of a dictionary: asking for a key finds both, going through it finds what is new alone.

    No value is None.
    """

    def __init__(self, base: dict[_K, _V]) -> None:
        super().__init__()
        self._base = base

    def __missing__(self, key: _K) -> _V:
        return self._base[key]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self._base

    def get(self, key: _K, default: Any = None) -> Any:
        """Return what is new, else what was there."""
        new = super().get(key)
        return self._base.get(key, default) if new is None else new


class Draft(State):
    """Changes on top of a state, which stays as it is until they are kept; each part holds what is new alone."""

    def __init__(self, base: State) -> None:
        self._base = base
        self.orders = _New(base.orders)
        self.positions = _New(base.positions)
        self.signals = _New(base.signals)
        self.trades = _New(base.trades)
        self.money = _New(base.money)

    def keep(self) -> None:
        """Put the changes into the state."""
        base = self._base
        base.orders.update(self.orders)
        base.positions.update(self.positions)
        base.signals.update(self.signals)
        base.trades.update(self.trades)
        base.money.update(self.money)
