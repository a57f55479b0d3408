"""Bounded memory between reader and user, and each trade counted once."""

from __future__ import annotations

import gc
import math

import pytest

from tasks.stream.events import GapReason
from tasks.stream.mailbox import Mailbox
from tasks.stream.messages import Depth, Ticker, Trade, Trades
from tasks.stream.trades import REMEMBERED, TradeTape


def trade(identity: int, *, side="buy", quantity: float = 1.0, ms: int | None = None, price: float = 10.0) -> Trade:
    """Return a trade; its time follows its id."""
    return Trade(identity, price, quantity, side, identity if ms is None else ms)


def test_depth_and_ticker_conflate_to_the_latest() -> None:
    """A thousand snapshots nobody looked at cost one."""
    box = Mailbox()
    for number in range(1000):
        box.put("A", Depth("A", [], [], number), float(number))
        box.put("A", Ticker("A", 1.0, number), float(number))
    latest = box.take_latest()
    assert [(message.timestamp, at) for _, message, at in latest] == [(999, 999.0), (999, 999.0)]
    assert box.conflated == 1998
    assert box.empty


def test_trades_keep_their_order() -> None:
    """Trades within the limit come out whole and in order."""
    box = Mailbox()
    box.put("A", Trades("A", [trade(1), trade(2)]), 1.0)
    box.put("B", Trades("B", [trade(3)]), 2.0)
    assert [(symbol, one.id) for symbol, one, _ in box.take_trades()] == [("A", 1), ("A", 2), ("B", 3)]
    assert box.take_gaps() == []


def test_the_collector_looks_at_no_trade_that_waits() -> None:
    """A long queue does not make collections long: cancels behind it waited for those."""
    box, batch = Mailbox(), Trades("A", [trade(number) for number in range(5_000)])
    gc.disable()  # a collection would untrack them, which is what takes the time
    try:
        known = len(gc.get_objects())
        box.put("A", batch, 1.0)
        assert len(gc.get_objects()) - known < 100
    finally:
        gc.enable()


def test_overflow_is_counted_and_becomes_a_gap() -> None:
    """What the limit pushes out is the oldest, is counted, and is told as a gap of its symbol."""
    box = Mailbox(max_trades=10)
    for number in range(25):
        box.put("A", Trades("A", [trade(number)]), float(number))
    (gap,) = box.take_gaps()
    assert (box.dropped, box.waiting) == (15, 10)
    assert (gap.symbol, gap.reason, gap.start, gap.end) == ("A", GapReason.OVERFLOW, 0.0, 14.0)
    assert [one.id for _, one, _ in box.take_trades()] == list(range(15, 25))
    assert box.take_gaps() == []


def test_a_trade_is_counted_once() -> None:
    """The same id from stream and from REST is one trade."""
    tape = TradeTape()
    assert len(tape.add([trade(1), trade(2), trade(1)])) == 2
    assert tape.add([trade(2), trade(1)]) == []
    assert tape.count == 2


def test_memory_of_ids_is_bounded() -> None:
    """A million trades leave no more ids behind than REST can repeat."""
    tape = TradeTape()
    for first in range(0, 60_000, 1_000):
        tape.add(trade(number) for number in range(first, first + 1_000))
    assert len(tape._ids) == REMEMBERED
    assert len(tape._buckets) <= 61


def test_flow_is_signed_and_forgets() -> None:
    """Flow is (bought − sold) over their sum in the last minute of the venue's time."""
    tape = TradeTape()
    assert math.isnan(tape.flow())
    tape.add([trade(1, quantity=3.0, ms=0), trade(2, side="sell", quantity=1.0, ms=500)])
    tape.add([trade(3, side="neutral", quantity=9.0, ms=700)])
    assert tape.flow() == pytest.approx(0.5)
    tape.add([trade(4, side="sell", quantity=2.0, ms=61_000)])
    assert tape.flow() == pytest.approx(-1.0)


def test_late_trades_are_counted_but_do_not_set_the_price() -> None:
    """A refilled trade older than the last leaves the last price alone."""
    tape = TradeTape()
    tape.add([trade(2, ms=2_000, price=11.0)])
    tape.add([trade(1, ms=1_000, price=9.0)])
    assert (tape.last_price, tape.last_ms, tape.count) == (11.0, 2_000, 2)


def test_a_stamp_from_the_future_counts_as_of_now() -> None:
    """One trade that the venue stamped wrong stops neither the last price nor the flow of those after it."""
    tape = TradeTape()
    tape.add([trade(1, ms=1_000, price=10.0)], 1_010.0)
    tape.add([trade(2, ms=9_700_000_000_000, price=11.0)], 2_000.0)
    assert (tape.last_price, tape.last_ms) == (11.0, 2_000)
    tape.add([trade(3, side="sell", ms=3_000, price=12.0)], 3_010.0)
    assert (tape.last_price, tape.last_ms, tape.flow()) == (12.0, 3_000, pytest.approx(1 / 3))


@pytest.mark.parametrize("bad", [trade(1, price=0.0), trade(1, price=math.nan), trade(1, quantity=-1.0)])
def test_unsound_trades_are_left_out(bad: Trade) -> None:
    """A price or quantity that is no positive number counts for nothing."""
    assert TradeTape().add([bad]) == []
