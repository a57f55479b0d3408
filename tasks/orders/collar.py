"""Collars beyond one look at a price: what it was a period ago, and how far a market order may run. Pure.

RTS 6 article 15(1)(a) of MiFID II wants collars order by order and over a period: each of a row of orders may look
sound beside the price of its own moment while the price runs.
"""

from __future__ import annotations

from collections import deque
from decimal import ROUND_DOWN, ROUND_UP, Decimal

from msgspec.structs import replace

from tasks.orders.account import Limits, Market
from tasks.orders.order import OrderRequest, OrderType, Side, TimeInForce

#: Prices kept of a period, evenly apart.
_SAMPLES = 60


class PriceWindow:
    """What a symbol traded at a period ago.

    Args:
        period_s: How long ago.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s, self._apart_s = period_s, period_s / _SAMPLES
        self._samples: deque[tuple[float, Decimal]] = deque()

    def note(self, now_s: float, price: Decimal) -> None:
        """Take a price; those that follow another too closely are left out."""
        samples = self._samples
        if samples and now_s - samples[-1][0] < self._apart_s:
            return
        samples.append((now_s, price))
        while len(samples) > 1 and now_s - samples[1][0] >= self._period_s:
            samples.popleft()

    def is_due(self, now_s: float) -> bool:
        """Return whether a price of now would be kept."""
        return not self._samples or now_s - self._samples[-1][0] >= self._apart_s

    def price(self, now_s: float) -> Decimal | None:
        """Return the last price that is at least a period old, else the oldest there is, None where there is none.

        After a silence that is the price before it: what it moved meanwhile counts as moved within the period.
        """
        while len(self._samples) > 1 and now_s - self._samples[1][0] >= self._period_s:
            self._samples.popleft()
        return self._samples[0][1] if self._samples else None


def capped(request: OrderRequest, market: Market, limits: Limits) -> OrderRequest:
    """Return a market order as a limit order that takes what is there up to the collar, and anything else as it is.

    A collar of 1 or more bounds nothing: the order stays a market order. Without a reference price or a step it stays
    one too, and is refused for that. A price of less than a step becomes one step, which the price collar refuses.
    """
    reference, collar = market.reference_price, limits.market_collar
    if request.order_type is not OrderType.MARKET or reference is None or not reference.is_finite() or collar >= 1:
        return request
    if not market.price_step > 0:
        return request
    is_buy = request.side is Side.BUY
    steps = reference * (1 + request.side.sign * collar) / market.price_step
    limit = max(steps.to_integral_value(ROUND_DOWN if is_buy else ROUND_UP), 1) * market.price_step
    in_force = TimeInForce.FOK if request.time_in_force is TimeInForce.FOK else TimeInForce.IOC
    return replace(request, order_type=OrderType.LIMIT, limit_price=limit, time_in_force=in_force)
