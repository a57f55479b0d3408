"""``klinehouse serve``: Prefect's server, a worker, all deployments and automations, the live flow, in one terminal.

Everything listens on loopback. What crashes is started again, later each time; Ctrl-C or SIGTERM ends all of it clean:
the live flow closes its connection, runs of the worker are cancelled and wait for their commits, the server goes last.
A server that answers already is used and left alone. The parts die with this process even when it is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from filelock import FileLock, Timeout
from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from flows.adhoc import SERVER, START_TIMEOUT_S, is_healthy, server_environment
from flows.deploy import PREFECT, deploy, server_url
from flows.settings import Settings
from flows.tidy import POOL, tidy, worker_name
from tasks.errors import ConfigurationError

log = structlog.get_logger("flows.serve")

#: Seconds before a crashed part is started again: doubled after each crash, back to the first once it lived so long.
FIRST_WAIT_S, LONGEST_WAIT_S, STEADY_S = 1.0, 60.0, 120.0
#: Prefect kills a cancelled run after 30 s; the live flow ends within 20 s.
DRAIN_S, STOP_S = 35.0, 40.0
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass
class Part:
    """A process that is kept running.

    Attributes:
        name: As its lines of output begin.
        command: What is started.
        environment: Variables that it gets besides ours.
        before: Awaited before each start.
        process: The one that runs now.
        starts: How often it was started.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], Awaitable[object]] | None = None
    process: asyncio.subprocess.Process | None = None
    starts: int = 0

    async def keep(self, stop: asyncio.Event) -> None:
        """Run the process, and again whenever it ends, until `stop` is set."""
        wait = FIRST_WAIT_S
        while not stop.is_set():
            began = time.monotonic()
            try:
                code = await self._run()
            except (HTTPError, RuntimeError) as error:  # Prefect's client, where the server has just crashed
                code = f"not started: {error}"
            if stop.is_set():
                return
            wait = FIRST_WAIT_S if time.monotonic() - began > STEADY_S else wait
            log.warning("part.ended", part=self.name, code=code, again_in_s=wait)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)
            wait = min(2 * wait, LONGEST_WAIT_S)

    async def end(self, timeout_s: float = STOP_S) -> None:
        """Ask the process to end, and kill it where it does not in time."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), timeout_s)
        except TimeoutError:
            log.error("part.killed", part=self.name, after_s=timeout_s)
            self.process.kill()

    async def _run(self) -> int:
        if self.before is not None:
            await self.before()
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the parts in their order
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        self.starts += 1
        await _relay(self.name, self.process)
        return await self.process.wait()


async def serve(settings: Settings, live: Sequence[str], *, limit: int, stop: asyncio.Event) -> None:
    """Bring everything up, keep it up, and end it clean once `stop` is set.

    Args:
        settings: This machine's.
        live: Arguments of ``klinehouse live``; none for no live flow.
        limit: Flow runs of the worker at a time.
        stop: Set it to end everything.

    Raises:
        ConfigurationError: Another `serve` runs on this state folder, or a part cannot be set up.
    """
    url = server_url()
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with _only_one(settings.state_dir / "serve.lock"), temporary_settings({PREFECT_API_URL: url}):
        shared = {"PREFECT_API_URL": url, "PREFECT_HOME": str(prefect_home(settings)), "PYTHONUNBUFFERED": "1"}
        async with asyncio.TaskGroup() as group:
            server = None if is_healthy(url) else _server(url, shared)
            keeping = [] if server is None else [group.create_task(server.keep(stop))]
            parts: list[Part] = []
            try:
                if not await _answering(url, stop):
                    return
                await deploy(shared, settings.alert_block)
                parts = _clients(settings, live, limit, shared)
                keeping += [group.create_task(part.keep(stop)) for part in parts]
                print(_addresses(settings, url, live, owned=server is not None), file=sys.stderr)
                await stop.wait()
            finally:
                stop.set()
                await _end(parts, server, url)


def _server(url: str, shared: Mapping[str, str]) -> Part:
    environment = server_environment("127.0.0.1", urlsplit(url).port or 4200)
    return Part("server", server_command(url), {**environment, **shared})


def server_command(url: str) -> list[str]:
    """Return the command of a server that answers at `url`, on loopback only."""
    return [*SERVER, "--host", "127.0.0.1", "--port", str(urlsplit(url).port or 4200)]


def prefect_home(settings: Settings) -> Path:
    """Return where Prefect keeps its database: PREFECT_HOME, or a part of our state folder."""
    chosen = os.environ.get("PREFECT_HOME")
    return Path(chosen) if chosen else settings.state_dir.absolute() / "prefect"


def stopped_by_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGINT and SIGTERM; more of them change nothing."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)


def run(settings: Settings, live: Sequence[str], limit: int) -> None:
    """Serve until Ctrl-C."""

    async def until_stopped() -> None:
        stop = asyncio.Event()
        stopped_by_signals(stop)
        await serve(settings, live, limit=limit, stop=stop)

    try:
        asyncio.run(until_stopped())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


def _clients(settings: Settings, live: Sequence[str], limit: int, shared: Mapping[str, str]) -> list[Part]:
    async def put_right() -> None:
        async with get_client() as client:
            await tidy(client, settings.state_dir)

    worker = [*PREFECT, "worker", "start", "--pool", POOL, "--name", worker_name(), "--limit", str(limit)]
    parts = [Part("worker", worker, shared, put_right)]
    if live:
        parts.append(Part("live", [sys.executable, "-m", "flows.live", *live], shared, put_right))
    return parts


async def _end(parts: Sequence[Part], server: Part | None, url: str) -> None:
    """End the live flow and the runs, then the worker, then the server."""
    print("Ending: the live flow and runs first, the server last.", file=sys.stderr)
    worker, live = ([part for part in parts if part.name == name] for name in ("worker", "live"))
    drained = [_drain()] if worker and is_healthy(url) else []
    await asyncio.gather(*(part.end() for part in live), *drained)
    await asyncio.gather(*(part.end() for part in worker))
    if server is not None:
        await server.end()


async def _drain() -> None:
    """Cancel the worker's runs and wait until they have ended: a worker that is stopped kills them."""
    pool = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})

    async with get_client() as client:

        async def running(*types: str) -> list:
            states = FlowRunFilter.model_validate({"state": {"type": {"any_": types}}})
            return await client.read_flow_runs(flow_run_filter=states, work_pool_filter=pool)

        for one in await running("RUNNING"):
            await client.set_flow_run_state(one.id, Cancelling(message="The machine is being stopped."))
        deadline = time.monotonic() + DRAIN_S
        while await running("RUNNING", "CANCELLING") and time.monotonic() < deadline:  # noqa: ASYNC110  # a server's word
            await asyncio.sleep(0.5)


async def _answering(url: str, stop: asyncio.Event) -> bool:
    """Return True once the server answers, False where it is told to stop before."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not await asyncio.to_thread(is_healthy, url):
        if stop.is_set():
            return False
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"Prefect server: expected an answer at {url}, found none; its lines above say why"
            )
        await asyncio.sleep(0.2)
    return True


async def _relay(name: str, process: asyncio.subprocess.Process) -> None:
    """Print what a process prints, each line with its name in front."""
    assert process.stdout is not None  # noqa: S101  # it was opened as a pipe
    while chunk := await process.stdout.read(1 << 16):
        for line in chunk.decode(errors="replace").splitlines():
            print(f"{name:>6} | {line}", file=sys.stderr)


def _only_one(path: Path) -> FileLock:
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigurationError(f"serve: expected no other, found one holding {path}; stop it first") from None
    return lock


def _addresses(settings: Settings, url: str, live: Sequence[str], *, owned: bool) -> str:
    page = f"http://127.0.0.1:{settings.control_port}" if live else "not asked for: klinehouse serve SYMBOL …"
    server = url.removesuffix("/api") + ("" if owned else " (it was there already, and stays)")
    return (
        f"\n  Flow runs  {server}\n  Live flow  {page}\n  Lake       {settings.lake_root}\n"
        f"  State      {settings.state_dir}\n  Alerts     {settings.alert_block or 'event feed only'}\n"
        "  Ctrl-C ends all of it.\n"
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)
