"""What the orders of one signal asked for together: never more than it did, however often it is cut or repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from tasks.orders.account import Parent
from tasks.orders.order import ZERO, Order, OrderRequest

#: Signals that are remembered; older ones are refused for their age.
_MOST = 10_000


class Parents:
    """Every signal's orders.

    Args:
        order: Returns an order as it stands.
        known: What an earlier process sent, the oldest first.
    """

    def __init__(self, order: Callable[[str], Order | None], known: Iterable[Order] = ()) -> None:
        self._order = order
        self._children: dict[str, list[str]] = {}
        for one in known:
            self.add(one.request)

    def add(self, request: OrderRequest) -> None:
        """Note an order that is sent."""
        self._children.setdefault(_signal(request), []).append(request.client_order_id)
        if len(self._children) > _MOST:
            del self._children[next(iter(self._children))]

    def of(self, request: OrderRequest, wanted: Decimal | None = None) -> Parent:
        """Return what an order's signal asked for in all, and what its other orders took of it.

        Args:
            request: The order.
            wanted: What the signal asks for in all; what its first order asks for where that is left out.
        """
        names = self._children.get(_signal(request), ())
        others = [order for order in map(self._order, names) if order is not None and order.request != request]
        first = others[0].request.quantity if others else request.quantity
        taken = sum((order.filled_quantity + order.remaining_quantity for order in others), ZERO)
        return Parent(first if wanted is None else wanted, taken)


def _signal(request: OrderRequest) -> str:
    """Return what the orders of a signal have in common: its key without the leg."""
    return request.signal_key.rpartition("|")[0]
