"""The third path: a period replayed through everything that trades live, on virtual time.

Bars arrive as they were known then; the strategy driver proposes, the order desk asks risk and writes its journal, the
paper broker fills from the next bar. Nothing sleeps: the clock is moved from bar to bar, and each step waits for what
it set off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from flows.parity_paths import Case
from flows.signals import Decision, StrategyDriver
from flows.sizing import Sizing
from flows.trading import OrderDesk
from flows.trading_proposal import Pace, Proposal
from tasks.broker.matching import Terms, exact
from tasks.broker.paper import PaperBroker
from tasks.errors import DataError
from tasks.journal.entries import Kind
from tasks.journal.journal import Journal
from tasks.orders.account import Limits, Market, TradingState
from tasks.orders.order import ZERO, Order
from tasks.strategies.book_gate import BookGate, BookView

ACCOUNT = "parity"
#: What the desk does by itself takes real time; here it only has to notice what a step set off.
_PACE = Pace(tick_s=0.05, recheck_s=0.05, reconcile_s=1e9, grace_s=1e9, skew_s=0.0, dead_man_s=0.0, rehearse_s=0.0)
#: A sweep knows no limits: what it trades must pass unless the caller says otherwise.
UNLIMITED = Limits(
    max_order_fraction=Decimal(10**6),
    max_position_fraction=Decimal(10**6),
    max_gross_fraction=Decimal(10**6),
    period_collar=Decimal(10**6),
    market_collar=Decimal(1),
    max_reference_age_s=Decimal(10**9),
    orders_per_minute=10**6,
    symbol_orders_per_minute=10**6,
    strategy_orders_per_minute=10**6,
    max_losses_in_a_row=10**6,
    max_signal_age_s=Decimal(10**9),
    max_day_loss=Decimal(10**6),
    max_drawdown=Decimal(10**6),
    max_doubt_and_rejects=10**6,
)
#: A step that takes longer than this is stuck.
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """Bars as they came in, and when."""

    bars: pl.DataFrame
    at: datetime


@dataclass(frozen=True)
class Script:
    """How the replayed market differs from the one the sweep assumes; as it stands, not at all.

    Attributes:
        history: What the driver remembers before the period.
        arrivals: Bars in the order they came in, each decided on when it arrived.
        fills_from: The bars orders are filled from, as known then: one a row of the case.
        terms: The paper broker's.
        limits: The desk's.
        sizing: The driver's.
        invalid: Instants at which the stream does not vouch for its book.
        gate: What the book must say before a position is opened.
        books: Returns the book at an instant.
    """

    history: pl.DataFrame
    arrivals: Sequence[Arrival]
    fills_from: pl.DataFrame
    terms: Terms
    limits: Limits
    sizing: Sizing
    invalid: frozenset[datetime] = frozenset()
    gate: BookGate = field(default_factory=BookGate)
    books: Callable[[datetime], BookView] = field(default=lambda at: BookView(), repr=False)


@dataclass(frozen=True, slots=True)
class LiveOrder:
    """An order the replay asked for, with what the journal says became of it.

    Attributes:
        row: Of the bar it was decided on.
        decided_at: When.
        order: As it ended, with its fills.
        refused_by: The control that refused it, empty where risk let it pass.
    """

    row: int
    decided_at: datetime
    order: Order
    refused_by: str


@dataclass(frozen=True)
class Replayed:
    """What the live path did.

    Attributes:
        decisions: By row of the bar decided on.
        orders: By row of the bar decided on.
        memory: Returns the bars the driver knew when it decided on a row.
    """

    decisions: dict[int, Decision]
    orders: dict[int, LiveOrder]
    memory: Callable[[int], pl.DataFrame] = field(repr=False)


async def replay(case: Case, script: Script, folder: Path) -> Replayed:
    """Run the live path over the period of a case; journal and paper account are left in `folder`.

    Raises:
        DataError: The desk did not get ready, or got stuck.
    """
    stage = _Stage(case, script)
    broker = PaperBroker(folder / "paper.sqlite", clock=lambda: stage.now, terms=script.terms)
    try:
        with Journal(folder / "orders.sqlite") as journal:
            desk = OrderDesk(
                journal,
                broker,
                account=ACCOUNT,
                limits=script.limits,
                market=stage.market,
                clock=lambda: stage.now,
                steady=lambda: stage.now.timestamp(),
                on_change=stage.heard,
                pace=_PACE,
            )
            await _perform(stage, desk, broker, journal)
            return stage.told(journal)
    finally:
        await broker.close()


async def _perform(stage: _Stage, desk: OrderDesk, broker: PaperBroker, journal: Journal) -> None:
    """Walk through the period beside a desk that runs; the first thing that failed is what is raised."""
    stop = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(desk.run(stop))
            try:
                await stage.play(desk, broker, journal)
            finally:
                stop.set()
    except ExceptionGroup as many:
        failed: Exception = many
        while isinstance(failed, ExceptionGroup):
            failed = failed.exceptions[0]
        raise failed from many


class _Stage:
    """The virtual clock, and the walk from bar to bar."""

    def __init__(self, case: Case, script: Script) -> None:
        self._case, self._script = case, script
        self.now = case.stamps[case.first]
        self._price: Decimal | None = None
        self._cash: Decimal | None = None  # the broker's, asked for again once something was filled
        self._changed = asyncio.Event()
        self._decisions: dict[int, Decision] = {}
        self._asked: dict[int, tuple[str, datetime]] = {}
        self._rows = {stamp: row for row, stamp in enumerate(case.stamps)}
        self._driver = StrategyDriver(
            case.strategy.name,
            case.params.model_dump(),
            case.symbol,
            case.interval,
            sizing=script.sizing,
            history=script.history,
            gate=script.gate,
        )

    def market(self, symbol: str) -> Market:
        """Return what is known of the symbol now."""
        sizing, valid = self._script.sizing, self.now not in self._script.invalid
        steps = {"quantity_step": sizing.quantity_step, "min_notional": sizing.min_notional}
        return Market(self._price, valid=valid, period_price=self._price, **steps)

    def heard(self, order: Order) -> None:
        """Note that an order changed."""
        self._changed.set()

    async def play(self, desk: OrderDesk, broker: PaperBroker, journal: Journal) -> None:
        """Walk through the period."""
        await self._ready(desk)
        case, arrivals, place = self._case, self._script.arrivals, 0
        bars = self._script.fills_from.select("timestamp", "open", "high", "low", "close", "volume").rows()
        for row in range(case.first + 1, len(case.stamps)):
            opened = case.stamps[row]
            while place < len(arrivals) and arrivals[place].at <= opened:
                arrival = arrivals[place]
                at_open = arrival.at == opened
                self._quote(broker, arrival, exact(bars[row][1] if at_open else arrival.bars["close"][-1]))
                await self._take(desk, broker, journal, arrival, closing=row >= case.last)
                place += 1
            self.now = opened
            if row == case.last:
                await self._close_out(desk, journal, row)
            broker.on_bar(case.symbol, *bars[row])
            await self._catch_up(broker, journal)

    def told(self, journal: Journal) -> Replayed:
        """Return what the driver and the journal say."""
        verdicts: dict[str, str] = {}
        for line in journal.lines():
            if line.kind == Kind.RISK and line.client_order_id:
                verdicts[line.client_order_id] = line.body()["verdict"]["refused_by"]
        orders = {
            row: LiveOrder(row, at, journal.state.orders[name], verdicts[name])
            for row, (name, at) in self._asked.items()
        }
        return Replayed(self._decisions, orders, self._memory)

    def _memory(self, row: int) -> pl.DataFrame:
        decision = self._decisions[row]
        fed = [arrival.bars for arrival in self._script.arrivals if arrival.at <= decision.at]
        known = pl.concat([self._script.history, *fed]).filter(pl.col("timestamp") <= decision.timestamp)
        return known.unique("timestamp", keep="last").sort("timestamp").tail(decision.bars)

    def _quote(self, broker: PaperBroker, arrival: Arrival, price: Decimal) -> None:
        self.now, self._price = arrival.at, price
        broker.on_trade(self._case.symbol, price, ZERO, arrival.at)  # a price without a trade: nothing fills

    async def _take(
        self, desk: OrderDesk, broker: PaperBroker, journal: Journal, arrival: Arrival, *, closing: bool
    ) -> None:
        held = self._held(journal)
        if self._cash is None:
            account = await broker.account()
            self._cash = account.equity - held * (self._price or ZERO)
        equity = self._cash + held * (self._price or ZERO)
        book = self._script.books(arrival.at)
        proposal = self._driver.on_bar(arrival.bars, held, equity, self._price, arrival.at, book)
        decision = self._driver.last
        if decision is None or decision.at != arrival.at:
            return  # a restatement
        row = self._rows[decision.timestamp]
        self._decisions[row] = decision
        if proposal is not None and not closing:
            await self._ask(desk, journal, row, proposal)

    async def _close_out(self, desk: OrderDesk, journal: Journal, row: int) -> None:
        """Leave the market at the last bar that can be traded, as every run of a sweep does."""
        end = self._driver.close_out(self._held(journal), self._price, self.now, "the period's end")
        if end is not None:
            await self._ask(desk, journal, row - 1, end)

    async def _ask(self, desk: OrderDesk, journal: Journal, row: int, proposal: Proposal) -> None:
        name = desk.propose(proposal)
        self._asked[row] = name, proposal.decided_at
        await self._until(lambda: _is_placed(journal.state.orders, name), f"order {name} is placed or refused")

    async def _catch_up(self, broker: PaperBroker, journal: Journal) -> None:
        """Wait until the journal knows what the broker did."""
        open_names = [name for name, _ in self._asked.values() if not journal.state.orders[name].is_terminal]
        if not open_names:
            return
        self._cash = None
        await broker.settle()
        for name in open_names:
            truth = await broker.query(name, self._case.symbol)
            assert truth is not None  # noqa: S101  (it was placed)
            await self._until(
                lambda name=name, truth=truth: _agrees(journal.state.orders[name], truth), f"order {name} is {truth}"
            )

    async def _ready(self, desk: OrderDesk) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while desk.state is TradingState.RECONCILING:  # noqa: ASYNC110  (no event says so)
                await asyncio.sleep(0.005)
        if desk.state is not TradingState.ACTIVE:
            raise DataError(f"parity: expected a desk ready to trade, found it {desk.state}: {desk.halted_for}")

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise DataError(f"parity: expected within {_PATIENCE_S} s that {what}, found the desk stuck") from None

    def _held(self, journal: Journal) -> Decimal:
        return journal.state.positions.get((ACCOUNT, self._case.symbol), ZERO)


def _is_placed(orders: Mapping[str, Order], name: str) -> bool:
    order = orders.get(name)
    return order is not None and (order.is_terminal or bool(order.broker_order_ids))


def _agrees(order: Order, truth: Any) -> bool:
    return order.status is truth.status and order.filled_quantity == truth.filled_quantity


def terms_of(case: Case, **changed: Any) -> Terms:
    """Return the paper broker's terms that are the sweep's assumptions, with what is to be different."""
    same = {
        "fee_bps": exact(case.costs.fee_bps),
        "maker_fee_bps": exact(case.costs.fee_bps),
        "slippage_bps": exact(case.costs.slippage_bps),
        "latency_s": ZERO,
        "initial_cash": exact(case.costs.initial_cash),
    }
    return replace(Terms(**same), **changed)
