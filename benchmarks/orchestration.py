"""What Prefect costs: one backfill through the flow with a real server, and as a plain call, at the rate of a plan.

Both sides fetch the same bars of the same market into lakes of their own, each request metered as the vendor meters it,
so that the work is what a user waits for: 1,800 requests at once, then 30 a second. The promise: the flow takes at most
5 % longer, in the median of some rounds. CPU seconds of both processes say where the rest goes: they do not depend on
what else the machine is doing.

    python -m benchmarks.orchestration [--symbols 200] [--days 15] [--rounds 1]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import structlog
from pydantic import SecretStr

if TYPE_CHECKING:
    from tasks.simulator.market import Market

#: The promise of the platform.
MOST = 1.05
#: Seconds until the server has written the last records of a run, which it does in batches.
SETTLE_S = 5.0
FIRST = datetime(2025, 3, 1, tzinfo=UTC)


def main() -> None:
    """Run both sides and print what each took; exit 1 where the promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--days", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        os.environ |= {"PREFECT_HOME": f"{folder}/prefect", "PREFECT_LOGGING_LEVEL": "WARNING"}
        os.environ.pop("PREFECT_API_URL", None)
        ratio = compare(asked.symbols, asked.days, asked.rounds, Path(folder))
    print(f"flow / plain call: {ratio:.3f} (promised: at most {MOST})")
    sys.exit(ratio > MOST)


def compare(symbols: int, days: int, rounds: int, folder: Path) -> float:
    """Return how much longer the flow takes than the plain call, with a server that is up; the median of the rounds."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.backfill import backfill
    from tasks.simulator.market import generated

    names = [f"COIN{number:03d}USDT" for number in range(symbols)]
    market = generated(seed=5, symbols=tuple(names), start=FIRST, end=FIRST + timedelta(days=days))
    wanted = (names, "1m", FIRST.date(), (FIRST + timedelta(days=days)).date())
    sides = {"plain call": lambda: asyncio.run(backfill.fn(*wanted)), "flow": lambda: backfill(*wanted)}
    with _server() as (url, server), temporary_settings({PREFECT_API_URL: url}):
        ratios = []
        for number in range(rounds):
            plain, flow = (
                _timed(side, work, market, folder / f"{side}-{number}", server) for side, work in sides.items()
            )
            ratios.append(flow / plain)
    return statistics.median(ratios)


def _timed(side: str, work: Callable[[], object], market: Market, folder: Path, server: psutil.Process) -> float:
    """Do the work on a vendor with the rate of the enterprise plan; print what it took and return its seconds."""
    from flows.settings import Settings, use
    from tasks.simulator.server import Simulator

    with Simulator(market, plan="enterprise") as vendor:
        settings = Settings(
            lake_root=str(folder / "lake"),
            state_dir=folder / "state",
            vendor_url=vendor.url,
            api_key=SecretStr(vendor.api_key),
            market_now=market.now,
            plan="enterprise",
        )
        wall, ours, theirs = time.monotonic(), time.process_time(), _cpu(server)
        with use(settings):
            work()
        wall, ours = time.monotonic() - wall, time.process_time() - ours
    time.sleep(SETTLE_S)
    theirs = _cpu(server) - theirs
    print(
        f"{side:<10} {wall:7.1f} s wall, CPU: {ours:5.1f} s here, the vendor's included, {theirs:4.1f} s Prefect server"
    )
    return wall


def _cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children."""
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


@contextmanager
def _server() -> Iterator[tuple[str, psutil.Process]]:
    """Start a Prefect server of our own on a free port, and stop it at the end; yields its /api address and itself."""
    from flows import adhoc

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    adhoc.start_server("127.0.0.1", port)
    try:
        pid = int((Path(os.environ["PREFECT_HOME"]) / "server.pid").read_text())
        yield f"http://127.0.0.1:{port}/api", psutil.Process(pid)
    finally:
        subprocess.run([sys.executable, "-m", "prefect", "server", "stop"], check=True, capture_output=True)


if __name__ == "__main__":
    main()
