"""The local market on a loopback socket, in a thread of its own.

::

    with Simulator(generated(seed=7), plan="pro") as sim:
        ...  # speak the vendor's protocol to sim.url with the header X-API-Key: sim.api_key
        sim.faults = Faults(missing_p=0.01)
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tasks.errors import InputError
from tasks.simulator.answers import Answers, Dialect
from tasks.simulator.binance import Binance
from tasks.simulator.clock import MarketClock
from tasks.simulator.desk import Desk
from tasks.simulator.entry import OrderEntry
from tasks.simulator.faults import ENDINGS, Faults, Injection, StreamFaults
from tasks.simulator.market import Clock, Market, milliseconds
from tasks.simulator.orderfaults import OrderFaults
from tasks.simulator.plans import Keyring
from tasks.simulator.private import Private
from tasks.simulator.realtime import Realtime
from tasks.simulator.rest import Rest, not_found
from tasks.simulator.steering import Steering
from tasks.simulator.venue import Venue

_START_TIMEOUT_S = 10.0

Now = datetime | MarketClock | Callable[[], datetime] | None


class Simulator:
    """The vendor's API on loopback, in a thread and event loop of its own.

    Use it as a context manager, plain or async. `faults` and `dialect` may be replaced while it runs.

    Args:
        market: What is traded.
        plan: The plan of `api_key`.
        faults: What goes wrong from the start.
        stream_faults: What goes wrong on the WebSocket from the start.
        order_faults: What goes wrong with orders from the start, and which client order ids are unique.
        now: The market's time, a function that returns it, or a `MarketClock` that lets it pass from the start of
            serving on; None is the end of its data.
        dialect: How the undocumented is done.
        host: The address to listen on.
        port: 0 picks a free one.
        api_key: The key that `plan` belongs to.
        period_s: The length of the vendor's minute, so that a test of rate limits need not wait one.
        seed: Decides trades and books inside the bars.

    Attributes:
        market: The truth, with the simulator's clock.
    """

    def __init__(
        self,
        market: Market,
        *,
        plan: str = "enterprise",
        faults: Faults | None = None,
        stream_faults: StreamFaults | None = None,
        order_faults: OrderFaults | None = None,
        now: Now = None,
        dialect: Dialect | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = "local-market-key",
        period_s: float = 60.0,
        seed: int = 0,
    ) -> None:
        self.market = market.at(_clock(market, now))
        self.api_key = api_key
        self._keys = Keyring(period_s)
        self.add_key(api_key, plan)
        self._answers = Answers(self.market, seed=seed)
        self._rest = Rest(self._answers, self._keys)
        self._realtime = Realtime(self._answers, self._keys)
        self._desk = Desk(self._answers, Venue(self._answers.quotes))
        self._entry = OrderEntry(self._desk, self._keys)
        self._private = Private(self._desk, self._keys)
        self.faults = faults or Faults()
        self.stream_faults = stream_faults or StreamFaults()
        self.order_faults = order_faults or OrderFaults()
        self.dialect = dialect or Dialect()
        self._host, self._port = host, port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: OSError | None = None

    @property
    def url(self) -> str:
        """The base address, such as ``http://127.0.0.1:41873``."""
        return f"http://{self._host}:{self._port}"

    @property
    def faults(self) -> Faults:
        """What goes wrong now."""
        return self._answers.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._answers.faults = faults

    @property
    def stream_faults(self) -> StreamFaults:
        """What goes wrong for WebSocket connections that open from now on."""
        return self._realtime.faults

    @stream_faults.setter
    def stream_faults(self, faults: StreamFaults) -> None:
        self._realtime.faults = faults

    @property
    def order_faults(self) -> OrderFaults:
        """What goes wrong with orders now, and which client order ids are unique."""
        return self._desk.faults

    @order_faults.setter
    def order_faults(self, faults: OrderFaults) -> None:
        self._desk.faults = faults

    @property
    def dialect(self) -> Dialect:
        """How the undocumented is done now."""
        return self._answers.dialect

    @dialect.setter
    def dialect(self, dialect: Dialect) -> None:
        self._answers.dialect = dialect

    @property
    def requests(self) -> Counter[tuple[str, int]]:
        """How often each ``(path, status)`` was answered; status 0 is a connection cut before the answer."""
        return Counter(self._rest.requests) + Counter(self._entry.requests)

    @property
    def injected(self) -> tuple[Injection, ...]:
        """Every fault that happened so far: those of answers, of bars, of the stream, of orders, each in order."""
        return (
            *self._rest.strikes.injected,
            *self._answers.pages.injected,
            *self._realtime.injected,
            *self._desk.injected,
        )

    @property
    def stream_url(self) -> str:
        """The WebSocket's address without the key, such as ``ws://127.0.0.1:41873/v1/realtime``."""
        return f"ws://{self._host}:{self._port}/v1/realtime"

    @property
    def connections_opened(self) -> int:
        """How many WebSocket connections there ever were."""
        return self._realtime.links.opened

    @property
    def subscriptions(self) -> tuple[frozenset[tuple[str, str]], ...]:
        """What each open WebSocket connection is subscribed to, as ``(channel, symbol)``."""
        links = tuple(self._realtime.links.living)
        return tuple(frozenset((channel, item.symbol) for channel, item in tuple(link.topics)) for link in links)

    def strike(self, how: str, *, private: bool = False) -> int:
        """End every open connection of the market's stream now, in one of the ways of `ENDINGS`.

        Args:
            how: One of `ENDINGS`.
            private: End those of the private stream instead.

        Returns:
            How many there were.

        Raises:
            InputError: There is no such way, or the simulator is not running.
        """
        if how not in ENDINGS:
            raise InputError(f"strike: expected one of {' '.join(ENDINGS)}, found {how!r}")
        if self._loop is None or self._thread is None or not self._thread.is_alive():
            raise InputError("strike: expected a running simulator, found a stopped one")

        async def strike() -> int:
            return self._private.strike(how) if private else self._realtime.strike(how)

        return asyncio.run_coroutine_threadsafe(strike(), self._loop).result(_START_TIMEOUT_S)

    def add_key(
        self, key: str, plan_name: str, *, quota: int | None = None, addresses: frozenset[str] = frozenset()
    ) -> None:
        """Make a key valid, or change what it holds; its window starts empty.

        Args:
            key: The key's text.
            plan_name: One of free, basic, pro, enterprise, unlimited.
            quota: Requests until code 3002; None for no quota.
            addresses: The client addresses it is valid from; empty for all.
        """
        self._keys.add(key, plan_name, quota, addresses)

    def start(self) -> Self:
        """Start serving and return when the socket listens.

        Raises:
            InputError: It was started before, or cannot listen; the message says why.
        """
        if self._thread is not None:
            raise InputError("simulator: expected one start, found a second; make another Simulator")
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="simulator", daemon=True)
        self._thread.start()
        if not ready.wait(_START_TIMEOUT_S) or self._failure is not None:
            raise InputError(f"simulator: expected to listen on {self._host}:{self._port}, found {self._failure}")
        return self

    def stop(self) -> None:
        """Stop serving, cut open connections and return when the thread has ended."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(ready))
        except OSError as error:  # the port is taken: told to whoever called start
            self._failure = error
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        self._rest.join(app)
        self._realtime.join(app)
        self._entry.join(app)
        self._private.join(app)
        Binance(self._desk, self._keys, self._entry).join(app)
        self._steering().join(app)
        app.router.add_route("*", "/{tail:.*}", not_found)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        if isinstance(self.market.clock, MarketClock):
            self.market.clock.start()
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
            self._port = runner.addresses[0][1]
            ready.set()
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    def _steering(self) -> Steering:
        def switch(name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
            return lambda: getattr(self, name), lambda faults: setattr(self, name, faults)

        switches = {"rest": switch("faults"), "stream": switch("stream_faults"), "orders": switch("order_faults")}
        strikes = {"realtime": self._realtime.strike, "private": self._private.strike}
        return Steering(self._desk.venue, lambda: self.injected, switches, strikes)


def _clock(market: Market, now: Now) -> Clock:
    if now is None:
        return market.clock
    if isinstance(now, MarketClock):
        now.stop_at(market.clock())
        return now
    if callable(now):
        return lambda: milliseconds(now())
    fixed = milliseconds(now)
    return lambda: fixed
