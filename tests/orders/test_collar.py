"""Collars over a period, and market orders that cannot run away."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.orders.account import Limits, Market
from tasks.orders.collar import PriceWindow, capped
from tasks.orders.order import OrderRequest, OrderType, Side, TimeInForce

D = Decimal
LIMITS = Limits()


def order(side: Side = Side.BUY, **fields: object) -> OrderRequest:
    """Return a market order for one unit."""
    return OrderRequest("x", "paper", "BTCUSDT", side, D(1), **fields)  # type: ignore[arg-type]


def test_a_window_tells_the_price_of_a_period_ago() -> None:
    """The price is the last that is a period old; before there is one that old, the first there was."""
    window = PriceWindow(60.0)
    assert window.price(0.0) is None
    for second in range(200):
        assert window.is_due(float(second))
        window.note(float(second), D(second))
        assert not window.is_due(second + 0.5)
        assert window.price(float(second)) == max(second - 60, 0)
    assert window.price(205.9) == 145


def test_a_silence_counts_as_one_step() -> None:
    """After a gap the price before it is what the market came from, until the period is over."""
    window = PriceWindow(60.0)
    window.note(0.0, D(100))
    window.note(500.0, D(150))
    assert window.price(500.0) == 100
    assert window.price(559.9) == 100
    assert window.price(560.0) == 150


@given(st.lists(st.floats(0, 5), min_size=1, max_size=400))
def test_a_window_stays_small(pauses: list[float]) -> None:
    """However prices come in, no more of them are kept than the period has places."""
    window, now = PriceWindow(60.0), 0.0
    for pause in pauses:
        now += pause
        window.note(now, D(1))
    assert len(window._samples) <= 62


@pytest.mark.parametrize(("side", "limit"), [(Side.BUY, "101.9"), (Side.SELL, "100.0")])
def test_a_market_order_takes_what_is_there_up_to_its_collar(side: Side, limit: str) -> None:
    """It becomes an immediate limit order, its price rounded towards the reference."""
    got = capped(order(side), Market(D("100.99"), price_step=D("0.1")), LIMITS)
    assert (got.order_type, got.limit_price, got.time_in_force) == (OrderType.LIMIT, D(limit), TimeInForce.IOC)
    assert got.client_order_id == "x"


def test_a_step_above_the_price_leaves_no_market_order_without_a_bound() -> None:
    """Rounded to nothing it would go without a price: it goes with one step, which the price collar refuses."""
    got = capped(order(), Market(D(3), price_step=D(5)), LIMITS)
    assert (got.order_type, got.limit_price) == (OrderType.LIMIT, D(5))


def test_all_or_nothing_stays_so() -> None:
    """A market order that takes all or nothing still does."""
    got = capped(order(time_in_force=TimeInForce.FOK), Market(D(100)), LIMITS)
    assert got.time_in_force is TimeInForce.FOK


@pytest.mark.parametrize(
    ("request_", "reference", "collar"),
    [
        (order(order_type=OrderType.LIMIT, limit_price=D(99)), D(100), D("0.01")),
        (order(), None, D("0.01")),
        (order(), D("NaN"), D("0.01")),
        (order(), D(100), D(1)),
    ],
)
def test_anything_else_is_left_alone(request_: OrderRequest, reference: Decimal | None, collar: Decimal) -> None:
    """Limit orders, orders without a reference price (refused elsewhere) and a collar that bounds nothing."""
    assert capped(request_, Market(reference), replace(LIMITS, market_collar=collar)) == request_
