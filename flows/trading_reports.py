"""Taking over what the broker says: snapshots and executions, from its stream, its answers and its lists alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from flows.trading_core import Core, Priority, log
from tasks.broker.port import BrokerFill, BrokerOrder, Connected, Disconnected, Report
from tasks.broker.translate import from_fill, from_snapshot
from tasks.errors import ProtocolError, TransientError
from tasks.journal.entries import Entry, Kind
from tasks.orders.identity import is_ours
from tasks.orders.order import UNCERTAIN, Fill

#: How far back executions are asked for, before the last one known.
LOOK_BACK = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A snapshot that speaks of fills nobody has told yet, and since when."""

    seen: BrokerOrder
    since_s: float


class Reports:
    """Everything the broker says about orders.

    Args:
        core: The desk's world.
        halt: Stops trading, for a reason.
        price: A symbol's price, for a fill that has to be inferred.
        lost: Called when the stream broke or began: what happened meanwhile has to be asked for.
    """

    def __init__(
        self,
        core: Core,
        *,
        halt: Callable[[str], Awaitable[None]],
        price: Callable[[str], Decimal | None],
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        self._core, self._halt, self._price, self._lost = core, halt, price, lost
        self._ahead: dict[str, _Ahead] = {}
        self._strangers: set[str] = set()
        self._not_counted: set[tuple[str, Fill]] = set()  # on record once, though every list of the day repeats them
        self._fetching = False
        fills = (fill.timestamp for order in core.journal.state.orders.values() for fill in order.fills)
        self._last_fill_at = max(fills, default=core.clock())

    @property
    def is_behind(self) -> bool:
        """Whether the broker spoke of fills that nobody has told yet."""
        return bool(self._ahead)

    @property
    def since(self) -> datetime:
        """From when on executions have to be asked for, by the broker's clock."""
        moments = (ahead.seen.updated_at for ahead in self._ahead.values())
        spoken_of = (moment for moment in moments if moment.timestamp() > 0)  # some brokers name none
        return min((self._last_fill_at, self._core.clock(), *spoken_of)) - LOOK_BACK  # a fill of 2099 hides no other

    async def listen(self) -> None:
        """Put what the broker's stream says into the queue, for ever."""
        async for report in self._core.broker.reports():
            self._core.put(Priority.REPLY, partial(self.hear, report))

    async def hear(self, report: Report) -> None:
        """Take over one report."""
        if isinstance(report, Connected):
            await self._lost()  # what happened before was told to nobody
        elif isinstance(report, Disconnected):
            await self._core.commit(Entry(Kind.CONNECTION, body={"reports": report.reason}))
            await self._lost()
        elif isinstance(report, BrokerFill):
            await self.take_fill(report)
        else:
            await self.adopt(report, "stream")

    async def adopt(self, seen: BrokerOrder, source: str) -> None:
        """Take over what the broker says of an order; fills it speaks of are asked for."""
        core, identifier = self._core, seen.client_order_id
        order = core.order(identifier)
        if order is None:
            await self._unknown(seen)
            return
        ahead = self._ahead.get(identifier)
        waited_s = core.steady() - ahead.since_s if ahead else 0.0
        meant = from_snapshot(order, seen, waited_s=waited_s, market_price=self._price(seen.symbol))
        if meant.missing > 0:
            self._ahead[identifier] = _Ahead(seen, ahead.since_s if ahead else core.steady())
        else:
            self._ahead.pop(identifier, None)
        core.failpoint("K7")
        if meant.anomaly:
            said: dict[str, object] = {"source": source, "report": seen, "why": meant.anomaly}
            await self._stranger(meant.anomaly, identifier, said)  # once, however often the broker repeats itself
            await self._halt(f"a report contradicts the journal: {meant.anomaly}")
        elif meant.events:
            events = [Entry(Kind.EVENT, identifier, event) for event in meant.events]
            await core.commit(Entry(Kind.REPLY, identifier, {"source": source, "report": seen}), *events)
        core.failpoint("K8")
        self._settle(identifier)

    async def take_fill(self, told: BrokerFill) -> None:
        """Count an execution, once for ever."""
        core, identifier = self._core, told.client_order_id
        order = core.order(identifier)
        if order is None:
            await self._stranger(f"{told.symbol} {told.fill.trade_id}", identifier, {"unknown_fill": told})
            return
        if told.fill in order.fills or (identifier, told.fill) in self._not_counted:
            return
        meant = from_fill(order, told)
        if meant.anomaly:
            said: dict[str, object] = {"fill": told, "why": meant.anomaly}
            await self._stranger(f"{told.symbol} {told.fill.trade_id}", identifier, said)
            return
        core.failpoint("K9")
        done = await core.commit(*(Entry(Kind.EVENT, identifier, event) for event in meant.events))
        core.failpoint("K10")
        if done[-1].duplicate or done[-1].anomaly:
            self._not_counted.add((identifier, told.fill))
        self._last_fill_at = max(self._last_fill_at, told.fill.timestamp)
        self._settle(identifier)

    def _settle(self, identifier: str) -> None:
        """End the doubt about an order, unless what was said of it left it where it was."""
        order = self._core.order(identifier)
        if order is not None and order.status not in UNCERTAIN:
            self._core.doubts.pop(identifier, None)

    def fetch(self) -> None:
        """Ask for executions, and look again at the snapshots that spoke of them."""
        if not self._fetching:
            self._fetching = True
            self._core.spawn(self._fetch())

    async def _fetch(self) -> None:
        fills: list[BrokerFill] = []
        try:
            fills = await self._core.answered(self._core.broker.fills(self.since))
        except (TransientError, ProtocolError) as error:
            log.warning("fills.failed", error=str(error))
        self._core.put(Priority.REPLY, partial(self._fetched, fills))

    async def _fetched(self, fills: list[BrokerFill]) -> None:
        for told in fills:
            await self.take_fill(told)
        for ahead in list(self._ahead.values()):
            await self.adopt(ahead.seen, "snapshot again, after its fills were asked for")
        self._fetching = False

    async def _unknown(self, seen: BrokerOrder) -> None:
        """Note an order that the journal does not know; if it is ours, the journal was lost."""
        name = seen.client_order_id or seen.broker_order_id
        await self._stranger(f"order {name}", "", {"unknown_order": seen})
        if is_ours(seen.client_order_id):
            await self._halt(f"the broker has our order {name}, which the journal does not know")

    async def _stranger(self, name: str, identifier: str, body: dict[str, object]) -> None:
        if name not in self._strangers:
            self._strangers.add(name)
            await self._core.commit(Entry(Kind.ANOMALY, identifier, body))
            log.warning("report.unknown", name=name)
