"""The matching engine by itself: what resting orders get of the trades that pass."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from tasks.simulator.instruments import instrument
from tasks.simulator.ledger import Fill, Order
from tasks.simulator.market import Market, milliseconds
from tasks.simulator.quotes import Quotes
from tasks.simulator.sharing import Passed, shares
from tasks.simulator.venue import Ticket, Venue
from tests.simulator.conftest import NOW


@dataclass
class Rig:
    """A venue whose market's time a test sets, and the fills it told of."""

    venue: Venue
    times: list[int]

    def __post_init__(self) -> None:
        self.fills: list[Fill] = []
        self.venue.listeners.append(self._note)
        self.item = self.venue.quotes.market.find("BTCUSDT")

    def _note(self, key: str, news: Order | Fill) -> None:
        if isinstance(news, Fill):
            self.fills.append(news)

    def rest(self, name: str, price: Decimal, side: str = "buy", quantity: int = 1_000) -> None:
        """Let an order of an account of its own wait at a price."""
        self.venue.place(f"key of {name}", Ticket(name, self.item, side, "limit", "gtc", Decimal(quantity), price))

    def pass_time(self, **duration: float) -> None:
        """Let the market go on, and match what happened."""
        self.times[0] += timedelta(**duration) // timedelta(milliseconds=1)
        self.venue.advance()

    def traded(self) -> Counter[int]:
        """Return how much changed hands in the market in each millisecond after `NOW`."""
        tape, sizes = self.venue.quotes.tape(self.item), Counter()
        for index in range(tape.index_at(milliseconds(NOW)), tape.index_at(self.times[0]) + 1):
            bar = tape.bar(index)
            for time, lots in zip(bar.times.tolist(), bar.quantities.tolist(), strict=True):
                sizes[time] += Decimal(lots).scaleb(-bar.lot_decimals)
        return sizes


@pytest.fixture
def rig(small_market: Market) -> Rig:
    """A venue at `NOW`."""
    times = [milliseconds(NOW)]
    return Rig(Venue(Quotes(small_market.at(lambda: times[0]))), times)


def _low(rig: Rig, minutes: int) -> Decimal:
    """Return a price that a fifth of the trades of the next minutes are at or below."""
    tape = rig.venue.quotes.tape(rig.item)
    first = tape.index_at(rig.times[0])
    prices = np.concatenate([tape.bar(first + k).prices for k in range(1, minutes)])
    return Decimal(int(np.quantile(prices, 0.2))).scaleb(-rig.item.price_decimals)


def test_a_trade_is_given_out_once(rig: Rig) -> None:
    """However many orders wait, of however many accounts, together they get no more than was traded."""
    price = _low(rig, 30)
    for name in "abc":
        rig.rest(name, price)
    rig.pass_time(minutes=30)
    got: Counter[int] = Counter()
    for fill in rig.fills:
        got[fill.timestamp_ms] += fill.quantity * fill.maker  # as takers they had the book
    traded = rig.traded()
    assert got
    assert all(quantity <= traded[time] for time, quantity in got.items())


def _order(name: str, side: str, price: str, left: str) -> Order:
    item = instrument("BTCUSDT", price_decimals=1, lot_decimals=2)
    return Order(
        name, name, item, side, "limit", "gtc", Decimal(left), Decimal(price), "new", Decimal(0), Decimal(0), 0, 0
    )


@pytest.mark.parametrize(
    ("resting", "size", "got"),
    [
        ([("a", "buy", "101", "9"), ("b", "buy", "101", "9")], "5", {"a": "5"}),
        ([("a", "buy", "101", "2"), ("b", "buy", "101", "9")], "5", {"a": "2", "b": "3"}),
        ([("a", "buy", "101", "9"), ("b", "buy", "102", "4")], "5", {"b": "4", "a": "1"}),
        ([("a", "sell", "99", "9"), ("b", "sell", "98", "4")], "5", {"b": "4", "a": "1"}),
        ([("a", "buy", "100", "9"), ("b", "buy", "100", "9")], "5", {"a": "2.5", "b": "1.25"}),
        ([("a", "buy", "100", "9")], "0.05", {"a": "0.02"}),
        ([("a", "buy", "100", "9")], "0.01", {}),
        ([("a", "buy", "99", "9"), ("b", "sell", "101", "9")], "5", {}),
    ],
)
def test_the_best_price_is_first_then_the_oldest(
    resting: list[tuple[str, str, str, str]], size: str, got: dict[str, str]
) -> None:
    """Through its price an order takes what is left of a trade, at its price half of it in whole lots."""
    trade = Passed(Decimal(100), Decimal(size), Decimal("0.01"), 0)
    taken = {order.order_id: quantity for order, _, quantity in shares([_order(*one) for one in resting], trade)}
    assert taken == {name: Decimal(quantity) for name, quantity in got.items()}
    assert list(taken) == list(got)


def test_how_often_one_looks_changes_nothing(rig: Rig, small_market: Market) -> None:
    """The same orders get the same fills, whether the venue looks every second or once."""
    price = _low(rig, 10)
    times = [milliseconds(NOW)]
    other = Rig(Venue(Quotes(small_market.at(lambda: times[0]))), times)
    for one in (rig, other):
        one.rest("a", price, quantity=3)
        one.rest("b", price, quantity=3)
        one.rest("c", price + 50, side="sell", quantity=3)
    rig.pass_time(minutes=10)
    for _ in range(600):
        other.pass_time(seconds=1)
    told = [[(f.order.client_order_id, f.quantity, f.timestamp_ms) for f in one.fills] for one in (rig, other)]
    assert told[0] == told[1]
    assert told[0]
