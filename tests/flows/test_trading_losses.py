"""Round trips are judged whole: from flat to flat or through zero, after their fees."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from msgspec import structs

from flows.trading_losses import LossStreak
from tasks.orders.order import Fill, Order, OrderRequest, Side

AT = datetime(2026, 1, 1, tzinfo=UTC)


def traded(name: str, side: Side, *fills: tuple[int, int], fee: str = "0") -> Order:
    """Return an order with fills of a price and a quantity each."""
    made = tuple(
        Fill(f"{name}{number}", Decimal(price), Decimal(quantity), Decimal(fee), AT)
        for number, (price, quantity) in enumerate(fills)
    )
    return Order(OrderRequest(name, "paper", "BTCUSDT", side, Decimal(100)), fills=made)


def test_a_trip_ends_flat_or_through_zero() -> None:
    """A part that is sold at a loss ends nothing; going flat does, and so does turning round."""
    streak = LossStreak()
    assert not streak.follow(traded("a", Side.BUY, (100, 4)))
    assert not streak.follow(traded("b", Side.SELL, (90, 1)))
    assert streak.follow(traded("b", Side.SELL, (90, 1), (90, 3)))
    assert not streak.follow(traded("c", Side.BUY, (100, 1)))
    assert streak.follow(traded("d", Side.SELL, (99, 3)))
    assert streak.in_a_row == 2


def test_what_fees_in_kind_leave_ends_a_trip() -> None:
    """Dust that is too small to be sold is no position: its trip has ended, and the next one begins with it."""
    streak = LossStreak()
    for number in (1, 2):
        assert not streak.follow(traded(f"in{number}", Side.BUY, (100, 1000)))
        assert streak.follow(traded(f"out{number}", Side.SELL, (99, 999)))
    assert streak.in_a_row == 2


def test_fees_lose_and_a_gain_ends_the_streak() -> None:
    """A trip that its fees turn into a loss counts as one, an even one does not, and a fill counts once."""
    streak = LossStreak([traded("a", Side.BUY, (100, 1), fee="1")])
    last = traded("b", Side.SELL, (101, 1), fee="1")
    assert streak.follow(last)
    assert not streak.follow(last)
    assert streak.in_a_row == 1
    assert not streak.follow(traded("c", Side.BUY, (100, 1)))
    assert not streak.follow(traded("d", Side.SELL, (100, 1)))
    assert streak.in_a_row == 0


def test_a_fill_made_up_and_then_told_in_parts_counts_once() -> None:
    """A position is not doubled by the real trades that take a made-up fill's place, one after the other."""
    streak = LossStreak()
    whole = traded("a", Side.BUY, (100, 10))
    real = traded("b", Side.BUY, (100, 4), (100, 6)).fills
    left = structs.replace(whole.fills[0], quantity=Decimal(6))
    for fills in (whole.fills, (left, real[0]), real):
        assert not streak.follow(structs.replace(whole, fills=fills))
    assert streak.follow(traded("c", Side.SELL, (99, 10)))
    assert streak.in_a_row == 1
