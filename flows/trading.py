"""The order desk: one task that owns every order, between strategies and a broker, with the journal in between.

Nothing reaches the broker before it is in the journal, nothing is believed that the broker did not say, and start-up is
recovery: the same code resolves what a crash and what a lost reply left in doubt. There are no locks; whatever happens
is put into one queue (halts and cancels first) and handled one after the other. docs/orders.md has the promises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from functools import partial
from time import monotonic
from typing import Any

from msgspec.structs import replace

from flows.trading_account import Exposure, check_broker, last_minute, recent_orders, told_limits
from flows.trading_agreement import Agreement
from flows.trading_cancels import Cancels
from flows.trading_core import Core, Doubt, Priority, log
from flows.trading_day import CashBook, Days
from flows.trading_decision import Decisions
from flows.trading_doubt import Doubts
from flows.trading_heartbeat import Heartbeat
from flows.trading_parents import Parents
from flows.trading_process import quick_process
from flows.trading_proposal import Pace, Proposal
from flows.trading_reports import Reports
from tasks.broker.port import Account, Broker
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tasks.orders.account import Book, Limits, Market, TradingState
from tasks.orders.guarantees import Step, next_step
from tasks.orders.lifecycle import Applied
from tasks.orders.order import UNCERTAIN, Order, OrderRequest, Pending, Status
from tasks.orders.risk import check
from tasks.stream.way import Way

#: How long a stop waits for answers.
DRAIN_S = 10.0
#: What the account is worth is journaled at most so often, and at once when a new day or a loss changes what it may do.
NOTE_S = 60.0


class OrderDesk:
    """One account's orders.

    Args:
        journal: Open, and ours alone.
        broker: The account's broker.
        account: Its name in ids and tables.
        limits: The account's risk limits.
        market: What is known of a symbol right now.
        clock: The wall clock, UTC.
        failpoint: Called with the name of every point at which a crash must be survived; for tests that kill there.
        on_change: Hears of every order that changed, after it is durable.
        on_halt: Hears why everything stopped, once it has.
        on_day: Hears a day's report, once it is on record; at the end of a run too.
        operator: Who starts it, for the line about its limits.
        cancel_at_stop: Whether a stop cancels what is still open; orders that only reduce stay.
        pace: How often it looks after things by itself.
        step: What to do about an order in doubt; tests put broken rules here.
        steady: Seconds of a clock that nobody sets: ages and rates count by it, not by the wall clock.
        way: Taken while an order is decided and sent; the market data of the same loop makes way.

    Attributes:
        halted_for: Why everything stopped, empty while it has not.

    Raises:
        ConfigurationError: The journal is of an account at another broker.
    """

    def __init__(
        self,
        journal: Journal,
        broker: Broker,
        *,
        account: str,
        limits: Limits,
        market: Callable[[str], Market],
        clock: Callable[[], datetime],
        failpoint: Callable[[str], None] = lambda name: None,
        on_change: Callable[[Order], None] = lambda order: None,
        on_halt: Callable[[str], None] = lambda reason: None,
        on_day: Callable[[dict[str, Any]], None] = lambda report: None,
        operator: str = "",
        cancel_at_stop: bool = False,
        pace: Pace | None = None,
        step: Callable[..., Step] = next_step,
        steady: Callable[[], float] = monotonic,
        way: Way | None = None,
    ) -> None:
        check_broker(journal, broker.name)
        self._core = Core(journal, broker, account, clock, failpoint, on_change, steady, way)
        self._market, self._pace = market, pace or Pace()
        self._on_halt, self._cancel_at_stop, self._operator = on_halt, cancel_at_stop, operator
        self._exposure = Exposure(limits, market)
        self._heartbeat = Heartbeat(self._core, self._pace.dead_man_s)
        self._parents = Parents(self._core.order, recent_orders(journal))
        self._decisions = Decisions(self._core, self._exposure, self._parents, market=market, book=self.book)
        self._reports = Reports(self._core, halt=self._halt, price=self._price, lost=self._reconcile)
        self._doubts = Doubts(
            self._core,
            adopt=self._reports.adopt,
            objection=self._objection,
            compared=self._compared,
            sent=lambda request: self._exposure.ordered(request, self._core.steady()),
            skew_s=self._pace.skew_s,
            step=step,
        )
        self._cancels = Cancels(self._core, self._reports.adopt)
        self._cash = CashBook(journal, account, limits.max_cash_difference)
        self._days = Days(self._core, self._cash, on_day)
        self._agreement = Agreement(
            self._core,
            self._reports,
            self._doubts,
            self._cash,
            measured=self._measured,
            halt=self._halt,
            grace_s=self._pace.grace_s,
        )
        self._core.followers.append(self._watch)
        self.halted_for = ""
        self._stopping = self._ticking = False
        self._compared_at = self._noted_at = 0.0
        self._noted: dict[str, Any] = {}
        self._troubled: set[str] = set()

    @property
    def state(self) -> TradingState:
        """What the account may do."""
        if self.halted_for:
            return TradingState.HALTED
        if not self._agreement.agreed:
            return TradingState.RECONCILING
        return TradingState.REDUCING if self._exposure.reducing else TradingState.ACTIVE

    @property
    def equity(self) -> Decimal | None:
        """What the account is worth, None before the broker said so."""
        return self._exposure.equity

    @property
    def doubts(self) -> frozenset[str]:
        """Every order the broker is being asked about."""
        return frozenset(self._core.doubts)

    @property
    def working(self) -> list[Order]:
        """Every order that has not ended, the newest last."""
        return list(self._core.working.values())

    @property
    def limits(self) -> Limits:
        """What risk holds the account against."""
        return self._exposure.limits

    @property
    def written(self) -> list[tuple[datetime, Entry]]:
        """The last entries of the journal, oldest first, with their times."""
        return list(self._core.written)

    def propose(self, proposal: Proposal) -> str:
        """Ask for an order and return the id it will have; the same signal gives the same id and at most one order.

        Raises:
            InputError: No broker could take it.
        """
        request = proposal.request(self._core.account)
        self._core.put(Priority.PROPOSAL, partial(self._propose, request, proposal))
        return request.client_order_id

    def note(self, *entries: Entry) -> None:
        """Write down what explains orders and changes none."""
        self._core.put(Priority.PROPOSAL, partial(self._note, entries))

    def cancel(self, identifier: str) -> None:
        """Ask for the cancellation of an order."""
        self._core.put(Priority.CANCEL, partial(self._cancels.request, identifier))

    def halt(self, reason: str) -> None:
        """Stop everything but cancels, and cancel what is open. Stays, also across restarts, until cleared."""
        self._core.put(Priority.HALT, partial(self._halt, reason))

    def clear(self, operator: str) -> None:
        """Let a person end a halt; trading goes on once broker and journal agree."""
        self._core.put(Priority.HALT, partial(self._clear, operator))

    async def run(self, stop: asyncio.Event) -> None:
        """Recover, then handle what comes until `stop` is set and requests under way are answered.

        Raises:
            ExceptionGroup: With a DataError where the journal could not be written: nothing more may be sent.
        """
        self._remember()
        core, limits = self._core, self._exposure.limits
        await core.commit(told_limits(limits, core.journal, core.broker, self._operator))
        with quick_process():
            await self._trade(stop)
        await self._heartbeat.end()
        if self._exposure.equity is not None:
            await self._days.end(self._agreement.differing, self.halted_for)
            await self._core.commit(Entry(Kind.ACCOUNT, body=self._memory()))
        await self._core.commit(Entry(Kind.SHUTDOWN, body={"in_doubt": sorted(self._core.doubts)}))

    async def _trade(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            consumer = group.create_task(self._core.consume(group))
            beside = (self._reports.listen(), self._tick(), self._rehearse())
            workers = [group.create_task(one) for one in beside]
            self._core.put(Priority.HALT, self._recover)
            await stop.wait()
            await self._drain()
            for worker in (consumer, *workers, *self._core.errands):
                worker.cancel()

    def book(self, *, without: str = "") -> Book:
        """Return the account as risk sees it."""
        core = self._core
        held = {s: held for (owner, s), held in core.journal.state.positions.items() if owner == core.account and held}
        orders = tuple(order for key, order in core.working.items() if key != without)
        return self._exposure.book(self.state, held, orders, self._core.steady())

    async def _recover(self) -> None:
        self._troubled |= self._core.working.keys()  # one crash is one trouble, not one per order it left in doubt
        await self._doubts.recall()
        await self._reconcile()

    async def _propose(self, request: OrderRequest, proposal: Proposal) -> None:
        core, identifier, now = self._core, request.client_order_id, self._core.clock()
        if core.order(identifier) is not None:
            return  # the same signal again: the order exists, whatever became of it
        if self._stopping:
            log.warning("proposal.dropped", client_order_id=identifier, reason="the desk is stopping")
            return
        decided = self._decisions.decide(request, proposal, now)
        verdict, sending = decided.verdict, partial(self._send, decided.request, now, proposal.decided_at)
        core.failpoint("K0")
        await core.commit(*decided.entries, meanwhile=sending if verdict.passed else None)
        if verdict.refused_by == "order_rate" and self._exposure.ran_away(core.steady()):
            await self._halt("a strategy kept asking for more orders than the rate limits allow")

    def _send(self, request: OrderRequest, now: datetime, decided_at: datetime, durable: Awaitable[None]) -> None:
        self._parents.add(request)
        self._doubts.submit(request, now, decided_at, durable=durable)

    async def _note(self, entries: tuple[Entry, ...]) -> None:
        await self._core.commit(*entries)

    def _objection(self, order: Order, doubt: Doubt) -> str:
        """Return why an order that was proved absent must not be sent again, empty where it may."""
        request, now = order.request, self._core.clock()
        if order.pending is Pending.CANCEL or self._stopping:
            return "it shall be cancelled, or the desk is stopping"
        if request.symbol in self._agreement.differing:  # by what this order filled, perhaps, whatever a query says
            return f"journal and broker hold different positions of {request.symbol}"
        book = self.book(without=request.client_order_id)
        if book.state is TradingState.RECONCILING:  # what is being reconciled is this very order
            book = replace(book, state=TradingState.ACTIVE)
        age_s, market = (now - doubt.decided_at).total_seconds(), self._market(request.symbol)
        limits = self._exposure.limits  # its signal's other orders were held against it when it was sent first
        return check(request, book, market, limits, now_s=self._core.steady(), signal_age_s=age_s).reason

    def _watch(self, applied: Applied) -> None:
        """Halt where an order shows that something is wrong with more than itself."""
        order = applied.order
        identifier = order.request.client_order_id
        if order.status in (Status.REJECTED, Status.IN_DOUBT) and identifier not in self._troubled:
            self._troubled.add(identifier)
            self._exposure.trouble(self._core.steady())
            self._core.put(Priority.HALT, self._tighten)
        lives = "resurrected" in order.flags and bool(applied.alert)  # what proved that it had ended was wrong
        self._exposure.reducing |= lives
        if self._exposure.lost(order) or lives:
            self._core.put(Priority.HALT, self._tighten)
        if "overfilled" in order.flags and applied.alert:
            self.halt(f"order {identifier} filled more than it asked for")

    async def _tighten(self) -> None:
        book = self.book()
        called = self._exposure.called_for(book, self._core.steady())
        if called is TradingState.HALTED and not self.halted_for:
            await self._halt("too many orders rejected or in doubt, or too large a loss from the highest equity")
        elif called is TradingState.REDUCING:
            self._exposure.reducing = True
        await self._write_memory()

    async def _measured(self, account: Account) -> None:
        await self._days.look(account, self._agreement.differing, self.halted_for)
        self._exposure.measure(account, self._core.clock())
        await self._tighten()

    async def _write_memory(self) -> None:
        told, known, now = self._memory(), self._noted, monotonic()
        is_news = any(told[name] != known.get(name) for name in ("day", "day_equity", "reducing", "losses_in_a_row"))
        if is_news or (told != known and now - self._noted_at >= NOTE_S):
            self._noted, self._noted_at = told, now
            await self._core.commit(Entry(Kind.ACCOUNT, body=told))

    def _memory(self) -> dict[str, Any]:
        """Return what a restart must not forget."""
        return self._exposure.memory() | self._days.memory()

    async def _halt(self, reason: str) -> None:
        if self.halted_for:
            return
        self.halted_for = reason
        await self._core.commit(Entry(Kind.OPERATOR, body={"halt": reason}))
        log.error("trading.halted", account=self._core.account, reason=reason)
        self._on_halt(reason)
        await self._cancel_all()

    async def _cancel_all(self) -> None:
        for identifier in list(self._core.working):
            await self._cancels.request(identifier)

    async def _clear(self, operator: str) -> None:
        await self._core.commit(Entry(Kind.OPERATOR, body={"clear": operator}))
        self.halted_for, self._agreement.agreed = "", False
        self._exposure.forgive()
        self._cash.forget()
        self._doubts.settle()
        await self._reconcile()

    def _remember(self) -> None:
        """Take up what an earlier process must not have known in vain: a halt, the day's and the highest equity."""
        core, journal = self._core, self._core.journal
        operator, account = journal.last(Kind.OPERATOR), journal.last(Kind.ACCOUNT)
        self.halted_for = operator.body().get("halt", "") if operator else ""
        memory = account.body() if account is not None else None
        self._exposure.recall(journal.state.orders.values(), memory)
        self._exposure.resume(last_minute(journal, recent_orders(journal), core.clock()), core.steady())
        self._days.recall(memory or {}, 0 if account is None else account.seq)

    async def _reconcile(self) -> None:
        self._compared_at = monotonic()
        await self._agreement.reconcile()

    async def _compared(self, since_s: float) -> bool:
        if self._agreement.compared_s < since_s:
            await self._reconcile()
        return self._agreement.compared_s >= since_s

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._pace.tick_s)
            if not self._ticking:
                self._ticking = True
                self._core.put(Priority.TICK, self._look_after)

    async def _rehearse(self) -> None:
        while self._pace.rehearse_s:
            await asyncio.sleep(self._pace.rehearse_s)
            self._decisions.rehearse()

    async def _look_after(self) -> None:
        self._ticking = False
        self._heartbeat.beat()
        self.book()  # values what is held, so that an order need not wait for that
        await self._doubts.resolve()
        if self.halted_for:
            await self._cancel_all()
        elif self._stopping and self._cancel_at_stop:
            await self._cancel_entries()  # also those whose cancel was refused: they work on
        await self._cancels.retry()
        if self._reports.is_behind:
            self._reports.fetch()
        every_s = self._pace.reconcile_s if self._agreement.complete else self._pace.recheck_s
        if monotonic() - self._compared_at >= every_s:
            await self._reconcile()

    async def _drain(self) -> None:
        """Take no more proposals, cancel entries, and give requests under way a while to be answered."""
        self._stopping = True
        if self._cancel_at_stop:
            self._core.put(Priority.HALT, self._cancel_entries)
        try:
            async with asyncio.timeout(DRAIN_S):
                while self._is_busy:  # noqa: ASYNC110  (no one event says so)
                    await asyncio.sleep(self._pace.tick_s / 5)
        except TimeoutError:
            log.warning("drain.incomplete", in_doubt=sorted(self._core.doubts))

    @property
    def _is_busy(self) -> bool:
        open_entries = (o for o in self._core.working.values() if not o.request.reduce_only)
        waiting = self._cancel_at_stop and any(one.status not in UNCERTAIN for one in open_entries)
        return waiting or not self._core.is_idle or self._doubts.unresolved

    async def _cancel_entries(self) -> None:
        for identifier, order in list(self._core.working.items()):
            if not order.request.reduce_only:
                await self._cancels.request(identifier)

    def _price(self, symbol: str) -> Decimal | None:
        return self._market(symbol).reference_price
