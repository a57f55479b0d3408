"""The local market on a loopback socket: keys, limits and faults around the answers.

::

    with Simulator(generated(seed=7), plan="pro") as sim:
        ...  # speak the vendor's protocol to sim.url with the header X-API-Key: sim.api_key
        sim.faults = Faults(missing_p=0.01)
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import ceil
from types import TracebackType
from typing import Self

from aiohttp import web

from tasks.errors import InputError
from tasks.simulator.answers import Answers, Dialect
from tasks.simulator.faults import ANSWERS, Faults, Injection, chance
from tasks.simulator.market import Clock, Market, milliseconds
from tasks.simulator.plans import Key, RequestWindow, plan
from tasks.simulator.refusals import Refusal, envelope

_SERVER_ERRORS = (5000, 5001, 5002)
_START_TIMEOUT_S = 10.0


class Simulator:
    """The vendor's API on loopback, in a thread and event loop of its own.

    Use it as a context manager, plain or async. `faults` and `dialect` may be replaced while it runs.

    Args:
        market: What is traded.
        plan: The plan of `api_key`.
        faults: What goes wrong from the start.
        now: The market's time, or a function that returns it; None is the end of its data.
        dialect: How the undocumented is done.
        host: The address to listen on.
        port: 0 picks a free one.
        api_key: The key that `plan` belongs to.
        period_s: The length of the vendor's minute, so that a test of rate limits need not wait one.
        seed: Decides trades and books inside the bars.

    Attributes:
        market: The truth, with the simulator's clock.
        requests: How often each ``(path, status)`` was answered; status 0 is a connection cut before the answer.
    """

    def __init__(
        self,
        market: Market,
        *,
        plan: str = "enterprise",
        faults: Faults | None = None,
        now: datetime | Callable[[], datetime] | None = None,
        dialect: Dialect | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = "local-market-key",
        period_s: float = 60.0,
        seed: int = 0,
    ) -> None:
        self.market = market.at(_clock(market, now))
        self.answers = Answers(self.market, seed=seed)
        self.faults = faults or Faults()
        self.dialect = dialect or Dialect()
        self.api_key = api_key
        self.requests: Counter[tuple[str, int]] = Counter()
        self._keys: dict[str, Key] = {}
        self._period_s = period_s
        self._host, self._port = host, port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._asked: Counter[str] = Counter()
        self._injected: list[Injection] = []
        self._storm_left = 0
        self.add_key(api_key, plan)

    @property
    def url(self) -> str:
        """The base address, such as ``http://127.0.0.1:41873``."""
        return f"http://{self._host}:{self._port}"

    @property
    def faults(self) -> Faults:
        """What goes wrong now."""
        return self.answers.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.answers.faults = faults

    @property
    def dialect(self) -> Dialect:
        """How the undocumented is done now."""
        return self.answers.dialect

    @dialect.setter
    def dialect(self, dialect: Dialect) -> None:
        self.answers.dialect = dialect

    @property
    def injected(self) -> tuple[Injection, ...]:
        """Every fault that happened so far: those of answers, then those of bars, each in order."""
        return (*self._injected, *self.answers.pages.injected)

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
        held = plan(plan_name)
        self._keys[key] = Key(held, RequestWindow(held.requests_per_minute, self._period_s), quota, addresses)

    def start(self) -> Self:
        """Start serving and return when the socket listens."""
        if self._thread is not None:
            raise InputError("simulator: expected one start, found a second; make another Simulator")
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="simulator", daemon=True)
        self._thread.start()
        if not ready.wait(_START_TIMEOUT_S) or self._failure is not None:
            raise InputError(f"simulator: expected to listen on {self._host}:{self._port}: {self._failure}")
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
        for path in self.answers.paths:
            app.router.add_get(path, self._handle)
        app.router.add_route("*", "/{tail:.*}", _not_found)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port)
            await site.start()
            self._port = runner.addresses[0][1]
            ready.set()
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path, faults = request.path, self.faults
        try:
            key = self._admitted(request)
            struck = self._struck(faults, request.path_qs)
            if faults.latency_s or faults.jitter_s:
                wait = chance(faults.seed, "jitter", request.path_qs, self._asked[request.path_qs])
                await asyncio.sleep(faults.latency_s + faults.jitter_s * wait)
            if struck == "drop_p":
                return self._dropped(request)
            body = self.answers.answer(path, request.query, key.plan)
        except Refusal as refusal:
            self.requests[path, refusal.status] += 1
            return web.Response(
                body=refusal.body(),
                status=refusal.status,
                headers=refusal.headers,
                content_type="application/json",
            )
        self.requests[path, 200] += 1
        if struck == "truncate_p":
            return await self._truncated(request, body)
        return web.Response(body=body, content_type="application/json")

    def _admitted(self, request: web.Request) -> Key:
        """Return the key of a request, counted against its limits.

        Raises:
            Refusal: 1001 to 1003 for the key, 3001 for its minute, 3002 for its quota.
        """
        text = request.headers.get("X-API-Key", "")
        if not text:
            raise Refusal(1002)
        key = self._keys.get(text)
        if key is None:
            raise Refusal(1001)
        if key.addresses and request.remote not in key.addresses:
            raise Refusal(1003, str(request.remote))
        if key.quota is not None and key.quota <= 0:
            raise Refusal(3002)
        wait_s = key.window.admit(time.monotonic())
        if wait_s > 0:
            raise Refusal(3001, headers={"Retry-After": str(max(1, ceil(wait_s)))})
        if key.quota is not None:
            key.quota -= 1
        return key

    def _struck(self, faults: Faults, target: str) -> str | None:
        """Return the fault that strikes this answer itself.

        Raises:
            Refusal: The fault is an error code.
        """
        self._asked[target] += 1
        if faults.code is not None:
            self._injected.append(Injection("code", target))
            raise Refusal(faults.code)
        if self._storm_left:
            self._storm_left -= 1
            raise self._storm(faults, target)
        for name in ANSWERS:
            dice = chance(faults.seed, name, target, self._asked[target])
            if dice >= getattr(faults, name):
                continue
            if name == "storm_p":
                self._storm_left = faults.storm_requests - 1
                raise self._storm(faults, target)
            self._injected.append(Injection(name.removesuffix("_p"), target))
            if name == "server_error_p":
                raise Refusal(_SERVER_ERRORS[self._asked[target] % len(_SERVER_ERRORS)])
            return name
        return None

    def _storm(self, faults: Faults, target: str) -> Refusal:
        self._injected.append(Injection("storm", target))
        until = datetime.now(UTC) + timedelta(seconds=faults.retry_after_s)
        said = format_datetime(until, usegmt=True) if faults.retry_after_as_date else str(faults.retry_after_s)
        return Refusal(3001, headers={"Retry-After": said})

    def _dropped(self, request: web.Request) -> web.StreamResponse:
        self.requests[request.path, 0] += 1
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _truncated(self, request: web.Request, body: bytes) -> web.StreamResponse:
        half = body[: len(body) // 2]
        if self._asked[request.path_qs] % 2:
            return web.Response(body=half, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(half)
        if request.transport is not None:
            request.transport.close()
        return response


async def _not_found(request: web.Request) -> web.Response:
    body = envelope(None, code=404, message=f"Not found: {request.method} {request.path}")
    return web.Response(body=body, status=404, content_type="application/json")


def _clock(market: Market, now: datetime | Callable[[], datetime] | None) -> Clock:
    if now is None:
        return market.clock
    if callable(now):
        return lambda: milliseconds(now())
    fixed = milliseconds(now)
    return lambda: fixed
