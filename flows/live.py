"""The live flow: one long run that streams, watches and records until somebody stops it.

It lives in a process of its own: ``python -m flows.live BTCUSDT ETHUSDT`` serves the deployment ``live/live`` and
begins a run of it. Never under the process worker, which kills a run in 0.05 s without letting it clean up, and never
with a deployment concurrency limit, whose lease kills a healthy run when the server restarts. A file lock is what
keeps a second one out. SIGTERM, SIGINT, both at once or twice, and a cancel from the UI all end it clean.

No postponed annotations here: the runner pickles a served flow by value, and names that only annotations use would be
left behind.
"""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import structlog
from filelock import FileLock, Timeout
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import TerminationSignal
from prefect.runner import Runner
from prefect.states import Cancelled, State
from pydantic import Field

from flows import adhoc
from flows.live_alerts import AlertSender
from flows.live_desk import LiveDesk
from flows.live_vendor import open_live_vendor
from flows.parameters import IntervalName, Symbols
from flows.settings import load
from tasks.errors import ConfigurationError
from tasks.stream.monitor import MonitorPolicy

log = structlog.get_logger("flows.live")

NAME = "live"


@flow(name=NAME, flow_run_name="live {interval}")
async def live(
    symbols: Symbols,
    interval: IntervalName = "1m",
    alert_blocks: list[str] = [],  # noqa: B006  # Prefect reads the default for its form; nobody changes it
    buy_above: Annotated[float, Field(gt=1)] = 2.5,
    sell_below: Annotated[float, Field(gt=0, lt=1)] = 0.4,
) -> State[Any]:
    """Stream, watch and record some symbols until stopped.

    Args:
        symbols: Symbols in the vendor's spelling, the most important first.
        interval: Bars kept up to date in the lake while streaming.
        alert_blocks: Prefect notification blocks that hear of pressure, such as slack-webhook/ops.
        buy_above: Pressure ratio above which an episode of buying begins.
        sell_below: Pressure ratio below which an episode of selling begins.

    Returns:
        Cancelled when it was stopped, with everything recorded.

    Raises:
        ConfigurationError: Another live flow runs, or a setting is missing.
    """
    settings, stop = load(), asyncio.Event()
    monitor = MonitorPolicy.beyond(buy_above, sell_below)
    with single_instance(settings.state_dir / "live.lock"), stopped_by_signals(stop):
        async with open_live_vendor(settings, symbols) as vendor, AlertSender(alert_blocks) as alerts:
            desk = LiveDesk(settings, vendor, symbols, interval, monitor, alerts)
            await desk.run(stop)
    return Cancelled(message="Stopped: the connection was closed and what was seen is in the lake.")


@contextmanager
def single_instance(path: Path) -> Iterator[None]:
    """Hold the lock that only one live flow can hold; the kernel gives it back whatever happens to the process.

    Raises:
        ConfigurationError: Another live flow holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigurationError(
            f"live: expected no other live flow, found one holding {path}; stop it first"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` on SIGTERM and SIGINT, however often they come, in the place of Prefect's handlers."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class OnceRunner(Runner):
    """Prefect's runner, deaf to every signal after the first: a second one makes it hang with its run already over."""

    def handle_sigterm(self, *args: Any) -> None:
        """Begin to end, once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        super().handle_sigterm(*args)


def serve(symbols: list[str], **parameters: Any) -> None:
    """Serve the deployment ``live/live`` from this process, begin a run, and return when both have ended."""
    with adhoc.server():
        runner = OnceRunner(name=NAME, pause_on_shutdown=False, limit=1)
        deployment = runner.add_flow(live, name=NAME, parameters={"symbols": symbols, **parameters})
        with get_client(sync_client=True) as client:
            client.create_flow_run_from_deployment(deployment)  # type: ignore[arg-type]
        try:
            asyncio.run(runner.start())
        except (KeyboardInterrupt, TerminationSignal):
            log.info("serving.stopped")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m flows.live SYMBOL [SYMBOL …]")
    serve(sys.argv[1:])
