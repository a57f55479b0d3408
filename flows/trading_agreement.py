"""Holding journal and broker against each other: at start, after every break, every minute, and until they agree."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from math import inf

from flows.trading_core import Core, Priority, log
from flows.trading_day import CashBook
from flows.trading_doubt import Doubts
from flows.trading_reports import Reports
from tasks.broker.port import Account, BrokerFill, BrokerOrder
from tasks.errors import ProtocolError, TransientError
from tasks.journal.entries import Entry, Kind
from tasks.orders.order import UNCERTAIN, ZERO, Status

#: Younger differences may be fills on their way.
GRACE_S = 5.0

_Pair = tuple[Decimal, Decimal]


@dataclass(frozen=True, slots=True)
class _Difference:
    """What journal and broker hold, since when (steady clock) these two figures, and since when they differ at all."""

    pair: _Pair
    since: float
    first: float


@dataclass(frozen=True, slots=True)
class _Told:
    """What the broker says at one moment.

    Attributes:
        absent: Orders of ours that worked before it was asked, and are not among its open ones.
        asked_s: Before which by the steady clock nothing of it was asked for.
    """

    open_orders: list[BrokerOrder]
    account: Account
    fills: list[BrokerFill]
    absent: frozenset[str]
    asked_s: float


class Agreement:
    """Whether broker and journal agree on orders, positions and cash.

    Args:
        core: The desk's world.
        reports: Takes over what the broker says.
        doubts: Asks about orders that are missing.
        cash: What the fills make of the account's cash.
        measured: Hears what the account is worth.
        halt: Stops trading, for a reason.
        grace_s: How long a difference may last before it halts.

    Attributes:
        agreed: They agree, or did and differ for less than the grace: fills on their way; and nothing is in doubt that
            an earlier process left.
        compared_s: What the broker did before this, by the steady clock, would have been seen.
    """

    def __init__(
        self,
        core: Core,
        reports: Reports,
        doubts: Doubts,
        cash: CashBook,
        *,
        measured: Callable[[Account], Awaitable[None]],
        halt: Callable[[str], Awaitable[None]],
        grace_s: float = GRACE_S,
    ) -> None:
        self._core, self._reports, self._doubts, self._cash = core, reports, doubts, cash
        self._measured, self._halt, self._grace_s = measured, halt, grace_s
        self.agreed, self.compared_s = False, -inf
        self._asking = self._again = False
        self._differing: dict[str, _Difference] = {}

    @property
    def complete(self) -> bool:
        """Whether nothing differs at all, not even as little as fills on their way."""
        return self.agreed and not self._differing

    @property
    def differing(self) -> dict[str, _Pair]:
        """What differs, as journal and broker have it."""
        return {name: one.pair for name, one in self._differing.items()}

    async def reconcile(self) -> None:
        """Begin to compare; where that is under way, do it again afterwards."""
        self._again = self._asking
        if not self._asking:
            self._asking = True
            self._core.spawn(self._ask())

    async def _ask(self) -> None:
        core, broker, asked_s = self._core, self._core.broker, self._core.steady()
        working = {key for key, order in core.working.items() if order.status not in _UNKNOWN_TO_BROKER}
        try:
            open_orders = await core.answered(broker.open_orders())
            account = await core.answered(broker.account())
            fills = await core.answered(broker.fills(self._reports.since))
        except (TransientError, ProtocolError) as error:
            core.put(Priority.REPLY, partial(self._failed, str(error)))
            return
        absent = frozenset(working - {seen.client_order_id for seen in open_orders})
        core.put(Priority.REPLY, partial(self._judge, _Told(open_orders, account, fills, absent, asked_s)))

    async def _failed(self, reason: str) -> None:
        log.warning("reconcile.failed", error=reason)
        self._asking = self.agreed = False

    async def _judge(self, told: _Told) -> None:
        for fill in told.fills:
            await self._reports.take_fill(fill)
        for seen in told.open_orders:  # also one that was written off: it works, whatever we thought
            await self._reports.adopt(seen, "open orders")
        for identifier in told.absent:
            order = self._core.working.get(identifier)
            if order is not None:
                self._doubts.ask(order)  # one question of its own before any conclusion
        await self._compare(told.account, self._undead(told.open_orders))
        self.compared_s = told.asked_s
        await self._measured(told.account)
        self._asking = False
        if self._again:
            await self.reconcile()

    def _undead(self, listed: list[BrokerOrder]) -> dict[str, _Pair]:
        """Return what may still fill of orders that the broker lists as open and the journal has as ended."""
        found: dict[str, _Pair] = {}
        for seen in listed:
            order = self._core.order(seen.client_order_id)
            if order is not None and order.is_terminal:
                found[f"order {seen.client_order_id}"] = (ZERO, seen.quantity - seen.filled_quantity)
        return found

    async def _compare(self, account: Account, undead: dict[str, _Pair]) -> None:
        now, core = self._core.steady(), self._core
        ours = {s: held for (owner, s), held in core.journal.state.positions.items() if owner == core.account}
        found = {s: (ours.get(s, ZERO), account.positions.get(s, ZERO)) for s in {*ours, *account.positions}}
        differing = {symbol: pair for symbol, pair in found.items() if pair[0] != pair[1]}
        if not differing and (pair := self._cash.compare(account)) is not None and self._cash.differs(account):
            differing = {"cash": pair}
        differing |= undead
        before, self._differing = self._differing, {}
        for symbol, pair in differing.items():
            known = before.get(symbol)
            since = known.since if known and known.pair == pair else now
            self._differing[symbol] = _Difference(pair, since, known.first if known else now)
        young = all(now - one.first < self._grace_s for one in self._differing.values())
        self.agreed = not self._doubts.lingering and (not differing or (self.agreed and young))
        if self.complete:
            self._cash.settle(account)
        if differing:
            await self._disagreed(
                differing, now, is_news=differing != {symbol: one.pair for symbol, one in before.items()}
            )

    async def _disagreed(self, differing: dict[str, _Pair], now: float, *, is_news: bool) -> None:
        if is_news:
            told = {symbol: {"journal": ours, "broker": theirs} for symbol, (ours, theirs) in differing.items()}
            await self._core.commit(Entry(Kind.RECONCILE, body={"differing": told}))
        doubtful = {order.request.symbol for order in self._core.working.values() if order.status in UNCERTAIN}
        lasting = [
            symbol
            for symbol, one in self._differing.items()
            if now - one.since >= self._grace_s and symbol not in doubtful
        ]
        if lasting:
            names = ", ".join(f"{s} (journal {differing[s][0]}, broker {differing[s][1]})" for s in sorted(lasting))
            await self._halt(f"journal and broker disagree on {names}")


_UNKNOWN_TO_BROKER = UNCERTAIN | {Status.INITIALIZED}
