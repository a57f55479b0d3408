"""Both ends of the order benchmark's wire in processes of their own: who sends ticks, and the market that takes orders.

Times are of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.stream_sender import frame, frames, shake_hands

#: Trades of this side are signals, numbered by their ids. Trades, since books conflate: each one has to be seen.
SIGNAL = "neutral"
_BURST_S = 0.002
#: No answer takes so long; what does not come by then never will.
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Wire:
    """A process at the other end.

    Attributes:
        address: Where it listens, with whatever else it told first.
        pipe: Takes commands, gives answers.
    """

    address: Any
    pipe: Connection

    def ask(self, *command: Any) -> Any:
        """Give a command and wait for its answer."""
        self.pipe.send(command)
        return _heard(self.pipe)


@contextmanager
def wire(target: Any, *arguments: Any) -> Iterator[Wire]:
    """Run one end in a process for the length of the block."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *arguments), daemon=True)
    process.start()
    there.close()  # or the end of the process would not end what is read from it
    try:
        yield Wire(_heard(here), here)
    finally:
        process.kill()
        process.join()


def _heard(pipe: Connection) -> Any:
    if not pipe.poll(PATIENCE_S):
        raise TimeoutError(f"expected the other end to answer within {PATIENCE_S:g} s, found it silent")
    return pipe.recv()


def send_ticks(pipe: Connection, symbols: list[str]) -> None:
    """Send depth frames to one reader: ``(rate, seconds, signals a second)``."""
    ready = frames(symbols)
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shake_hands(connection)
        while True:
            pipe.send(_pace(connection, ready, symbols, *pipe.recv()))


def _pace(connection: socket.socket, ready: list[bytes], symbols: list[str], rate: int, seconds: float, signals: int
) -> dict[int, float]:  # fmt: skip
    """Send evenly; return when each signal was sent."""
    began, sent, told = time.perf_counter(), 0, {}
    while (passed := time.perf_counter() - began) < seconds:
        due = round(passed * rate)
        if due > sent:
            connection.sendall(b"".join(ready[number % len(ready)] for number in range(sent, due)))
            sent = due
        number = len(told)
        if passed * signals > number:
            signal = _signal(symbols[number % len(symbols)], number)
            told[number] = time.perf_counter()
            connection.sendall(signal)
        time.sleep(_BURST_S)
    return told


def _signal(symbol: str, number: int) -> bytes:
    trade = {"id": str(number), "price": "97000.00", "quantity": "1.0", "side": SIGNAL, "timestamp": 1_772_409_600_000}
    data = {"symbol": symbol, "trades": [trade]}
    return frame(json.dumps({"cmd": "trade", "data": data}, separators=(",", ":")).encode())


def take_orders(pipe: Connection, symbols: tuple[str, ...]) -> None:
    """Serve the local market, and note when each request about an order came off its socket.

    ``("arrivals",)`` returns that; what the market does with a request is its own time.
    """
    from aiohttp import web
    from aiohttp.web_protocol import RequestHandler

    from tasks.simulator.clock import MarketClock
    from tasks.simulator.entry import OrderEntry
    from tasks.simulator.market import generated
    from tasks.simulator.server import Simulator

    arrivals: dict[tuple[str, str], float] = {}
    read: dict[int, float] = {}
    data_received, place, cancel = RequestHandler.data_received, OrderEntry._place, OrderEntry._cancel

    def noted_data(connection: Any, data: bytes) -> None:
        if data:  # the handler resumes reading with nothing
            read[id(connection)] = time.perf_counter()
        data_received(connection, data)

    async def noted_place(entry: OrderEntry, request: web.Request) -> web.StreamResponse:
        arrivals["place", json.loads(await request.read())["client_order_id"]] = read[id(request.protocol)]
        return await place(entry, request)

    async def noted_cancel(entry: OrderEntry, request: web.Request) -> web.StreamResponse:
        arrivals.setdefault(("cancel", request.query["client_order_id"]), read[id(request.protocol)])
        return await cancel(entry, request)

    RequestHandler.data_received = noted_data  # type: ignore[method-assign]
    OrderEntry._place, OrderEntry._cancel = noted_place, noted_cancel  # type: ignore[method-assign]
    start = datetime(2026, 3, 2, tzinfo=UTC)
    goods = generated(seed=7, symbols=symbols, start=start, end=start + timedelta(days=1))
    with Simulator(goods, plan="unlimited", now=MarketClock(start + timedelta(hours=1), speed=1)) as simulator:
        pipe.send((simulator.url, simulator.api_key))
        while True:
            pipe.recv()
            pipe.send(dict(arrivals))
