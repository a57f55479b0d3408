"""An order desk on paper, and a broker in front of it that loses, holds back and hides what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from flows.trading import OrderDesk
from flows.trading_proposal import Pace, Proposal
from tasks.broker.matching import Terms
from tasks.broker.paper import PaperBroker
from tasks.broker.port import (
    Account,
    BrokerFill,
    BrokerOrder,
    DefiniteRejection,
    Features,
    OutcomeUnknownError,
    Recorded,
    on_disk,
)
from tasks.errors import ProtocolError, TransientError
from tasks.journal.entries import Kind
from tasks.journal.journal import Journal
from tasks.orders.account import Limits, Market, TradingState
from tasks.orders.guarantees import IdempotencyProfile
from tasks.orders.order import Order, OrderRequest, OrderType, Side, Status, TimeInForce

SYMBOL = "BTCUSDT"
QUICK = Pace(tick_s=0.01, recheck_s=0.02, reconcile_s=0.2, grace_s=0.1, skew_s=0.0)
#: One order is one trouble; tests that halt for troubles set their own.
LIMITS = Limits(
    max_doubt_and_rejects=1000, orders_per_minute=1000, symbol_orders_per_minute=1000, strategy_orders_per_minute=1000
)


def now() -> datetime:
    """Return the wall clock."""
    return datetime.now(UTC)


def proposal(number: int = 1, side: Side = Side.BUY, limit: int | None = None, quantity: str = "1") -> Proposal:
    """Return a wish for one unit: at the market, or waiting at a price."""
    kind, force = (OrderType.LIMIT, TimeInForce.GTC) if limit else (OrderType.MARKET, TimeInForce.IOC)
    price = Decimal(limit) if limit else None
    return Proposal("test", SYMBOL, side, Decimal(quantity), f"bar {number}", now(), kind, price, force)


@dataclass
class FaultyBroker:
    """A paper broker behind a bad line.

    Attributes:
        lose_replies: Submits and cancels take effect, and their outcome is unknown.
        swallow: Submits vanish, and their outcome is unknown.
        late_cancels: So many cancels are refused, as by an exchange that does not find the order yet.
        refuse_again: Where given, the broker's words to every further submit of an id.
        released: Where given, submits wait for it before they reach the broker.
        hidden: Neither query nor lists show these orders.
        mute: The stream says nothing.
        down: No question is answered.
        absurd: Every answer is nonsense.
        extra: Added to the broker's position, as if somebody else had traded.
        gift: Added to the broker's cash, as if somebody had paid it in.
        secretive: The broker does not tell its cash.
        submits: Every id that was submitted.
        cancels: Every id whose cancellation was asked for.
        calls: Every time after which everything was to be cancelled.
        features: As paper declares them, unless a test says otherwise.
    """

    paper: PaperBroker
    profile: IdempotencyProfile = PaperBroker.profile
    lose_replies: bool = False
    swallow: bool = False
    late_cancels: int = 0
    refuse_again: str = ""
    released: asyncio.Event | None = None
    hidden: set[str] = field(default_factory=set)
    mute: bool = False
    down: bool = False
    absurd: bool = False
    extra: Decimal = Decimal(0)
    gift: Decimal = Decimal(0)
    secretive: bool = False
    submits: list[str] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    features: Features = PaperBroker.features
    name: str = "faulty"
    is_live: bool = False

    async def submit(self, request: OrderRequest, sent_at: datetime, recorded: Recorded = on_disk) -> BrokerOrder:
        """Place an order, or lose it or its reply."""
        await recorded()
        self.submits.append(request.client_order_id)
        if self.released is not None:
            await self.released.wait()
        if self.refuse_again and self.submits.count(request.client_order_id) > 1:
            raise DefiniteRejection(self.refuse_again)
        if self.swallow:
            raise OutcomeUnknownError("the line went dead")
        found = await self.paper.submit(request, sent_at)
        if self.lose_replies:
            raise OutcomeUnknownError("the reply was lost")
        return found

    async def cancel(self, client_order_id: str, symbol: str) -> BrokerOrder:
        """Cancel an order."""
        self.cancels.append(client_order_id)
        if self.late_cancels:
            self.late_cancels -= 1
            raise DefiniteRejection("unknown order")
        found = await self.paper.cancel(client_order_id, symbol)
        if self.lose_replies:
            raise OutcomeUnknownError("the reply was lost")
        return found

    async def cancel_all_after(self, timeout_s: float) -> None:
        """Have everything cancelled in so long."""
        self._asked()
        self.calls.append(timeout_s)
        await self.paper.cancel_all_after(timeout_s)

    async def query(self, client_order_id: str, symbol: str) -> BrokerOrder | None:
        """Return an order that is not hidden."""
        self._asked()
        return None if client_order_id in self.hidden else await self.paper.query(client_order_id, symbol)

    async def open_orders(self) -> list[BrokerOrder]:
        """Return open orders that are not hidden."""
        self._asked()
        return [one for one in await self.paper.open_orders() if one.client_order_id not in self.hidden]

    async def fills(self, since: datetime) -> list[BrokerFill]:
        """Return executions of orders that are not hidden."""
        self._asked()
        return [one for one in await self.paper.fills(since) if one.client_order_id not in self.hidden]

    async def account(self) -> Account:
        """Return the account, with what somebody else traded."""
        self._asked()
        account = await self.paper.account()
        held = account.positions.get(SYMBOL, Decimal(0)) + self.extra
        cash = None if account.cash is None or self.secretive else account.cash + self.gift
        return Account(account.equity, account.available, {SYMBOL: held} if held else {}, cash)

    async def reports(self) -> AsyncIterator[object]:
        """Yield what happens, unless mute."""
        async for report in self.paper.reports():
            if not self.mute:
                yield report

    async def close(self) -> None:
        """Release the paper broker."""
        await self.paper.close()

    def _asked(self) -> None:
        if self.down:
            raise TransientError("nobody answers")
        if self.absurd:
            raise ProtocolError("an order of an unexpected shape")


async def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for something, with patience for a busy machine; `what` says what never happened."""
    try:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110  (any condition a test can think of)
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never happened: {what()}") from None


@asynccontextmanager
async def running(run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run something beside the block until it is told to stop, and let it stop clean."""
    stop = asyncio.Event()
    task = asyncio.create_task(run(stop))
    try:
        yield
        stop.set()
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])


class Rig:
    """A desk that runs, and what tests ask of it."""

    def __init__(self, desk: OrderDesk, broker: FaultyBroker, journal: Journal) -> None:
        self.desk, self.broker, self.journal = desk, broker, journal

    def order(self, identifier: str) -> Order:
        """Return an order as it stands."""
        return self.journal.state.orders[identifier]

    def status(self, identifier: str) -> Status | None:
        """Return where an order stands, None before it is on record."""
        order = self.journal.state.orders.get(identifier)
        return order.status if order else None

    def quote(self, bid: float = 99.0, ask: float = 101.0) -> None:
        """Show the broker a book of ten units each side."""
        self.broker.paper.on_book(SYMBOL, [(bid, 10.0)], [(ask, 10.0)], now())

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something, with patience for a busy machine."""
        await until(condition, lambda: f"{what}; {self.journal.state.orders}")

    async def until_status(self, identifier: str, status: Status) -> None:
        """Wait until an order stands somewhere."""
        await self.until(lambda: self.status(identifier) is status, f"{identifier} is {status}")

    async def until_state(self, state: TradingState) -> None:
        """Wait until the account may do something."""
        await self.until(lambda: self.desk.state is state, f"trading is {state}")

    def kinds(self, identifier: str = "") -> list[str]:
        """Return the kinds of all lines, or those of an order."""
        return [line.kind for line in self.journal.lines(identifier or None)]

    def bodies(self, kind: Kind) -> list[dict]:
        """Return the bodies of all lines of a kind."""
        return [line.body() for line in self.journal.lines() if line.kind == kind]


async def waiting(rig: Rig) -> str:
    """Have an order wait at 99."""
    await rig.until_state(TradingState.ACTIVE)
    identifier = rig.desk.propose(proposal(limit=99))
    await rig.until_status(identifier, Status.ACCEPTED)
    return identifier


def market_at(price: Decimal | None = Decimal(100)) -> Callable[[str], Market]:
    """Return a market that always knows its price."""
    return lambda symbol: Market(price, Decimal(0), period_price=price)


@asynccontextmanager
async def trading(
    folder: Path,
    *,
    limits: Limits = LIMITS,
    market: Callable[[str], Market] | None = None,
    prepare: Callable[[FaultyBroker], None] = lambda broker: None,
    pace: Pace = QUICK,
    operator: str = "",
    clock: Callable[[], datetime] = now,
) -> AsyncIterator[Rig]:
    """Run a desk on a folder's journal and paper account, as often as wanted; it stops clean at the end."""
    terms = Terms(latency_s=Decimal(0), initial_cash=Decimal(100_000))
    broker = FaultyBroker(PaperBroker(folder / "paper.sqlite", clock=now, terms=terms))
    prepare(broker)
    with Journal(folder / "orders.sqlite") as journal:
        desk = OrderDesk(
            journal,
            broker,  # type: ignore[arg-type]
            account="paper",
            limits=limits,
            market=market or market_at(),
            clock=clock,
            pace=pace,
            operator=operator,
        )
        rig = Rig(desk, broker, journal)
        rig.quote()
        try:
            async with running(desk.run):
                yield rig
        finally:
            await broker.close()
