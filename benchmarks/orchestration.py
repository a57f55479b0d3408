"""What Prefect costs: one backfill through the flow with a real server, and as a plain call, at the rate of a plan.

Both sides fetch the same bars of the same market into lakes of their own, each request metered as the vendor meters it,
so that the work is what a user waits for: 1,800 requests at once, then 30 a second. The promise: the flow takes at most
5 % longer.

    python -m benchmarks.orchestration [--symbols 200] [--days 15]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic import SecretStr

if TYPE_CHECKING:
    from tasks.simulator.market import Market

#: The promise of the platform.
MOST = 1.05
FIRST = datetime(2025, 3, 1, tzinfo=UTC)


def main() -> None:
    """Run both sides and print what each took; exit 1 where the promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--days", type=int, default=15)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        os.environ |= {"PREFECT_HOME": f"{folder}/prefect", "PREFECT_LOGGING_LEVEL": "WARNING"}
        os.environ.pop("PREFECT_API_URL", None)
        ratio = compare(asked.symbols, asked.days, Path(folder))
    print(f"flow / plain call: {ratio:.3f} (promised: at most {MOST})")
    sys.exit(ratio > MOST)


def compare(symbols: int, days: int, folder: Path) -> float:
    """Return how much longer the flow takes than the plain call, with a server that is up."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.backfill import backfill
    from tasks.simulator.market import generated

    names = [f"COIN{number:03d}USDT" for number in range(symbols)]
    market = generated(seed=5, symbols=tuple(names), start=FIRST, end=FIRST + timedelta(days=days))
    wanted = (names, "1m", FIRST.date(), (FIRST + timedelta(days=days)).date())
    with _server() as url, temporary_settings({PREFECT_API_URL: url}):
        plain = _timed("plain call", lambda: asyncio.run(backfill.fn(*wanted)), market, folder / "plain")
        return _timed("flow", lambda: backfill(*wanted), market, folder / "flow") / plain


def _timed(side: str, work: Callable[[], object], market: Market, folder: Path) -> float:
    """Do the work on a vendor with the rate of the enterprise plan; print and return its seconds."""
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
        wall, cpu = time.monotonic(), time.process_time()
        with use(settings):
            work()
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    print(f"{side:<10} {wall:7.1f} s wall, {cpu:6.1f} s CPU of this process, the vendor's included")
    return wall


@contextmanager
def _server() -> Iterator[str]:
    """Start a Prefect server of our own on a free port, and stop it at the end; yields its /api address."""
    from flows import adhoc

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    adhoc.start_server("127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{port}/api"
    finally:
        subprocess.run([sys.executable, "-m", "prefect", "server", "stop"], check=True, capture_output=True)


if __name__ == "__main__":
    main()
