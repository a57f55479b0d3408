"""The local market in a process of its own, so that it takes no time from the interpreter that is measured."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Connection

from tasks.simulator.market import generated
from tasks.simulator.server import Simulator


@dataclass(frozen=True)
class Served:
    """How to reach the market, and what it counted.

    Attributes:
        url: Its address.
        api_key: A key of the plan asked for.
        pipe: The way to its process.
    """

    url: str
    api_key: str
    pipe: Connection

    def statuses(self) -> dict[int, int]:
        """Return how many requests were answered so far with each HTTP status."""
        self.pipe.send("statuses")
        return self.pipe.recv()


@contextmanager
def served(
    symbols: tuple[str, ...], start: datetime, end: datetime, *, plan: str = "unlimited", period_s: float = 60.0
) -> Iterator[Served]:
    """Serve generated minutes of these symbols until the block ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, symbols, start, end, plan, period_s), daemon=True)
    process.start()
    url, key = ours.recv()
    try:
        yield Served(url, key, ours)
    finally:
        ours.send("stop")
        process.join(10)


def _serve(
    pipe: Connection, symbols: tuple[str, ...], start: datetime, end: datetime, plan: str, period_s: float
) -> None:
    market = generated(seed=7, symbols=symbols, interval="1m", start=start, end=end)
    with Simulator(market, plan=plan, period_s=period_s) as sim:
        pipe.send((sim.url, sim.api_key))
        while pipe.recv() == "statuses":
            counts: dict[int, int] = {}
            for (_, status), count in sim.requests.items():
                counts[status] = counts.get(status, 0) + count
            pipe.send(counts)
