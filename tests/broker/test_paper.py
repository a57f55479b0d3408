"""The paper broker: the contract, and what only it promises: durability, depth, halts, bars of history."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs

from tasks.broker.matching import Terms
from tasks.broker.paper import PaperBroker
from tasks.broker.port import BrokerFill, Connected, DefiniteRejection, Disconnected, NotSentError, OutcomeUnknownError
from tasks.errors import ConfigurationError, InputError, TransientError
from tasks.orders.order import OrderRequest, OrderType, Side, Status, TimeInForce
from tests.broker.contract import LONG_AGO, BrokerContract, Rig

D = Decimal
NOON = datetime(2025, 3, 4, 12, tzinfo=UTC)
BIDS, ASKS = [(99.0, 2.0), (98.0, 3.0)], [(101.0, 1.0), (102.0, 2.0)]
TERMS = Terms(fee_bps=D(10), maker_fee_bps=D(2), slippage_bps=D(5), latency_s=D(0), initial_cash=D(10_000))


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        """Return the moment."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """A clock at noon."""
    return Clock()


@pytest.fixture
async def broker(tmp_path: Path, clock: Clock) -> AsyncIterator[PaperBroker]:
    """A fresh account without latency."""
    broker = PaperBroker(tmp_path / "paper.sqlite", clock=clock, terms=TERMS)
    yield broker
    await broker.close()


def market(name: str, quantity: str = "1", side: Side = Side.BUY, **changes: object) -> OrderRequest:
    """Return a market order."""
    return structs.replace(OrderRequest(name, "paper", "BTC", side, D(quantity)), **changes)


def limit(name: str, price: str, quantity: str = "1", side: Side = Side.BUY, **changes: object) -> OrderRequest:
    """Return a limit order."""
    return market(name, quantity, side, order_type=OrderType.LIMIT, limit_price=D(price), **changes)


async def fills_of(broker: PaperBroker, name: str) -> list[tuple[str, str]]:
    """Return price and quantity of an order's fills."""
    found = [one.fill for one in await broker.fills(LONG_AGO) if one.client_order_id == name]
    return [(f"{one.price.normalize():f}", f"{one.quantity.normalize():f}") for one in found]


async def status_of(broker: PaperBroker, name: str) -> Status:
    """Return where an order stands."""
    order = await broker.query(name, "BTC")
    assert order is not None
    return order.status


class TestContract(BrokerContract):
    """The paper broker keeps the contract."""

    @pytest.fixture
    async def rig(self, broker: PaperBroker, clock: Clock) -> Rig:
        """A book that is shown anew whenever the market trades."""

        async def trade() -> None:
            clock.forward(1)
            broker.on_book("BTC", BIDS, ASKS, clock())
            await broker.settle()

        @contextmanager
        def lost_replies() -> Iterator[None]:
            # the disk fails under the ledger: whether the order is in it is unknown
            broker._ledger._db.close()
            yield
            broker._ledger._db = sqlite3.connect(":memory:")

        await trade()
        return Rig(broker, "BTC", D("0.5"), D(7), D(102), D(1000), D(50), trade, lost_replies)


async def test_a_market_order_walks_the_book(broker: PaperBroker) -> None:
    """Each level gives its own fill, and what is not there waits for the next book."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.submit(market("walk", "4"), NOON)
    await broker.settle()
    assert await fills_of(broker, "walk") == [("101", "1"), ("102", "2")]
    assert await status_of(broker, "walk") is Status.PARTIALLY_FILLED
    broker.on_book("BTC", BIDS, [(103.5, 9.0)], NOON)
    await broker.settle()
    assert (await fills_of(broker, "walk"))[-1] == ("103.5", "1")
    assert await status_of(broker, "walk") is Status.FILLED


async def test_what_one_order_takes_is_gone_for_the_next(broker: PaperBroker) -> None:
    """Two orders against one snapshot share its depth."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await asyncio.gather(*(broker.submit(market(name, "1.5"), NOON) for name in ("first", "second")))
    await broker.settle()
    assert await fills_of(broker, "first") == [("101", "1"), ("102", "0.5")]
    assert await fills_of(broker, "second") == [("102", "1.5")]


async def test_a_book_that_is_shown_twice_fills_once(broker: PaperBroker) -> None:
    """A book that stands is polled again and again: what was taken from it comes back with the next one only."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.submit(market("all", "4"), NOON)
    broker.on_book("BTC", list(BIDS), list(ASKS), NOON)
    await broker.settle()
    assert await fills_of(broker, "all") == [("101", "1"), ("102", "2")]
    broker.on_book("BTC", BIDS, ASKS, NOON + timedelta(seconds=1))
    await broker.settle()
    assert (await fills_of(broker, "all"))[2:] == [("101", "1")]


async def test_fees_are_charged_on_the_price_paid(broker: PaperBroker) -> None:
    """Taking costs fee_bps, resting maker_fee_bps; cash moves by price, quantity and fee."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.submit(market("take"), NOON)
    await broker.submit(limit("make", "100"), NOON)
    broker.on_trade("BTC", 99.5, 1.0, NOON)
    await broker.settle()
    take, make = await broker.fills(LONG_AGO)
    assert (take.fill.fee, make.fill.fee) == (D("0.101"), D("0.02"))
    assert (await broker.account()).available == D(10_000) - 101 - 100 - D("0.121")


async def test_nothing_fills_before_it_arrives(tmp_path: Path, clock: Clock) -> None:
    """With latency an order meets the first book after its arrival, never the one it was decided on."""
    broker = PaperBroker(tmp_path / "p", clock=clock, terms=replace(TERMS, latency_s=D("0.2")))
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.submit(market("late"), NOON)
    clock.forward(0.1)
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.settle()
    assert await fills_of(broker, "late") == []
    clock.forward(0.1)
    broker.on_book("BTC", BIDS, [(110.0, 5.0)], NOON)
    await broker.settle()
    assert await fills_of(broker, "late") == [("110", "1")]
    await broker.close()


async def test_an_older_book_is_ignored(broker: PaperBroker) -> None:
    """A snapshot that comes late does not turn the market back."""
    broker.on_book("BTC", BIDS, [(120.0, 1.0)], NOON)
    broker.on_book("BTC", BIDS, ASKS, NOON - timedelta(seconds=1))
    await broker.submit(market("now"), NOON)
    await broker.settle()
    assert await fills_of(broker, "now") == [("120", "1")]


@pytest.mark.parametrize(
    ("in_force", "quantity", "status", "filled"),
    [
        (TimeInForce.IOC, "5", Status.EXPIRED, 3),
        (TimeInForce.FOK, "5", Status.EXPIRED, 0),
        (TimeInForce.FOK, "3", Status.FILLED, 3),
        (TimeInForce.GTC, "5", Status.PARTIALLY_FILLED, 3),
    ],
)
async def test_time_in_force(
    broker: PaperBroker, in_force: TimeInForce, quantity: str, status: Status, filled: int
) -> None:
    """Immediate or cancel takes what is there, fill or kill all or nothing, the rest of GTC waits."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.submit(limit("tif", "102", quantity, time_in_force=in_force), NOON)
    await broker.settle()
    order = await broker.query("tif", "BTC")
    assert order is not None
    assert (order.status, order.filled_quantity) == (status, filled)


async def test_a_day_order_ends_with_the_day(broker: PaperBroker, clock: Clock) -> None:
    """The first market news of the next UTC day finds it expired, not filled."""
    await broker.submit(limit("day", "100", time_in_force=TimeInForce.DAY), NOON)
    clock.forward(86_400)
    broker.on_book("BTC", BIDS, [(90.0, 5.0)], clock())
    await broker.settle()
    assert await status_of(broker, "day") is Status.EXPIRED


async def test_a_resting_order_is_filled_by_trades(broker: PaperBroker) -> None:
    """A trade at our price gives half of itself, one through it all; a better one nothing. Always at our price."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.submit(limit("rest", "100", "3"), NOON)
    for price, quantity in ((100.5, 9.0), (100.0, 1.0), (99.5, 1.0)):
        broker.on_trade("BTC", price, quantity, NOON)
    await broker.settle()
    assert await fills_of(broker, "rest") == [("100", "0.5"), ("100", "1")]


async def test_a_trade_from_before_an_order_fills_nothing(broker: PaperBroker) -> None:
    """What is fetched after a gap may be older than the order: it was not there to be traded with."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.submit(limit("rest", "100", "3"), NOON)
    broker.on_trade("BTC", 99.5, 1.0, NOON - timedelta(seconds=3))
    broker.on_trade("BTC", 99.5, 1.0, NOON + timedelta(seconds=1))
    await broker.settle()
    assert await fills_of(broker, "rest") == [("100", "1")]


async def test_one_trade_is_shared_best_price_first(broker: PaperBroker) -> None:
    """What a trade gave to the better price is not there for the worse one."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.submit(limit("worse", "99.5", "1"), NOON)
    await broker.submit(limit("better", "100", "1"), NOON)
    broker.on_trade("BTC", 99, 1.5, NOON)
    await broker.settle()
    assert await fills_of(broker, "better") == [("100", "1")]
    assert await fills_of(broker, "worse") == [("99.5", "0.5")]


async def test_a_halt_rejects_orders_and_fills_nothing(broker: PaperBroker) -> None:
    """During a halt new orders are refused, working ones wait, cancels pass; afterwards the market meets them."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    for name in ("kept", "dropped"):
        await broker.submit(limit(name, "100"), NOON)
    broker.halt("BTC")
    broker.on_book("BTC", BIDS, [(90.0, 5.0)], NOON)
    with pytest.raises(DefiniteRejection, match="halted"):
        await broker.submit(market("during"), NOON)
    assert (await broker.cancel("dropped", "BTC")).status is Status.CANCELED
    assert await broker.fills(LONG_AGO) == []
    broker.resume("BTC")
    broker.on_book("BTC", BIDS, [(90.0, 5.0)], NOON)
    await broker.settle()
    assert await fills_of(broker, "kept") == [("100", "1")]


async def test_a_rejected_id_stays_rejected(broker: PaperBroker) -> None:
    """What was refused once is refused for ever under that id, for the same reason."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    with pytest.raises(DefiniteRejection, match="insufficient cash"):
        await broker.submit(market("dear", "1000"), NOON)
    with pytest.raises(DefiniteRejection, match="insufficient cash"):
        await broker.submit(market("dear", "1"), NOON)
    assert await status_of(broker, "dear") is Status.REJECTED


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (market("x", "1", Side.SELL, reduce_only=True), "reduce only"),
        (market("x", "3", Side.SELL, reduce_only=True), "reduce only"),
        (market("x", "3", Side.SELL), "no short selling"),
    ],
)
async def test_positions_are_not_turned_against_the_rules(
    tmp_path: Path, clock: Clock, request_: OrderRequest, words: str
) -> None:
    """A reduce-only order never opens or turns a position, and nothing is sold short where that is not allowed."""
    broker = PaperBroker(tmp_path / "p", clock=clock, terms=replace(TERMS, allow_short=False))
    broker.on_book("BTC", BIDS, ASKS, NOON)
    if request_.quantity == 3:
        await broker.submit(market("hold", "2"), NOON)
    with pytest.raises(DefiniteRejection, match=words):
        await broker.submit(request_, NOON)
    await broker.close()


@pytest.mark.parametrize("words", ["reduce only", "no short selling"])
async def test_open_sells_claim_what_is_held(tmp_path: Path, clock: Clock, words: str) -> None:
    """Two orders that each close the whole position would turn it: the second is refused while the first is open."""
    broker = PaperBroker(tmp_path / "p", clock=clock, terms=replace(TERMS, allow_short=False))
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.submit(market("hold", "2"), NOON)
    closing = [limit(name, "110", "2", Side.SELL, reduce_only=words == "reduce only") for name in ("a", "b")]
    await broker.submit(closing[0], NOON)
    with pytest.raises(DefiniteRejection, match=words):
        await broker.submit(closing[1], NOON)
    await broker.cancel("a", "BTC")
    assert (await broker.submit(structs.replace(closing[1], client_order_id="c"), NOON)).status is Status.ACCEPTED
    await broker.close()


async def test_open_buys_claim_their_cash(broker: PaperBroker) -> None:
    """Orders that are each affordable are refused once together they are not, even when sent at once."""
    requests = [broker.submit(limit(f"buy{i}", "90", "60"), NOON) for i in range(3)]
    answers = await asyncio.gather(*requests, return_exceptions=True)
    assert [isinstance(one, DefiniteRejection) for one in answers] == [False, True, True]


async def test_a_market_order_fills_at_the_next_open(broker: PaperBroker, clock: Clock) -> None:
    """Decided at a close, it fills at the next bar's open moved by the slippage, with the fee on the moved price."""
    broker.on_bar("BTC", NOON, 100.0, 103.0, 99.0, 102.0, 50.0)
    clock.now = NOON + timedelta(minutes=1)
    await broker.submit(market("bar", "2"), NOON)
    broker.on_bar("BTC", NOON, 100.0, 103.0, 99.0, 102.0, 50.0)  # the bar it was decided on cannot fill it
    broker.on_bar("BTC", NOON + timedelta(minutes=1), 102.4, 105.0, 101.0, 104.0, 50.0)
    await broker.settle()
    (fill,) = await broker.fills(LONG_AGO)
    assert fill.fill.price == D("102.4") * D("1.0005")
    assert fill.fill.fee == fill.fill.price * 2 * D("0.001")
    assert fill.fill.timestamp == NOON + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("side", "price", "paid"),
    [
        (Side.BUY, "98", None),  # the low touches 98 and does not go through
        (Side.BUY, "98.5", "98.5"),
        (Side.BUY, "101", "100.05"),  # the open is better: filled there, with slippage
        (Side.BUY, "100.01", "100.01"),  # slippage never goes beyond the limit
        (Side.SELL, "104", None),
        (Side.SELL, "103", "103"),
        (Side.SELL, "99", "99.95"),
    ],
)
async def test_limit_orders_on_bars(broker: PaperBroker, side: Side, price: str, paid: str | None) -> None:
    """A limit order fills where the bar went through its price, and never at a touch."""
    await broker.submit(limit("limit", price, "1", side), NOON)
    broker.on_bar("BTC", NOON, 100, 104, 98, 101, 50)
    await broker.settle()
    assert await fills_of(broker, "limit") == ([(paid, "1")] if paid else [])


async def test_a_bar_gives_its_share_at_most(tmp_path: Path, clock: Clock) -> None:
    """With a bound on the share of volume the rest fills at the next open."""
    broker = PaperBroker(tmp_path / "p", clock=clock, terms=replace(TERMS, max_volume_share=D("0.1")))
    await broker.submit(market("share", "7"), NOON)
    for minute in range(2):
        broker.on_bar("BTC", NOON + timedelta(minutes=minute), 100, 101, 99, 100, 50)
    await broker.settle()
    assert [quantity for _, quantity in await fills_of(broker, "share")] == ["5", "2"]
    await broker.close()


async def test_everything_outlives_the_process(tmp_path: Path, clock: Clock) -> None:
    """Orders, fills, cash, positions and what still works are there after a restart, and trade ids go on."""
    path = tmp_path / "p"
    first = PaperBroker(path, clock=clock, terms=TERMS)
    first.on_book("BTC", BIDS, ASKS, NOON)
    await first.submit(market("done"), NOON)
    await first.submit(limit("open", "100", "2"), NOON)
    await first.settle()
    account, fills = await first.account(), await first.fills(LONG_AGO)
    await first.close()
    second = PaperBroker(path, clock=clock, terms=replace(TERMS, initial_cash=D(1)))
    assert await second.fills(LONG_AGO) == fills
    assert (await second.account()).positions == account.positions
    assert (await second.account()).available == account.available
    second.on_trade("BTC", 99, 5, NOON)
    await second.settle()
    assert await status_of(second, "open") is Status.FILLED
    assert len({one.fill.trade_id for one in await second.fills(LONG_AGO)}) == 2
    assert (await second.submit(market("done"), NOON)).status is Status.FILLED
    await second.close()


async def test_a_second_process_is_refused(tmp_path: Path, clock: Clock, broker: PaperBroker) -> None:
    """One process at a time holds an account."""
    with pytest.raises(ConfigurationError, match="another process"):
        PaperBroker(tmp_path / "paper.sqlite", clock=clock)


_CHILD = """
import asyncio, sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tasks.broker.matching import Terms
from tasks.broker.paper import PaperBroker
from tasks.orders.order import OrderRequest, Side

async def main():
    broker = PaperBroker(Path(sys.argv[1]), clock=lambda: datetime.now(UTC), terms=Terms(latency_s=Decimal(0)))
    for number in range(100_000):
        broker.on_book("BTC", [(99.0, 1.0)], [(101.0, 1.0)], datetime.now(UTC))
        request = OrderRequest(f"o{number}", "a", "BTC", list(Side)[number % 2], Decimal("0.1"))
        print((await broker.submit(request, datetime.now(UTC))).client_order_id, flush=True)

asyncio.run(main())
"""


async def test_a_silence_that_outlasts_the_process_ends_its_orders(tmp_path: Path, clock: Clock) -> None:
    """A process that dies with its switch set finds its orders cancelled after the time, and open before."""
    for name, absent_s, status in (("a", 30, Status.ACCEPTED), ("b", 61, Status.CANCELED)):
        path = tmp_path / name
        broker = PaperBroker(path, clock=clock, terms=TERMS)
        await broker.submit(limit("left", "90"), clock())
        await broker.cancel_all_after(60.0)
        await broker.close()
        clock.forward(absent_s)
        broker = PaperBroker(path, clock=clock, terms=TERMS)
        order = await broker.query("left", "BTC")
        assert order is not None
        assert order.status is status
        assert len(await broker.open_orders()) == (status is Status.ACCEPTED)
        await broker.close()


async def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path, clock: Clock) -> None:
    """After `kill -9` every order that was acknowledged is there, cash and holdings equal the fold of the fills."""
    path = tmp_path / "p"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", _CHILD, str(path), stdout=subprocess.PIPE)
    assert child.stdout is not None
    answered = [(await child.stdout.readline()).decode().strip() for _ in range(30)]
    child.kill()
    answered += (await child.stdout.read()).decode().split()
    await child.wait()
    broker = PaperBroker(path, clock=clock)
    assert all([await broker.query(name, "BTC") for name in answered])
    fills = await broker.fills(LONG_AGO)
    cash = D(100_000) - sum(one.side.sign * one.fill.quantity * one.fill.price + one.fill.fee for one in fills)
    held = sum(one.side.sign * one.fill.quantity for one in fills)
    account = await broker.account()
    assert account.positions == ({"BTC": held} if held else {})
    assert broker._ledger.cash() == cash
    await broker.close()


async def test_a_failing_disk_stops_the_broker(broker: PaperBroker) -> None:
    """The first failure is an unknown outcome and ends the stream's silence; after it nothing is sent or read."""
    reports = broker.reports()
    broker._ledger._db.close()
    with pytest.raises(OutcomeUnknownError):
        await broker.submit(market("lost"), NOON)
    assert [type(await anext(reports)) for _ in range(2)] == [Connected, Disconnected]
    with pytest.raises(NotSentError):
        await broker.submit(market("next"), NOON)
    with pytest.raises(NotSentError):
        await broker.cancel("lost", "BTC")
    with pytest.raises(TransientError):
        await broker.fills(LONG_AGO)


async def test_an_order_survives_its_canceled_submitter(broker: PaperBroker) -> None:
    """A submitter that goes away in the middle leaves an order that works."""
    broker.on_book("BTC", BIDS, ASKS, NOON)
    task = asyncio.ensure_future(broker.submit(market("alone"), NOON))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await broker.settle()
    assert await fills_of(broker, "alone") == [("101", "1")]


async def test_a_filled_order_cannot_fill_again(broker: PaperBroker) -> None:
    """After an order is done, no market news gives it another fill under a new trade id."""
    reports = broker.reports()
    broker.on_book("BTC", BIDS, ASKS, NOON)
    await broker.submit(market("once"), NOON)
    for _ in range(5):
        broker.on_book("BTC", BIDS, ASKS, NOON)
        broker.on_trade("BTC", 50, 9, NOON)
        broker.on_bar("BTC", NOON, 100, 101, 99, 100, 9)
    await broker.settle()
    heard = [await anext(reports) for _ in range(4)]
    assert sum(isinstance(one, BrokerFill) for one in heard) == 1
    assert len(await broker.fills(LONG_AGO)) == 1


@pytest.mark.parametrize("name", ["fee_bps", "slippage_bps", "latency_s", "initial_cash"])
def test_terms_no_market_has_are_refused(name: str) -> None:
    """Figures below zero or not finite are refused by name."""
    for value in (D(-1), D("NaN")):
        with pytest.raises(InputError, match=name):
            replace(TERMS, **{name: value})
