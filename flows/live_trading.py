"""The order half of a live run: the desk on its account, the strategies in front of it, the kill switch beside it."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog

from flows.events import tell_halted
from flows.live_account import Account
from flows.live_day import publish_day
from flows.live_market import wall_clock
from flows.live_strategies import Strategies
from flows.live_switch import KillSwitch
from flows.live_view import AccountView
from flows.trading import OrderDesk
from flows.trading_proposal import Pace, Proposal
from lake.store import Lake
from tasks.errors import InputError
from tasks.journal.entries import Entry, Kind
from tasks.orders.account import Limits, Market, TradingState
from tasks.orders.identity import client_order_id
from tasks.orders.order import Status
from tasks.strategies.book_gate import BookView
from tasks.stream.way import Way

log = structlog.get_logger("flows.live")

#: How long the end waits for the last day's report to be taken.
_PUBLISH_S = 5.0
#: On paper a look at the account costs nothing; an exchange meters it.
_PAPER_PACE, _EXCHANGE_PACE = Pace(reconcile_s=5.0), Pace()


class LiveTrading:
    """Trades an account for the length of a run.

    Args:
        account: Open.
        limits: The account's risk limits.
        market: What is known of a symbol right now.
        book: What its order book says right now.
        switch: The kill switch outside the process.
        call: Calls a person: subject and words.
        pace: How often the desk looks after things; by the kind of broker where it is left out.
    """

    def __init__(
        self,
        account: Account,
        limits: Limits,
        *,
        market: Callable[[str], Market],
        book: Callable[[str], BookView],
        switch: KillSwitch,
        call: Callable[[str, str], None],
        pace: Pace | None = None,
    ) -> None:
        self._account, self._market, self._switch, self._call = account, market, switch, call
        self._book = book
        self.view, self.way = AccountView(account, market), Way()
        self._days: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.desk = OrderDesk(
            account.journal,
            account.broker,
            account=account.name,
            limits=limits,
            market=market,
            clock=wall_clock,
            on_change=self.view.take,
            on_halt=self._halted,
            on_day=self._days.put_nowait,
            operator=_login(),
            cancel_at_stop=True,
            pace=pace or (_PAPER_PACE if account.paper else _EXCHANGE_PACE),
            way=self.way,
        )
        self.strategies: Strategies | None = None
        self._asked, self._over = "", False  # a halt on its way to the desk, and whether there is a desk any more

    def attach(
        self,
        symbols: list[str],
        interval: str,
        *,
        lake: Lake,
        market_now: Callable[[], datetime],
        has_bar: Callable[[str, datetime], bool],
        last_trade: Callable[[str], datetime | None],
    ) -> int:
        """Put the plan's strategy in front of the desk; return the bars it wants to begin with, 0 without one.

        Raises:
            InputError: There is no such strategy, or it does not take these parameters.
        """
        if not self._account.plan.strategy:
            return 0
        self.strategies = Strategies(
            self._account,
            symbols,
            interval,
            lake=lake,
            trader=self,
            market_now=market_now,
            wall_now=wall_clock,
            has_bar=has_bar,
            last_trade=last_trade,
        )
        return self.strategies.prepare()

    @property
    def equity(self) -> Decimal | None:
        """What the account is worth, None before the broker said so."""
        return self.desk.equity

    def position(self, symbol: str) -> Decimal:
        """Return what is held of a symbol in the broker's spelling."""
        return self.view.position(symbol)

    def price(self, symbol: str) -> Decimal | None:
        """Return what it trades at, None where nobody vouches for a price."""
        market = self._market(symbol)
        return market.reference_price if market.valid else None

    def book(self, symbol: str) -> BookView:
        """Return what its order book says now."""
        return self._book(symbol)

    def propose(self, proposal: Proposal) -> str:
        """Ask for an order; what was denied by a halt is not asked for again before the halt ends."""
        if proposal.leg and self.desk.halted_for:
            return ""
        identifier = self.desk.propose(proposal)
        self.view.ask(identifier, proposal.order_type)
        return identifier

    def may_close(self, symbol: str) -> bool:
        """Return whether a closing order can be sent now: nothing of the symbol is under way or was refused.

        What an exchange refused in so many words is asked for at the next close only: three refusals in a minute halt.
        """
        if self.desk.state not in (TradingState.ACTIVE, TradingState.REDUCING):
            return False
        if any(order.request.symbol == symbol for order in self.desk.working):
            return False
        newest = self.view.newest(symbol)
        return newest is None or newest.status is not Status.REJECTED

    def note(self, body: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        """Write down that bars were corrected, and by signal key what that changes about the order it led to."""
        names = {client_order_id(self._account.name, self._account.plan.strategy, key): key for key in changed}
        orders = self._account.journal.state.orders
        entries = [Entry(Kind.DATA, name, changed[key]) for name, key in names.items() if name in orders]
        self.desk.note(Entry(Kind.DATA, body=body), *entries)

    def _halted(self, reason: str) -> None:
        """Tell people: by the run's own blocks, and by an event that the server's automations hear."""
        try:
            self._call(f"{self._account.name}: trading halted", reason)
            tell_halted(self._account.name, reason)
        except Exception as error:  # noqa: BLE001  (whatever ails the messengers, the cancels that follow do not wait)
            log.error("halt.not_told", account=self._account.name, error=type(error).__name__)

    def halt(self, reason: str) -> None:
        """Stop everything but cancels, once; where the desk has ended already, before the next run trades."""
        reason = reason.encode(errors="replace").decode()  # whatever was raised somewhere: the journal takes text only
        if self._over:
            self._switch.leave(reason)
        elif not self.desk.halted_for:
            self._asked = reason
            self.desk.halt(reason)

    async def filled(self, symbol: str) -> bool:
        """Hand what was stored of a symbol to its strategy; return whether a bar that it waits for is late."""
        if self.strategies is None:
            return False
        await self.strategies.take(symbol)
        return self.strategies.misses(symbol)

    async def run(self, stop: asyncio.Event) -> None:
        """Trade until `stop` is set; then take no more signals, cancel entries, resolve doubts, and say so."""
        try:
            await self._trade(stop)
        finally:
            self._over = True
            if self._asked and not self.desk.halted_for:
                self._switch.leave(self._asked)  # it came while the desk was ending
        log.info("trading.stopped", account=self._account.name, in_doubt=len(self.desk.doubts))

    def _tell_unattended(self) -> None:
        """Tell of what is held and no strategy of this run closes: its symbol was left out, or nothing trades."""
        account = self._account
        traded = set(account.spelling.values()) if account.plan.strategy else set[str]()
        for (name, symbol), held in sorted(account.journal.state.positions.items()):
            if name == account.name and held and symbol not in traded:
                log.warning(
                    "position.unattended", symbol=symbol, held=held, advice="trade it again, or close it by hand"
                )
                words = f"{held:f} {symbol} is held, and no strategy of this run trades it"
                self._call(f"{account.name}: position unattended", words)

    async def _trade(self, stop: asyncio.Event) -> None:
        self._tell_unattended()
        watched = [self._switch.watch(self.halt), self._publish()]
        if self.strategies is not None:
            watched += [self.strategies.watch(), self.strategies.finish()]
        async with asyncio.TaskGroup() as group:
            watchers = [group.create_task(one) for one in watched]
            desk = group.create_task(self.desk.run(stop))
            await stop.wait()
            if self.strategies is not None:
                self.strategies.stop()
            await desk
            with suppress(TimeoutError):
                async with asyncio.timeout(_PUBLISH_S):
                    await self._days.join()
            for watcher in watchers:
                watcher.cancel()

    async def _publish(self) -> None:
        """Hand each day's report on, for ever."""
        while True:
            report = await self._days.get()
            await publish_day(self._account.name, report)
            self._days.task_done()

    async def halt_action(self, said: Mapping[str, str]) -> None:
        """Halt because somebody pressed the button."""
        who = said.get("operator", "").strip()
        self.halt(f"the page's HALT button was pressed{f' by {who}' if who else ''}")

    async def clear_action(self, said: Mapping[str, str]) -> None:
        """End a halt, on a person's name.

        Raises:
            InputError: No name, nothing to clear, or the kill switch's file is still there.
        """
        who = said.get("operator", "").strip()
        if not who:
            raise InputError("clear: expected the name of who takes responsibility, found none")
        if not self.desk.halted_for:
            raise InputError("clear: expected trading to be halted, found it is not")
        self._switch.check_clear()
        log.warning("trading.cleared", account=self._account.name, operator=who, was=self.desk.halted_for)
        self._asked = ""
        self.desk.clear(who)

    def describe(self) -> dict[str, Any]:
        """Return the account's state as plain values."""
        strategies = self.strategies.describe() if self.strategies else []
        return {**self.view.describe(self.desk), "strategies": strategies}


def _login() -> str:
    """Return the name of whoever runs this process, or its number where it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
