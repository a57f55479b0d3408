"""The live side put together: the stream with its ports connected to the lake, the REST side, alerts, page, trading."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from random import SystemRandom
from typing import Any

import structlog

from flows.live_account import Account
from flows.live_alerts import AlertSender
from flows.live_bars import Bars, Late
from flows.live_clock import LiveClock
from flows.live_limits import read_limits
from flows.live_market import TradedDesk
from flows.live_switch import KillSwitch
from flows.live_trading import LiveTrading
from flows.live_vendor import LiveVendor
from flows.settings import SUBSCRIPTIONS, Settings
from lake.store import Lake
from lake.timeline import from_ms
from tasks.control.guard import make_token
from tasks.control.server import ControlServer
from tasks.errors import KlinehouseError, TransientError
from tasks.stream.desk import DeskPolicy
from tasks.stream.events import Alarm, Degraded, Event, GapEnded
from tasks.stream.mirror import Mirror
from tasks.stream.monitor import MonitorPolicy
from tasks.stream.policy import SessionPolicy
from tasks.stream.recording import Recorder, last_recorded, recorded_trades
from tasks.stream.refill import Refill
from tasks.stream.service import StreamService
from tasks.stream.session import Session
from tasks.stream.states import FLOWING
from tasks.stream.subscriptions import Key, Standing

log = structlog.get_logger("flows.live")

#: Difference between the vendor's clock and ours that a person should hear of.
_SKEW_ALARM_MS = 500.0


class LiveDesk:
    """The stream with its ports connected: the lake, the vendor's REST side, alerts, the control page, an account.

    Args:
        settings: This machine's.
        vendor: Where data comes from.
        symbols: In its spelling, the most important first.
        interval: Bars that are kept up to date, and decided on.
        monitor: When pressure is worth an alert.
        alerts: Who hears of it.
        account: What is traded.
        switch: The kill switch outside the process.

    Attributes:
        trading: The order half.
    """

    def __init__(
        self,
        settings: Settings,
        vendor: LiveVendor,
        symbols: list[str],
        interval: str,
        monitor: MonitorPolicy,
        alerts: AlertSender,
        account: Account,
        switch: KillSwitch,
    ) -> None:
        self._settings, self._vendor, self._interval = settings, vendor, interval
        self._symbols, self._alerts = list(symbols), alerts
        self._lake = Lake(settings.lake_root)
        self._began = datetime.now(UTC)
        self._torn: set[str] = set()
        self._degraded: dict[str, None] = {}
        self._bars = Bars(symbols, interval, now=lambda: self._vendor.now(), speed=vendor.speed)
        epoch_ms = time.time() * 1000.0 - time.monotonic() * 1000.0
        self._session = Session(
            subscriptions(symbols),
            policy=SessionPolicy(
                plan_subscriptions=SUBSCRIPTIONS[settings.plan],
                skew_alarm_ms=_SKEW_ALARM_MS if vendor.speed == 1 else math.inf,  # a fast market's clock is elsewhere
            ),
            rng=SystemRandom(),
            epoch_ms=epoch_ms,
            is_open=self._bars.is_open,
            refilled=True,
        )
        recorder = Recorder(self._lake)
        self._mirror = Mirror(settings.redis_url)
        limits = read_limits(settings.limits_file)
        desk = TradedDesk(
            symbols,
            DeskPolicy(monitor=monitor),
            account=account,
            real_time=vendor.speed == 1,
            period_s=float(limits.collar_period_s),
            recorder=recorder,
            on_alert=alerts.tell,
            to_wall_ms=self._session.wall_ms,
        )
        self.trading = LiveTrading(
            account,
            limits,
            market=desk.market,
            book=desk.book_view,
            switch=switch,
            call=alerts.call,
        )
        self._history = 0
        self._refill = Refill(self._fill, self._filled)
        self._late = Late(self._refill.follow, vendor.speed)
        self._service = StreamService(
            self._session,
            vendor.endpoint,
            desk,
            recorder=recorder,
            refill=self._refill,
            listeners=[self._hear],
            observer=self._mirror.put,
            way=self.trading.way,
        )
        self._clock = LiveClock(self._session, self._service.driver.tell)
        if vendor.speed == 1:
            vendor.now = self._clock.now

    async def run(self, stop: asyncio.Event) -> None:
        """Serve the page, stream and trade until `stop` is set; trading ends first, while the market is still seen."""
        self._history = await asyncio.to_thread(
            self.trading.attach,
            self._symbols,
            self._interval,
            lake=self._lake,
            market_now=self._vendor.now,
            has_bar=self._bars.has,
            last_trade=self._last_trade,
        )
        last = await asyncio.to_thread(last_recorded, self._lake, subscriptions(self._symbols))
        epoch_s = self._session.epoch_ms / 1000.0
        self._session.resume({key: at.timestamp() - epoch_s for key, at in last.items()})
        self._service.desk.remember(await asyncio.to_thread(recorded_trades, self._lake, self._symbols))
        token_file = self._settings.state_dir / "control.token"
        trading = self.trading
        actions = {
            "reconnect": self._reconnect,
            "start": self._start,
            "halt": trading.halt_action,
            "clear": trading.clear_action,
        }
        async with ControlServer(
            self.snapshot, self.healthy, actions, token=make_token(token_file), port=self._settings.control_port
        ) as page:
            log.info("live.started", symbols=self._symbols, page=page.url, token_file=str(token_file))
            async with asyncio.TaskGroup() as group:
                drained = asyncio.Event()
                beside = self._follow(), self._poll(), self._clock.watch(), self._mirror.run()
                parts = (_beside(one, stop, drained) for one in (self._service.run(drained), *beside))
                streaming, *helpers = (group.create_task(one) for one in parts)
                await trading.run(stop)
                drained.set()
                await streaming
                for helper in helpers:
                    helper.cancel()
        log.info("live.stopped", messages=self._service.messages)

    def snapshot(self) -> dict[str, Any]:
        """Return the state of everything as plain values; each half of the live side is a section of its own."""
        return {
            "now_ms": round(self._session.wall_ms(time.monotonic())),
            "began_ms": round(self._began.timestamp() * 1000),
            "stream": self._service.snapshot(),
            "alerts": [
                {
                    "at_ms": round(self._session.wall_ms(alert.at)),
                    "symbol": alert.symbol,
                    "pressure": alert.pressure,
                    "ratio": alert.ratio,
                    "threshold": alert.threshold,
                    "episode": alert.episode,
                }
                for alert in self._service.desk.alerts
            ],
            "alerts_sent": self._alerts.sent,
            "rate_budget": {"used": self._vendor.used, "limit": self._vendor.limit},
            "trading": self.trading.describe(),
            "refill": {"waiting": self._refill.waiting, "failed": dict(self._refill.failed)},
        }

    def healthy(self) -> tuple[bool, str]:
        """Say whether data flows."""
        state = self._session.state
        return state in FLOWING, f"{state}: {state.sentence}"

    async def _reconnect(self, said: Mapping[str, str]) -> None:
        self._service.driver.tell(lambda session, now: session.reconnect(now))

    async def _start(self, said: Mapping[str, str]) -> None:
        self._service.driver.tell(lambda session, now: session.start(now))

    def _last_trade(self, symbol: str) -> datetime | None:
        last_ms = self._service.desk.seats[symbol].tape.last_ms
        return from_ms(last_ms) if last_ms else None

    def _hear(self, event: Event) -> None:
        if isinstance(event, GapEnded) and event.channel == "trade":
            self._torn.add(event.symbol)
        elif isinstance(event, Degraded) and event.channel == "depth":
            self._degraded |= dict.fromkeys(event.symbols)
        elif isinstance(event, Alarm):
            self._alerts.call(f"stream: {event.kind}", event.detail)

    async def _fill(self, symbol: str) -> int:
        """Bring a symbol's bars, and after a gap its trades, up to now; then hand the bars to its strategy."""
        await self._clock.known()
        if symbol in self._torn:
            await self._mend(symbol)
        written = await self._vendor.fill_bars(self._lake, symbol, self._interval, least=self._history)
        self._late.look(symbol, missing=await self.trading.filled(symbol))
        return written

    async def _mend(self, symbol: str) -> None:
        """Fetch the trades that a gap swallowed; where the vendor refuses them, they stay the outage that is stored."""
        self._torn.discard(symbol)  # first: a gap that ends meanwhile is another one
        try:
            trades = await self._vendor.recent_trades(symbol)
        except TransientError:
            self._torn.add(symbol)
            raise
        except KlinehouseError as error:
            log.error("trades.fetch_failed", symbol=symbol, reason=str(error))
        else:
            self._service.refilled_trades(symbol, trades)

    def _filled(self, symbol: str) -> None:
        self._service.driver.tell(lambda session, now: session.resynced(now, [symbol]))

    async def _follow(self) -> None:
        """Ask for every symbol's new bar after each close, and once at the start."""
        self._refill.follow(self._symbols)
        while True:
            self._refill.follow(await self._bars.closed())

    async def _poll(self) -> None:
        """Poll the books of symbols whose channel is unavailable, with half of the plan's rate, until it is back."""
        while True:
            await asyncio.sleep(120.0 / self._vendor.limit)
            if not self._degraded:
                continue
            symbol = next(iter(self._degraded))
            if self._session.link.subscriptions.topics["depth", symbol].standing is Standing.CONFIRMED:
                del self._degraded[symbol]
                self._service.desk.restore(symbol)
                continue
            self._degraded[symbol] = self._degraded.pop(symbol)  # to the end of the line
            try:
                book = await self._vendor.depth(symbol)
            except TransientError as error:
                log.warning("depth.poll_failed", symbol=symbol, reason=str(error))
                continue
            except KlinehouseError as error:
                del self._degraded[symbol]
                log.error("depth.poll_given_up", symbol=symbol, reason=str(error))
                continue
            self._service.desk.take(symbol, book, time.monotonic())


async def _beside(part: Awaitable[None], stop: asyncio.Event, drained: asyncio.Event) -> None:
    """Do a part of the work; where it breaks, the run fails with it, but trading ends first, as at a stop."""
    try:
        await part
    except Exception as error:
        log.error("live.part_failed", error=type(error).__name__, advice="trading ends clean, then the run fails")
        stop.set()
        await drained.wait()
        raise


def subscriptions(symbols: list[str]) -> list[Key]:
    """Return what is subscribed: book and trades of every symbol, the most important symbol first."""
    return [("depth", symbol) for symbol in symbols] + [("trade", symbol) for symbol in symbols]
