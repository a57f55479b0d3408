"""The local market in a process of its own, so that a proof's memory is the stream's alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any


class RemoteMarket:
    """Speaks to the market's process.

    Attributes:
        url, stream_url, api_key: As those of the simulator.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.url, self.stream_url, self.api_key = pipe.recv()

    def strike(self, how: str) -> int:
        """End every connection in one of the simulator's ways."""
        return self._ask("strike", how)

    @property
    def subscriptions(self) -> tuple[frozenset[tuple[str, str]], ...]:
        """What each open connection is subscribed to."""
        return self._ask("subscriptions")

    def _ask(self, *question: Any) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()


@contextmanager
def remote_market(symbols: tuple[str, ...], start: datetime, speed: float) -> Iterator[RemoteMarket]:
    """Serve a generated market from another process for the length of the block."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, symbols, start, speed), daemon=True)
    process.start()
    try:
        yield RemoteMarket(here)
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, symbols: tuple[str, ...], start: datetime, speed: float) -> None:
    from tasks.simulator.clock import MarketClock
    from tasks.simulator.market import generated
    from tasks.simulator.server import Simulator

    market = generated(seed=7, symbols=symbols, start=start, end=start + timedelta(days=2))
    with Simulator(market, now=MarketClock(start + timedelta(hours=1), speed=speed)) as simulator:
        pipe.send((simulator.url, simulator.stream_url, simulator.api_key))
        while True:
            name, *arguments = pipe.recv()
            found = getattr(simulator, name)
            pipe.send(found(*arguments) if callable(found) else found)
