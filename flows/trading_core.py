"""What the parts of the order desk share: one queue that one task works off, and the journal before everything else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from itertools import count
from typing import Any, TypeVar

import structlog

from tasks.broker.port import Broker, BrokerOrder
from tasks.errors import TransientError
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tasks.orders.lifecycle import Applied, Event
from tasks.orders.order import Order
from tasks.orders.states import Happening
from tasks.stream.way import Way

log = structlog.get_logger("flows.trading")

#: Entries kept for whoever watches.
_KEPT = 40
#: How long a question waits for its answer, its turn at a rate limit included.
ANSWER_S = 90.0

_T = TypeVar("_T")

Handler = Callable[[], Coroutine[Any, Any, None]]
#: Takes over what the broker says of an order, and where it said so.
Adopt = Callable[[BrokerOrder, str], Coroutine[Any, Any, None]]


class Priority(IntEnum):
    """What is handled before what, however long it waited."""

    HALT = 0
    CANCEL = 1
    REPLY = 2
    TICK = 3
    PROPOSAL = 4


#: What goes before the ticks that wait to be looked at.
_FIRST = (Priority.HALT, Priority.CANCEL, Priority.PROPOSAL)


@dataclass(slots=True)
class Doubt:
    """An order that the broker has to be asked about.

    Attributes:
        sent_s: When the last request that may take effect was sent, or when the question arose, by the steady clock: a
            wall clock that is set makes no request older.
        decided_at: When its signal was decided.
        not_found: Answers "not found" that count.
        asked_after_s: How long after `sent_s` the last of them was asked for.
        busy: A request about it is under way.
        given_up: Nobody can tell; a person was called.
        looked_at: A person looked since, and cleared it: if the broker still does not find it, it was never placed.
        before_s: When the request before the last was sent, None where there is one alone.
        refused: The broker's words, where it refused a request that came after another one.
    """

    sent_s: float
    decided_at: datetime
    not_found: int = 0
    asked_after_s: float = 0.0
    busy: bool = False
    given_up: bool = False
    looked_at: bool = False
    before_s: float | None = None
    refused: str = ""


class Core:
    """The one task's world: every change of an order happens in a handler of its queue.

    Args:
        journal: Open, and ours alone.
        broker: The account's broker.
        account: Its name in ids and tables.
        clock: The wall clock, UTC.
        failpoint: Called with the name of every point at which a crash must be survived.
        on_change: Hears of every order that changed, after it is durable.
        steady: Seconds of a clock that nobody sets: ages and rates count by it.
        way: Taken while something is decided and sent.

    Attributes:
        working: Every order that has not ended.
        doubts: Every order that the broker has to be asked about.
        followers: Called with whatever a commit did to an order.
        errands: What is being done beside the queue.
        written: The last entries that were written, with the time, for whoever watches.
    """

    def __init__(
        self,
        journal: Journal,
        broker: Broker,
        account: str,
        clock: Callable[[], datetime],
        failpoint: Callable[[str], None],
        on_change: Callable[[Order], None],
        steady: Callable[[], float],
        way: Way | None = None,
    ) -> None:
        self.journal, self.broker, self.account = journal, broker, account
        self.clock, self.steady, self.failpoint, self._on_change = clock, steady, failpoint, on_change
        self.working = {key: order for key, order in journal.state.orders.items() if not order.is_terminal}
        self.doubts: dict[str, Doubt] = {}
        self.followers: list[Callable[[Applied], None]] = []
        self.errands: set[asyncio.Task[None]] = set()
        self.written: deque[tuple[datetime, Entry]] = deque(maxlen=_KEPT)
        self._way = way or Way()
        self._queue: asyncio.PriorityQueue[tuple[int, int, Handler]] = asyncio.PriorityQueue()
        self._numbers = count()
        self._group: asyncio.TaskGroup | None = None
        self._handling = False

    def order(self, identifier: str) -> Order | None:
        """Return an order as it stands, None for an unknown one."""
        return self.journal.state.orders.get(identifier)

    def put(self, priority: Priority, handler: Handler) -> None:
        """Have something handled once everything more urgent is."""
        if priority in _FIRST:
            self._way.take()
        self._queue.put_nowait((priority, next(self._numbers), handler))

    def spawn(self, work: Coroutine[Any, Any, None], *, first: bool = False) -> None:
        """Do something beside the queue: talk to the broker. Whatever comes of it has to be put into the queue.

        Args:
            work: What to do.
            first: Whether it goes before the ticks that wait to be looked at.
        """
        assert self._group is not None  # noqa: S101  (set before anything is handled)
        errand = self._group.create_task(work)
        if first:
            self._way.take()
            errand.add_done_callback(lambda _: self._way.leave())
        self.errands.add(errand)
        errand.add_done_callback(self.errands.discard)

    async def answered(self, question: Awaitable[_T]) -> _T:
        """Return the broker's answer to a question; one that hangs must not keep everything after it from being asked.

        Raises:
            TransientError: It did not come in time; whatever else the question raises.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                return await question
        except TimeoutError:
            raise TransientError(f"{self.broker.name}: expected an answer within {ANSWER_S:g} s, found none") from None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be handled."""
        return not self._handling and self._queue.empty()

    async def consume(self, group: asyncio.TaskGroup) -> None:
        """Handle what is put into the queue, one after the other, for ever."""
        self._group = group
        while True:
            self._handling = False
            priority, _, handler = await self._queue.get()
            self._handling = True
            try:
                await handler()
            finally:
                if priority in _FIRST:
                    self._way.leave()

    async def commit(
        self, *entries: Entry, meanwhile: Callable[[Awaitable[None]], None] | None = None
    ) -> list[Applied]:
        """Write entries durably, then tell who follows; returns what they did to orders.

        Args:
            entries: What to write.
            meanwhile: Called once the disk is at it, with what tells when they are durable. Whoever waits for that goes
                before those who are told.
        """
        if not entries:
            return []
        changes = await self.journal.commit(entries, meanwhile)
        if meanwhile is not None:
            await asyncio.sleep(0)
        at = self.clock()
        self.written.extend((at, entry) for entry in entries)
        done = [change.applied for change in changes if change.applied is not None]
        for applied in done:
            self._tell(applied)
        return done

    def _tell(self, applied: Applied) -> None:
        order, identifier = applied.order, applied.order.request.client_order_id
        if order.is_terminal:
            self.working.pop(identifier, None)
        else:
            self.working[identifier] = order
        if applied.anomaly or applied.alert:
            log.warning("order.odd", client_order_id=identifier, anomaly=applied.anomaly, alert=applied.alert)
        self._on_change(order)
        for follow in self.followers:
            follow(applied)


def event(identifier: str, kind: Happening, reason: str = "") -> Entry:
    """Return the entry for something that happened to an order."""
    return Entry(Kind.EVENT, identifier, Event(kind, reason=reason))
