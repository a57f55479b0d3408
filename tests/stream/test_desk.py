"""The desk without any I/O: gaps empty books, REST takes over a lost channel, refills repeat nothing."""

from __future__ import annotations

import pytest

from tasks.stream.desk import Desk, DeskPolicy
from tasks.stream.events import Degraded, GapBegan, GapEnded, GapReason
from tasks.stream.messages import Depth, Ticker, Trade


@pytest.fixture
def desk() -> Desk:
    """Return a desk with one symbol, no recorder, and wall time equal to monotonic time."""
    return Desk(["A"], DeskPolicy(), recorder=None, on_alert=lambda alert: None, to_wall_ms=lambda now: now * 1000.0)


def book(ms: int = 1_000, bid_size: float = 1.0) -> Depth:
    """Return a good book."""
    return Depth("A", [(100.0, bid_size)], [(100.5, 1.0)], ms)


def valid(desk: Desk, now: float) -> bool:
    """Say whether the symbol's book may be used."""
    return desk.snapshot(now)[0]["valid"]


def fill(desk: Desk, at: float) -> None:
    """Feed enough books to be past the warm-up."""
    for _ in range(3):
        desk.take("A", book(int(at * 1000)), at)


def test_a_gap_makes_the_book_invalid_until_it_is_over_and_warm(desk: Desk) -> None:
    """From the first word of a gap on nothing is shown, and after its end three books are needed."""
    fill(desk, 1.0)
    assert valid(desk, 1.0)
    desk.hear(GapBegan("depth", "A", GapReason.LOST, 0.9))
    assert not valid(desk, 1.0)
    desk.hear(GapEnded("depth", "A", GapReason.LOST, 0.9, 2.0))
    desk.take("A", book(2_000), 2.0)
    assert not valid(desk, 2.0)
    fill(desk, 2.0)
    assert valid(desk, 2.0)


def test_a_trade_gap_leaves_the_book_alone(desk: Desk) -> None:
    """Missing trades say nothing of the book; only the flow is not shown while they are missing."""
    fill(desk, 1.0)
    desk.take_trades([("A", Trade("1", 100.0, 1.0, "buy", 900), 0.9)])
    assert desk.snapshot(1.0)[0]["trade_flow"] == 1.0
    desk.hear(GapBegan("trade", "A", GapReason.LOST, 0.9))
    assert valid(desk, 1.0)
    assert desk.snapshot(1.0)[0]["trade_flow"] is None
    desk.hear(GapEnded("trade", "A", GapReason.LOST, 0.9, 1.0))
    assert desk.snapshot(1.0)[0]["trade_flow"] == 1.0


def test_a_lost_channel_is_taken_over_by_rest_and_flagged(desk: Desk) -> None:
    """After 4003 polled books are used, with the fault that says where they come from."""
    desk.hear(GapBegan("depth", "A", GapReason.LOST, 0.9))
    desk.hear(Degraded("depth", ("A",)))
    fill(desk, 1.0)
    assert valid(desk, 1.0)
    assert desk.snapshot(1.0)[0]["faults"] == ["polled by REST, because the channel is unavailable"]


def test_remembered_trades_are_not_counted_again(desk: Desk) -> None:
    """What an earlier run recorded comes back with a refill and is left out."""
    desk.remember({"A": ["1", "2"], "UNKNOWN": ["3"]})
    desk.take_trades(("A", Trade(number, 100.0, 1.0, "buy", number), 1.0) for number in (1, 2, 3))
    assert desk.snapshot(1.0)[0]["trades"] == 1


def test_latency_is_by_the_venues_clock(desk: Desk) -> None:
    """With the offset known a message's delay is measured, and an impossible one is a fault of a clock."""
    desk.take("A", Ticker("A", 1.0, 900), 1.0)
    assert desk.snapshot(1.0)[0]["latency_ms"] is None
    desk.set_clock(50.0, 4.0)
    desk.take("A", Ticker("A", 1.0, 1_000), 1.0)
    assert desk.snapshot(1.0)[0]["latency_ms"] == pytest.approx(50.0)
    desk.take("A", Ticker("A", 1.0, 5_000), 1.0)
    assert desk.latency.clock_faults == 1
    assert desk.latency.percentile(0.99) == pytest.approx(50.0)


@pytest.mark.parametrize("offset_ms", [-1.7e12, 1.7e15])
def test_a_pong_from_another_age_measures_nothing(desk: Desk, offset_ms: float) -> None:
    """A venue that tells its time in seconds, or microseconds, makes no book old and no message late."""
    desk.set_clock(offset_ms, 4.0)
    fill(desk, 1.0)
    desk.take_trades([("A", Trade("1", 100.0, 1.0, "buy", 1_000), 1.0)])
    assert valid(desk, 1.0)
    assert desk.snapshot(1.0)[0]["latency_ms"] is None
    assert (desk.seats["A"].tape.last_ms, desk.latency.clock_faults) == (1_000, 0)


def test_unknown_symbols_change_nothing(desk: Desk) -> None:
    """Data of a symbol nobody watches is left out."""
    before = desk.snapshot(1.0)
    desk.take("B", book(), 1.0)
    desk.take_trades([("B", Trade("1", 1.0, 1.0, "buy", 1), 1.0)])
    assert desk.snapshot(1.0) == before


def test_an_invalid_book_leaves_a_hole_in_the_sparkline(desk: Desk) -> None:
    """A sample of a good book is its ratio, of a bad one nothing."""
    fill(desk, 1.0)
    desk.sample(1.0)
    desk.sample(9.0)
    assert desk.snapshot(9.0)[0]["spark"] == [1.0, None]
