"""An order desk in a process of its own that is killed at chosen points; the suite kills a few, `proof_orders.py` many.

The broker is the local market in another process, with gateway ghosts, lost replies and refusals after acceptance. A
life starts on the journal that the last one left, trades without end, and dies where its spec says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from pydantic import SecretStr

from flows.trading import OrderDesk
from flows.trading_core import Doubt
from flows.trading_proposal import Pace, Proposal
from tasks.broker.local import LocalBroker, LocalSettings
from tasks.broker.port import BrokerOrder, Recorded, on_disk
from tasks.errors import ConfigurationError, DataError
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tasks.orders.account import Limits, Market, TradingState
from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile, Step, next_step
from tasks.orders.order import Order, OrderRequest, OrderType, Side, TimeInForce

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
#: A request is dead after so long: short, so that recovery is too.
DEADLINE_S, LAG_S, TIMEOUT_S = 0.15, 0.05, 0.08
PACE = Pace(tick_s=0.01, recheck_s=0.03, reconcile_s=0.5, grace_s=5.0, skew_s=0.02, dead_man_s=0.0)
_WIDE = Decimal(1_000_000)
LIMITS = Limits(
    max_order_fraction=_WIDE,
    max_position_fraction=_WIDE,
    max_gross_fraction=_WIDE,
    price_collar=_WIDE,
    period_collar=_WIDE,
    market_collar=_WIDE,
    orders_per_minute=1_000_000,
    symbol_orders_per_minute=1_000_000,
    strategy_orders_per_minute=1_000_000,
    max_losses_in_a_row=1_000_000,
    max_signal_age_s=Decimal(3600),
    max_day_loss=_WIDE,
    max_drawdown=_WIDE,
    max_doubt_and_rejects=1_000_000,
)
#: Where a life can end; design and meaning in docs/orders.md.
POINTS = (
    "K0", "K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K9", "K10", "K11", "K12", "K13", "K14", "K15", "K18", "K20",
    "recovery", "random",
)  # fmt: skip
HELD, FULL = 3, 4  # exit statuses: another process holds the journal; the disk took nothing more


def at_once(profile: IdempotencyProfile, **known: Any) -> Step:
    """Send every order in doubt again at once, under its id: a broken rule that the proof has to catch."""
    return Step.PROVED_ABSENT


def asked_at_once(profile: IdempotencyProfile, *, not_found: int, **known: Any) -> Step:
    """Ask at once and send again what is not found: a broken rule that the proof has to catch."""
    return Step.PROVED_ABSENT if not_found else Step.QUERY


RULES: dict[str, Callable[..., Step]] = {"ours": next_step, "resend at once": at_once, "query at once": asked_at_once}


@dataclass(frozen=True)
class Life:
    """How a process is to live.

    Attributes:
        folder: Where its journal lies.
        url: The market.
        key: The account there.
        grade: What the market guarantees.
        rule: One of `RULES`.
        point: Where it dies, one of `POINTS`; empty to finish what is open and end well.
        hits: How often it may pass there before.
        seed: Of its random moments.
    """

    folder: str
    url: str
    key: str
    grade: IdempotencyClass
    rule: str = "ours"
    point: str = ""
    hits: int = 0
    seed: int = 0


class Killer:
    """Ends this process where it was told to.

    Args:
        life: Where, and after how many times.
    """

    def __init__(self, life: Life) -> None:
        self._point, self._left = life.point, life.hits
        self.random = random.Random(life.seed)  # noqa: S311  (a moment, not a secret)

    def passes(self, name: str) -> None:
        """End here, where this is the point."""
        if self.strikes(name):
            self.kill()

    def strikes(self, name: str) -> bool:
        """Return whether this is the point, and the time has come."""
        if name != self._point:
            return False
        self._left -= 1
        return self._left < 0

    def kill(self) -> None:
        """End at once, as `kill -9` does."""
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_within(self, seconds: float) -> None:
        """End at a random moment."""
        timer = threading.Timer(self.random.random() * seconds, self.kill)
        timer.daemon = True
        timer.start()


class KilledJournal(Journal):
    """A journal that dies inside a transaction, during a checkpoint, or finds its disk full."""

    def __init__(self, path: Path, killer: Killer) -> None:
        super().__init__(path)
        self._killer, self._recovered, self._creating = killer, False, False

    def _begin(self, entries: Sequence[Entry]) -> Any:
        assert self._database is not None
        if self._killer.strikes("K20"):
            self._database.execute("PRAGMA max_page_count = 1")  # SQLite makes it: no more pages than there are
        return super()._begin(entries)

    def _end(self) -> None:
        assert self._database is not None
        if self._creating and self._killer.strikes("K1"):  # the request is being made meanwhile
            self._killer.kill_within(self._killer.random.choice((0.0, 0.001)))
        super()._end()
        if self._killer.strikes("K15"):
            self._killer.kill_within(0.002)
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _write(self, lines: Any, draft: Any) -> None:
        super()._write(lines, draft)
        self._creating = any(line.kind == Kind.CREATED for line in lines)
        if not self._recovered:
            self._recovered = True
            self._killer.passes("recovery")


class KilledBroker(LocalBroker):
    """The local market behind a process that dies while a request is under way."""

    killer: Killer

    async def submit(self, request: OrderRequest, sent_at: datetime, recorded: Recorded = on_disk) -> BrokerOrder:
        """Place an order, unless this is the end."""
        leaving = asyncio.Event()

        async def left() -> None:
            await recorded()
            leaving.set()

        return await self._under_way(super().submit(request, sent_at, left), leaving)

    async def cancel(self, client_order_id: str, symbol: str) -> BrokerOrder:
        """Cancel an order, unless this is the end."""
        leaving = asyncio.Event()
        leaving.set()
        return await self._under_way(super().cancel(client_order_id, symbol), leaving)

    async def _under_way(self, call: Awaitable[BrokerOrder], leaving: asyncio.Event) -> BrokerOrder:
        sending = asyncio.ensure_future(call)
        if self.killer.strikes("K3"):
            await leaving.wait()
            for _ in range(self.killer.random.randrange(1, 6)):  # somewhere between the first byte and the last
                await asyncio.sleep(0)
            self.killer.kill()
        if self.killer.strikes("K4"):
            self.killer.kill_within(0.01)
        try:
            return await sending
        finally:
            if sending.done():
                self.killer.passes("K5")
                self.killer.passes("K6")


class Trader:
    """A strategy that always wants something: units at the market, and now and then an order that waits.

    Args:
        desk: Takes its wishes.
        journal: Says how far an earlier life came.
    """

    def __init__(self, desk: OrderDesk, journal: Journal) -> None:
        self._desk, self._journal = desk, journal
        self.changed = asyncio.Event()

    def on_change(self, order: Order) -> None:
        """Look again."""
        self.changed.set()

    async def trade(self, symbol: str) -> None:
        """Want one order after the other in a symbol, for ever."""
        number = sum(order.request.symbol == symbol for order in self._journal.state.orders.values())
        self._cancel_left_over(symbol)
        while True:
            await self._until(lambda: self._desk.state is TradingState.ACTIVE)
            wish = _wish(symbol, number, datetime.now(UTC))
            await self._see_through(self._desk.propose(wish), cancel=wish.order_type is OrderType.LIMIT)
            number += 1

    def _cancel_left_over(self, symbol: str = "") -> None:
        """Cancel what an earlier life let wait."""
        for identifier, order in self._journal.state.orders.items():
            if not order.is_terminal and symbol in ("", order.request.symbol):
                self._desk.cancel(identifier)

    async def _see_through(self, identifier: str, *, cancel: bool) -> None:
        orders = self._journal.state.orders
        await self._until(lambda: identifier in orders)
        if cancel:
            self._desk.cancel(identifier)
        await self._until(lambda: orders[identifier].is_terminal)

    async def settled(self) -> None:
        """Wait until every order has ended, and broker and journal agree."""
        orders = self._journal.state.orders
        self._cancel_left_over()
        await self._until(
            lambda: (
                self._desk.state is TradingState.ACTIVE
                and not self._desk.doubts
                and all(order.is_terminal for order in orders.values())
            )
        )

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await self.changed.wait()


def _wish(symbol: str, number: int, now: datetime) -> Proposal:
    side = Side.BUY if number % 2 == 0 else Side.SELL
    key = f"{symbol} {number}"
    if number % 4 == 3:
        price, forever = Decimal(1), TimeInForce.GTC
        return Proposal("proof", symbol, Side.BUY, Decimal(1), key, now, OrderType.LIMIT, price, forever)
    return Proposal("proof", symbol, side, Decimal("0.01"), key, now)


def live(life: Life) -> None:
    """Live one life in this process: the target of a child."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # thousands of doubts are meant here
    try:
        asyncio.run(_live(life))
    except* ConfigurationError:
        os._exit(HELD)
    except* DataError:
        os._exit(FULL)


async def _live(life: Life) -> None:
    killer, stop = Killer(life), asyncio.Event()
    settings = LocalSettings(life.url, SecretStr(life.key), life.grade, DEADLINE_S, LAG_S, TIMEOUT_S)
    broker = KilledBroker(settings, clock=partial(datetime.now, UTC))
    broker.killer = killer
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with KilledJournal(Path(life.folder) / "orders.sqlite", killer) as journal:
        trader: Trader
        desk = OrderDesk(
            journal,
            broker,
            account="proof",
            limits=LIMITS,
            market=lambda symbol: Market(Decimal(100), period_price=Decimal(100)),
            clock=partial(datetime.now, UTC),
            failpoint=killer.passes,
            on_change=lambda order: trader.on_change(order),
            pace=PACE,
            step=RULES[life.rule],
        )
        if life.rule != "ours":
            _look_at_no_position(desk)
        trader = Trader(desk, journal)
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(desk.run(stop))
                trading = [group.create_task(trader.trade(symbol)) for symbol in SYMBOLS if life.point]
                if life.point:
                    _doom(life, killer)
                    await running
                else:
                    await trader.settled()
                    stop.set()
                    await running
                for task in trading:
                    task.cancel()
        finally:
            await broker.close()


def _look_at_no_position(desk: OrderDesk) -> None:
    """Let a broken rule be as broken as it is elsewhere, where no position is looked at before sending again."""
    objection = desk._doubts._objection

    async def compared(since_s: float) -> bool:
        return True

    def blind(order: Order, doubt: Doubt) -> str:
        said = objection(order, doubt)
        return "" if said.startswith("journal and broker") else said

    desk._doubts._compared, desk._doubts._objection = compared, blind


def _doom(life: Life, killer: Killer) -> None:
    """See to it that this life ends, even where it never comes to its point."""
    if life.point == "K18":
        timer = threading.Timer(0.3 + killer.random.random() / 2, _terminate_then_kill, [killer])
        timer.daemon = True
        timer.start()
    elif life.point == "random":
        killer.kill_within(1.0)
    last = threading.Timer(1.5, killer.kill)
    last.daemon = True
    last.start()


def _terminate_then_kill(killer: Killer) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    killer.kill_within(0.05)
