"""A day of the account: whether its cash is what the fills make of it, and the report at its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from flows.trading_account import is_another_day
from flows.trading_core import Core
from tasks.broker.port import Account
from tasks.errors import KlinehouseError
from tasks.journal.entries import Entry, Kind, Line
from tasks.journal.journal import Journal
from tasks.journal.state import Money, State
from tasks.orders.lifecycle import Applied
from tasks.orders.order import ZERO, Order, Status

#: How long the report of a run's end waits for the account.
_LAST_LOOK_S = 2.0
#: What is counted of orders, once an order and status.
_COUNTED = {
    Status.SUBMITTING: "orders",
    Status.DENIED: "denied",
    Status.REJECTED: "rejected",
    Status.IN_DOUBT: "in_doubt",
}


#: What journal and broker have where they do not agree.
Differing = dict[str, tuple[Decimal, Decimal]]


class CashBook:
    """The broker's cash against the journal's fills: what neither fills nor fees explain was moved by somebody else.

    Args:
        journal: Whose fills count.
        account: Its name.
        tolerance: How far they may be apart, as a fraction of equity: fees are rounded, or paid in a third asset.
    """

    def __init__(self, journal: Journal, account: str, tolerance: Decimal) -> None:
        self._state, self._account, self._tolerance = journal.state, account, tolerance
        self._base: Decimal | None = None

    @property
    def fees(self) -> Decimal:
        """Return the fees of all fills, quote asset."""
        return self._money.fees

    @property
    def fees_elsewhere(self) -> Mapping[str, Decimal]:
        """Return the fees of all fills in assets that are neither traded nor the quote asset, by asset."""
        return self._money.elsewhere

    def compare(self, told: Account) -> tuple[Decimal, Decimal] | None:
        """Return the cash that the fills make and the cash the broker tells, None while neither is known."""
        if told.cash is None or self._base is None:
            return None
        return self._base + self._flow, told.cash

    def differs(self, told: Account) -> bool:
        """Return whether they are further apart than rounding explains."""
        pair = self.compare(told)
        return pair is not None and abs(pair[0] - pair[1]) > self._tolerance * abs(told.equity)

    def settle(self, told: Account, *, anew: bool = False) -> None:
        """Begin from what the broker tells, the first time or anew; all else has to agree at that moment."""
        if told.cash is not None and (anew or self._base is None):
            self._base = told.cash - self._flow

    def forget(self) -> None:
        """Begin anew with the next look: a person has looked at what differs."""
        self._base = None

    def memory(self) -> dict[str, Any]:
        """Return what a restart must not forget."""
        return {"cash_base": self._base}

    def recall(self, memory: dict[str, Any]) -> None:
        """Take up what an earlier process knew; older journals do not know it."""
        base = memory.get("cash_base")
        self._base = None if base is None else Decimal(base)

    @property
    def _flow(self) -> Decimal:
        return self._money.cash

    @property
    def _money(self) -> Money:
        return self._state.money.get(self._account, Money())


class DayBook:
    """What happened since a day began.

    Args:
        journal: Whose orders and fills are counted.
        cash: The account's.

    Attributes:
        day: Which; the first day there is where none has begun.
    """

    def __init__(self, journal: Journal, cash: CashBook) -> None:
        self._state, self._cash = journal.state, cash
        self.day = date.min
        self._counts: Counter[str] = Counter()
        self._stood: dict[str, Status] = {}
        self._equity, self._fees, self._trades = ZERO, ZERO, 0
        self._fees_elsewhere: Mapping[str, Decimal] = {}

    def follow(self, applied: Applied) -> None:
        """Count an order's new status."""
        order = applied.order
        identifier, name = order.request.client_order_id, _COUNTED.get(order.status)
        if self._stood.get(identifier) is not order.status:
            self._stood[identifier] = order.status
            if name is not None:
                self._counts[name] += 1

    def is_over(self, now: datetime) -> bool:
        """Return whether a day had begun, and another one has by now."""
        return self.day != date.min and is_another_day(self.day, now)

    def begin(self, now: datetime, told: Account) -> None:
        """Begin a day with what the account is worth."""
        self.day, self._equity, self._fees, self._trades = now.date(), told.equity, self._cash.fees, self._fills
        self._fees_elsewhere = self._cash.fees_elsewhere
        self._counts.clear()
        self._stood.clear()

    def report(self, told: Account, differing: dict[str, Any], halted_for: str, *, ended: bool) -> dict[str, Any]:
        """Return what the day came to, for the journal and for people.

        Args:
            told: The account now.
            differing: What journal and broker do not agree on.
            halted_for: Why trading is halted, empty where it is not.
            ended: Whether the day is over, or only the run.
        """
        pair = self._cash.compare(told)
        return {
            "day": self.day,
            "ended": ended,
            "equity_before": self._equity,
            "equity": told.equity,
            "profit": told.equity - self._equity,
            "fees": self._cash.fees - self._fees,
            "fees_elsewhere": self._paid_elsewhere(),
            "fills": self._fills - self._trades,
            **{name: self._counts[name] for name in _COUNTED.values()},
            "positions": told.positions,
            "cash": told.cash,
            "cash_expected": None if pair is None else pair[0],
            "agreed": not differing,
            "differing": differing,
            "halted_for": halted_for,
        }

    def memory(self) -> dict[str, Any]:
        """Return what a restart must not forget; what comes after it is counted again from the journal."""
        return {
            "report": {
                "day": self.day.isoformat(),
                "equity": self._equity,
                "fees": self._fees,
                "fees_elsewhere": dict(self._fees_elsewhere),
                "fills": self._trades,
                "counts": dict(self._counts),
            }
        }

    def recall(self, memory: dict[str, Any]) -> None:
        """Take up what an earlier process knew; older journals do not know it."""
        known = memory.get("report")
        if known is not None:
            self.day, self._trades = date.fromisoformat(known["day"]), known["fills"]
            self._equity, self._fees = Decimal(known["equity"]), Decimal(known["fees"])
            self._fees_elsewhere = {asset: Decimal(fee) for asset, fee in known.get("fees_elsewhere", {}).items()}
            self._counts.update(known["counts"])

    def stands(self, order: Order) -> None:
        """Take note of where an order stands, as counted before."""
        self._stood[order.request.client_order_id] = order.status

    def catch_up(self, lines: Iterable[Line], after: int) -> None:
        """Count what an order's lines tell that are younger than the memory.

        Args:
            lines: All lines of the order.
            after: The journal's line that the memory is of.
        """
        state = State()
        for line in lines:
            applied = state.take_line(line).applied
            if applied is not None and line.seq > after:
                self.follow(applied)
            elif applied is not None:
                self.stands(applied.order)

    def _paid_elsewhere(self) -> dict[str, Decimal]:
        paid, before = self._cash.fees_elsewhere, self._fees_elsewhere
        since = {asset: fee - before.get(asset, ZERO) for asset, fee in paid.items()}
        return {asset: fee for asset, fee in since.items() if fee}

    @property
    def _fills(self) -> int:
        return len(self._state.trades)


class Days:
    """The report of each day, and of the end of a run: into the journal, then to whoever listens.

    Args:
        core: The desk's world.
        cash: What the fills make of the account's cash.
        on_day: Hears each report, once it is on record.
    """

    def __init__(self, core: Core, cash: CashBook, on_day: Callable[[dict[str, Any]], None]) -> None:
        self._core, self._cash, self._on_day = core, cash, on_day
        self._book = DayBook(core.journal, cash)
        self._told: Account | None = None
        core.followers.append(self._book.follow)

    async def look(self, told: Account, differing: Differing, halted_for: str) -> None:
        """Take a look at the account, which was held against the journal just before; the first of a day reports."""
        now, self._told = self._core.clock(), told
        if self._book.is_over(now):
            await self._report(told, differing, halted_for, ended=True)
            if not differing:
                self._cash.settle(told, anew=True)
        if is_another_day(self._book.day, now):
            self._book.begin(now, told)

    async def end(self, differing: Differing, halted_for: str) -> None:
        """Report what the day came to up to the end of the run."""
        if self._told is not None:
            await self._report(await self._last_look(self._told), differing, halted_for, ended=False)

    def memory(self) -> dict[str, Any]:
        """Return what a restart must not forget."""
        return self._cash.memory() | self._book.memory()

    def recall(self, memory: dict[str, Any], after: int) -> None:
        """Take up what an earlier process wrote down, and what it did after that line of the journal."""
        self._cash.recall(memory)
        self._book.recall(memory)
        if self._book.day == date.min:
            return
        journal = self._core.journal
        for order in self._core.working.values():
            self._book.stands(order)
        for identifier in {line.client_order_id for line in journal.lines(after=after) if line.kind == Kind.EVENT}:
            self._book.catch_up(journal.lines(identifier), after)

    async def _report(self, told: Account, differing: Differing, halted_for: str, *, ended: bool) -> None:
        pairs = {name: {"journal": ours, "broker": theirs} for name, (ours, theirs) in differing.items()}
        report = self._book.report(told, pairs, halted_for, ended=ended)
        await self._core.commit(Entry(Kind.DAY, body=report))
        self._on_day(report)

    async def _last_look(self, known: Account) -> Account:
        try:
            async with asyncio.timeout(_LAST_LOOK_S):
                return await self._core.broker.account()
        except (KlinehouseError, TimeoutError):
            return known
