"""What a person sees of an account: positions, orders, fills, profit, risk and the journal's end, as plain values.

Kept up to date order by order, so that a look costs the same after a million of them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from flows.live_account import Account
from flows.live_words import told
from flows.trading import OrderDesk
from tasks.orders.account import Market, TradingState
from tasks.orders.order import ZERO, Fill, Order, OrderType, Side
from tasks.orders.position import Position, fold

#: Orders and fills that are shown.
_RECENT = 25
#: Orders whose wish is remembered beside what was sent: more than can be open or shown.
_ASKED = 500

_SENTENCES = {
    TradingState.ACTIVE: "orders pass within the limits",
    TradingState.REDUCING: "losses reached a limit of the day, or an order that was written off lives: only what "
    "closes positions passes until the day ends",
    TradingState.RECONCILING: "journal and broker are being held against each other: nothing but cancels passes",
}


class AccountView:
    """Positions and profit as the fold of fills, and the rest as it stands.

    Args:
        account: What is shown.
        market: What a symbol trades at.
    """

    def __init__(self, account: Account, market: Callable[[str], Market]) -> None:
        self._account, self._market = account, market
        self._orders = account.journal.state.orders
        self._counted: dict[str, tuple[Fill, ...]] = {}
        self._newest: dict[str, datetime] = {}
        self._ended: deque[str] = deque(maxlen=_RECENT)
        self._fills: deque[tuple[Order, Fill]] = deque(maxlen=_RECENT)
        self._asked: dict[str, OrderType] = {}
        self.positions: dict[str, Position] = {}
        earlier: defaultdict[str, list[tuple[Fill, Order]]] = defaultdict(list)
        for order in self._mine():
            self._counted[order.request.client_order_id] = order.fills
            earlier[order.request.symbol].extend((fill, order) for fill in order.fills)
        for symbol, fills in earlier.items():
            self._fold(symbol, fills)
        newest = sorted((one for fills in earlier.values() for one in fills[-_RECENT:]), key=_when)[-_RECENT:]
        self._fills.extend((order, fill) for fill, order in newest)
        self._ended.extend(order.request.client_order_id for order in self._mine() if order.is_terminal)
        self.orders = self.filled = 0

    def ask(self, identifier: str, order_type: OrderType) -> None:
        """Remember what type of order was asked for: a market order is sent as a limit order that bounds its price."""
        self._asked[identifier] = order_type
        if len(self._asked) > _ASKED:
            del self._asked[next(iter(self._asked))]

    def take(self, order: Order) -> None:
        """Take an order that changed."""
        identifier, symbol = order.request.client_order_id, order.request.symbol
        self.orders += identifier not in self._counted
        if order.is_terminal and identifier not in self._ended:
            self._ended.append(identifier)
        known = self._counted.setdefault(identifier, ())
        if order.fills == known:
            return
        new = order.fills[len(known) :]
        last = self._newest.get(symbol)
        self._counted[identifier] = order.fills
        if order.fills[: len(known)] != known or any(last and fill.timestamp < last for fill in new):
            # One was taken back, or came late: an average depends on the order of fills.
            mine = (one for one in self._mine() if one.request.symbol == symbol)
            self._fold(symbol, [(fill, one) for one in mine for fill in one.fills])
        else:
            for fill in new:
                held = self.positions.get(symbol, Position())
                self.positions[symbol] = held.filled(order.request.side, fill)
                self._newest[symbol] = fill.timestamp
        self._fills.extend((order, fill) for fill in new)
        self.filled += len(new)

    def position(self, symbol: str) -> Decimal:
        """Return what is held of a symbol."""
        return self._account.journal.state.positions.get((self._account.name, symbol), ZERO)

    def newest(self, symbol: str) -> Order | None:
        """Return the order of a symbol that ended last, None where none did lately."""
        ended = (self._orders[identifier] for identifier in reversed(self._ended))
        return next((order for order in ended if order.request.symbol == symbol), None)

    def describe(self, desk: OrderDesk) -> dict[str, Any]:
        """Return everything as JSON can hold it; what is not known is None."""
        account, positions = self._account, [self._position(*one) for one in sorted(self.positions.items())]
        state = desk.state
        return {
            "account": account.name,
            "broker": account.broker.name,
            "mode": account.plan.mode,
            "live": account.broker.is_live,
            "state": str(state),
            "why": desk.halted_for or _SENTENCES.get(state, ""),
            "in_doubt": sorted(desk.doubts),
            "equity": _number(desk.equity),
            "positions": positions,
            "profit": _profit(positions),
            "working": [self._order(one) for one in desk.working],
            "orders": [self._order(self._orders[identifier]) for identifier in reversed(self._ended)],
            "fills": [_fill(order, fill) for order, fill in reversed(self._fills)],
            "limits": self._limits(desk),
            "journal": {
                "path": str(account.journal.path),
                "lines": [told(at, entry) for at, entry in reversed(desk.written)],
            },
            "counts": {
                "orders": self.orders,
                "fills": self.filled,
                "working": len(desk.working),
                "in_doubt": len(desk.doubts),
            },
        }

    def _mine(self) -> Iterable[Order]:
        return (order for order in self._orders.values() if order.request.account == self._account.name)

    def _fold(self, symbol: str, fills: list[tuple[Fill, Order]]) -> None:
        fills.sort(key=_when)
        self.positions[symbol] = fold((order.request.side, fill) for fill, order in fills)
        if fills:
            self._newest[symbol] = fills[-1][0].timestamp

    def _order(self, order: Order) -> dict[str, Any]:
        request = order.request
        return {
            "id": request.client_order_id,
            "symbol": request.symbol,
            "side": str(request.side),
            "asked": str(self._asked.get(request.client_order_id, request.order_type)),
            "type": str(request.order_type),
            "time_in_force": str(request.time_in_force),
            "quantity": _number(request.quantity),
            "limit_price": _number(request.limit_price),
            "filled": _number(order.filled_quantity),
            "average_price": _number(order.average_price),
            "status": str(order.status),
            "pending": str(order.pending),
            "strategy": request.strategy,
            "signal": request.signal_key,
            "reason": order.reason,
        }

    def _position(self, symbol: str, held: Position) -> dict[str, Any]:
        price = self._market(symbol).reference_price
        return {
            "symbol": symbol,
            "quantity": _number(held.quantity),
            "average_price": _number(held.average_price) if held.quantity else None,
            "price": _number(price),
            "value": _number(None if price is None else held.quantity * price),
            "realised": _number(held.realised),
            "unrealised": _number(_unrealised(held, price)),
            "fees": _number(held.fees),
        }

    def _limits(self, desk: OrderDesk) -> dict[str, Any]:
        """Return how much of each limit is used, as shares of it; None where equity is unknown."""
        limits, book = desk.limits, desk.book()
        equity, recent = book.equity, len(book.recent_orders)
        worth = {symbol: abs(held) * book.prices.get(symbol, ZERO) for symbol, held in book.positions.items()}
        largest, gross = max(worth.values(), default=ZERO), sum(worth.values(), ZERO)
        fall = 1 - equity / book.peak_equity if equity and book.peak_equity > 0 else ZERO
        loss = max(-book.day_pnl, ZERO) / book.peak_equity if book.peak_equity > 0 else ZERO
        used = {
            "largest position": (largest / equity if equity else None, limits.max_position_fraction),
            "gross exposure": (gross / equity if equity else None, limits.max_gross_fraction),
            "day's loss": (loss, limits.max_day_loss),
            "drawdown": (fall, limits.max_drawdown),
            "orders a minute": (Decimal(recent), Decimal(limits.orders_per_minute)),
        }
        return {
            "version": limits.version,
            "used": [
                {"name": name, "used": _number(now), "limit": _number(most)} for name, (now, most) in used.items()
            ],
        }


def _profit(positions: list[dict[str, Any]]) -> dict[str, float | None]:
    realised, fees = (sum(one[name] for one in positions) for name in ("realised", "fees"))
    open_ones = [one["unrealised"] for one in positions]
    unrealised = None if None in open_ones else sum(open_ones)
    net = None if unrealised is None else realised + unrealised - fees
    return {"realised": realised, "unrealised": unrealised, "fees": fees, "net": net}


def _unrealised(held: Position, price: Decimal | None) -> Decimal | None:
    if not held.quantity:
        return ZERO
    return None if price is None else held.unrealised(price)


def _fill(order: Order, fill: Fill) -> dict[str, Any]:
    return {
        "at_ms": round(fill.timestamp.timestamp() * 1000),
        "id": order.request.client_order_id,
        "symbol": order.request.symbol,
        "side": str(Side(order.request.side)),
        "quantity": _number(fill.quantity),
        "price": _number(fill.price),
        "fee": _number(fill.fee),
        "inferred": fill.inferred,
    }


def _when(one: tuple[Fill, Order]) -> datetime:
    return one[0].timestamp


def _number(value: Decimal | None) -> float | None:
    return None if value is None or not value.is_finite() else float(value)
