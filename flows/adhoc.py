"""Flows that work when they are simply called.

Prefect's own answer to a call without a server is an ephemeral one, which dies with the process and loses the records
of the last seconds (measured: 178 of 200 task runs). An `AdHocFlow` starts a server in the background instead, leaves
it running for the next call and for the UI, and runs an async flow to its end when nobody awaits it:

    from flows.research import research
    research(symbols=["BTCUSDT"])          # in a script: starts a server where none is configured, returns the result
    await research(symbols=["BTCUSDT"])    # in a notebook or another flow
    research.fn(symbols=["BTCUSDT"])       # the plain coroutine function: no server, no records
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from prefect import Flow
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from tasks.errors import ConfigurationError

P = ParamSpec("P")
R = TypeVar("R")

#: A server that runs sweeps on a small machine answers late; taken for none, it would be started a second time.
ANSWER_TIMEOUT_S = 10.0

#: The command of a server of ours.
SERVER = (sys.executable, "-m", "flows.prefect_server", "server", "start")

#: A first start creates Prefect's database, which takes 20 s and more on a busy machine.
START_TIMEOUT_S = 180

#: What a server of ours is started with: batched records (a third of the CPU for each task run), concurrency leases
#: that survive a restart, no telemetry, no advertising.
SERVER_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


class AdHocFlow(Flow[P, R]):
    """A Prefect flow that finds or starts a server when it is called outside any run."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run the flow; an async one is awaited here unless an event loop is already running."""
        call = super().__call__
        if FlowRunContext.get() is not None:
            return call(*args, **kwargs)
        if not self.isasync:
            with server():
                return call(*args, **kwargs)

        async def run() -> R:
            with server():
                return await call(*args, **kwargs)  # type: ignore[misc]

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(run())
        return run()


def flow(**options: Any) -> Callable[[Callable[P, Awaitable[R]]], AdHocFlow[P, Any]]:
    """Decorate an async function as an `AdHocFlow`; the options are those of `prefect.flow`."""
    return lambda function: AdHocFlow(fn=function, **options)


@contextmanager
def server() -> Iterator[str]:
    """Point this process at the configured Prefect server, or at one on this machine, started if it is not there.

    Raises:
        ConfigurationError: A server is configured and does not answer, or one of our own does not start.
    """
    configured = PREFECT_API_URL.value()
    if configured:
        try:
            yield configured
        except RuntimeError as error:  # of Prefect's client, and of much else
            if is_healthy(configured):
                raise
            raise ConfigurationError(
                f"Prefect server: expected an answer at PREFECT_API_URL={configured}, found none; start it, unset the "
                "variable, or run with --no-orchestration"
            ) from error
        return
    settings = get_current_settings().server.api
    url = f"http://{settings.host}:{settings.port}/api"
    if not is_healthy(url):
        start_server(settings.host, settings.port)
    with temporary_settings({PREFECT_API_URL: url}):
        yield url


def is_healthy(url: str) -> bool:
    """Return whether a Prefect server answers at `url` (its ``/api`` address); a busy one has some seconds for it."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_TIMEOUT_S) as answer:  # noqa: S310  (always http on this machine)
            return json.load(answer) is True
    except (urllib.error.URLError, OSError, ValueError):
        return False


def server_environment(host: str, port: int) -> dict[str, str]:
    """Return what a server of ours is started with; its own address makes its messages' links and serves its pages."""
    address = f"http://{host}:{port}"
    return SERVER_ENVIRONMENT | {"PREFECT_UI_URL": address, "PREFECT_UI_API_URL": f"{address}/api"}


def start_server(host: str, port: int) -> None:
    """Start a Prefect server in the background and return when it answers; `prefect server stop` ends it.

    Not by ``prefect server start --background``: that server writes into a pipe nobody reads, and ends with the first
    error it has to log. Ours writes `server.log` in Prefect's home and belongs to no terminal.

    Raises:
        ConfigurationError: It did not come up; the message holds the end of what it printed.
    """
    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    command = [*SERVER, "--host", host, "--port", str(port)]
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  (our own command line)
            command,
            env=server_environment(host, port) | os.environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        ended = process.poll() is not None  # taken first: it may have made way for another process's server
        if is_healthy(f"http://{host}:{port}/api"):
            break
        if ended or time.monotonic() > deadline:
            process.terminate()
            printed = (home / "server.log").read_text(errors="replace")[-800:]
            raise ConfigurationError(
                f"Prefect server: expected an answer on {host}:{port} within {START_TIMEOUT_S} s, found none; it "
                f"printed: {printed}; start it by hand with `prefect server start`, or run without orchestration"
            )
        time.sleep(0.2)
    if not ended:
        (home / "server.pid").write_text(str(process.pid))
