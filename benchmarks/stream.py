"""How fast one connection is decoded with the ratio computed, against the article's client, and what the loop feels.

    python -m benchmarks.stream             # about two minutes
    python -m benchmarks.stream --day       # and a virtual day of 50 symbols through session, desk and recorder

The sender is a process of its own that writes ready-made frames; both clients read the same bytes. The article's client
is websocket-client with `json`, one callback a message, which computes the pressure ratio of the best level.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

import websocket
from pydantic import SecretStr

from benchmarks.runner import Table
from benchmarks.stream_sender import serve
from lake.store import Lake
from tasks.stream.book import Book, BookPolicy, pressure_ratio
from tasks.stream.desk import Desk, DeskPolicy
from tasks.stream.mailbox import Mailbox
from tasks.stream.messages import Depth, Message
from tasks.stream.policy import SessionPolicy
from tasks.stream.recording import Recorder
from tasks.stream.session import Session
from tasks.stream.socket import Driver, Endpoint
from tasks.stream.subscriptions import Topic

MESSAGES = 100_000
SYMBOLS = [f"S{number:02}USDT" for number in range(50)]
LAG_PROBE_S = 0.002
DAY_S = 86_400
MESSAGES_A_SECOND = 2


@dataclass(slots=True)
class Lags:
    """How late the loop woke, by the clock, and the processor time that we ourselves spent meanwhile."""

    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)


def ours(port: int, lags: Lags, processor_s: list[float]) -> float:
    """Read every message through session and driver, apply it to its book, compute the ratio; return the seconds."""
    before = time.process_time()
    seconds = asyncio.run(_ours(port, lags))
    processor_s.append(time.process_time() - before)
    return seconds


async def idle_lag_s() -> list[float]:
    """Return how late an idle loop wakes on this machine now: what the others on it cost."""
    lags_s = []
    for _ in range(500):
        due = time.perf_counter() + LAG_PROBE_S
        await asyncio.sleep(LAG_PROBE_S)
        lags_s.append(time.perf_counter() - due)
    return lags_s


async def _ours(port: int, lags: Lags) -> float:
    books = {symbol: Book(symbol, BookPolicy()) for symbol in SYMBOLS}
    mailbox, stop = Mailbox(), asyncio.Event()
    seen, began, ended, total = 0, 0.0, 0.0, 0.0

    def on_data(topic: Topic, message: Message, now: float) -> None:
        nonlocal seen, began, ended, total
        assert isinstance(message, Depth)
        books[topic.symbol].apply(message, now)
        total += pressure_ratio(message.bids[0][1], message.asks[0][1])
        mailbox.put(topic.symbol, message, now)
        seen += 1
        if seen == 1:
            began = now
        elif seen == MESSAGES:
            ended = now
            stop.set()

    async def probe() -> None:
        while True:
            due, used = time.perf_counter() + LAG_PROBE_S, time.process_time()
            await asyncio.sleep(LAG_PROBE_S)
            lags.wall_s.append(time.perf_counter() - due)
            lags.processor_s.append(time.process_time() - used)

    session = Session(
        [("depth", symbol) for symbol in SYMBOLS],
        policy=SessionPolicy(close_timeout_s=0.2),
        rng=Random(1),  # noqa: S311
        epoch_ms=time.time() * 1000.0,
    )
    address = f"127.0.0.1:{port}"
    endpoint = Endpoint(f"ws://{address}/v1/realtime", f"http://{address}", SecretStr("k"))
    probing = asyncio.create_task(probe())
    await Driver(session, endpoint, on_data=on_data, on_event=lambda event: None).run(stop)
    probing.cancel()
    assert total > 0.0
    return ended - began


def article(port: int) -> float:
    """Read every message as the article's client does; return the seconds."""
    seen, began, ended, total = 0, 0.0, 0.0, 0.0
    command = json.dumps({"cmd": "subscribe", "data": {"channel": "depth", "symbols": SYMBOLS}})

    def on_message(app: websocket.WebSocketApp, text: str) -> None:
        nonlocal seen, began, ended, total
        message = json.loads(text)
        if message["cmd"] != "depth":
            return
        data = message["data"]
        total += float(data["bids"][0][1]) / float(data["asks"][0][1])
        seen += 1
        if seen == 1:
            began = time.perf_counter()
        elif seen == MESSAGES:
            ended = time.perf_counter()
            app.close()

    app = websocket.WebSocketApp(
        f"ws://127.0.0.1:{port}/v1/realtime", on_open=lambda app: app.send(command), on_message=on_message
    )
    app.run_forever()
    assert total > 0.0
    return ended - began


def virtual_day(hours: int) -> tuple[float, int, float]:
    """Run hours of 50 symbols in virtual time, recording included; return seconds, messages, growth in MiB."""
    frames = [_frame(symbol, variant) for symbol in SYMBOLS for variant in range(MESSAGES_A_SECOND)]
    policy = SessionPolicy()
    session = Session([("depth", one) for one in SYMBOLS], policy=policy, rng=Random(1), epoch_ms=0.0)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Lake(folder))
        desk = Desk(SYMBOLS, DeskPolicy(), recorder=recorder, on_alert=lambda alert: None, to_wall_ms=session.wall_ms)
        session.start(0.0)
        session.opened(0.0)
        began, messages, early = time.perf_counter(), 0, 0.0
        for second in range(hours * 3600):
            messages += _virtual_second(session, desk, frames, second)
            if second % 60 == 59:
                recorder.flush()
            if second == hours * 900:
                early = _memory_mib()
        return time.perf_counter() - began, messages, _memory_mib() - early


def _virtual_second(session: Session, desk: Desk, frames: list[tuple[bytes, bytes]], second: int) -> int:
    """One second of market: every symbol's messages, a pong, four ticks, one disconnect in about seven minutes."""
    stamp = str(second * 1000).encode()
    for number, (head, tail) in enumerate(frames):
        now = second + number / len(frames)
        delivered = session.receive(head + stamp + tail, now)
        if delivered is not None:
            desk.take(delivered[0].symbol, delivered[1], now)  # type: ignore[arg-type]
    session.receive(b'{"cmd":"pong","data":{"timestamp":%d}}' % (second * 1000), second + 0.99)
    for _ in range(4):
        session.tick(second + 0.995)
    if second % 432 == 431:
        session.lost(second + 0.995, 1006, "virtual cut")
        session.tick(session.retry_at)
        session.opened(max(session.retry_at, second + 0.995))
    for event in session.take_events():
        desk.hear(event)
    session.take_commands()
    desk.tick(second + 0.999)
    return len(frames)


def _frame(symbol: str, variant: int) -> tuple[bytes, bytes]:
    bids = [[f"{100 - level * 0.5:.2f}", f"{1 + variant + level:.4f}"] for level in range(10)]
    asks = [[f"{100.5 + level * 0.5:.2f}", f"{1 + level:.4f}"] for level in range(10)]
    data: dict[str, Any] = {"symbol": symbol, "bids": bids, "asks": asks, "timestamp": -1}
    head, tail = json.dumps({"cmd": "depth", "data": data}).encode().split(b"-1")
    return head, tail


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def main() -> None:
    """Measure, print, and exit 1 where a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hours", type=int, default=0, help="hours of virtual time; 24 is the claim")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    sender = context.Process(target=serve, args=(ports, SYMBOLS, MESSAGES), daemon=True)
    sender.start()
    port = ports.get(timeout=60)
    table = Table("Live stream")
    lags = Lags()
    processor_s: list[float] = []
    idle_ms = 1000.0 * statistics.quantiles(asyncio.run(idle_lag_s()), n=100)[98]
    try:
        found = table.compare(
            "depth messages decoded with the ratio, against the article's client",
            lambda: ours(port, lags, processor_s),
            lambda: article(port),
            bar=3.0,
            repeats=arguments.repeats,
            work=MESSAGES,
        )
    finally:
        sender.terminate()
        sender.join()
    table.figure("depth messages a second, one connection", MESSAGES / found.ours_s, at_least=60_000, unit="/s")
    rate = MESSAGES / statistics.median(processor_s)
    table.figure("depth messages a second of processor time", rate, at_least=100_000, unit="/s")
    lag_ms, own_ms = (1000.0 * statistics.quantiles(some, n=100)[98] for some in (lags.wall_s, lags.processor_s))
    table.figure("processor time between two turns of a task, p99", own_ms, at_most=20.0, unit=" ms")
    table.figure(
        "loop lag p99 meanwhile", lag_ms, at_most=20.0, unit=" ms", detail=f"an idle loop here: {idle_ms:.2g} ms"
    )
    if arguments.hours:
        seconds, messages, growth = virtual_day(arguments.hours)
        allowed = 1800.0 * arguments.hours / 24
        detail = f"{messages:,} messages, recording included"
        table.figure(
            f"{arguments.hours} virtual hours of 50 symbols", seconds, at_most=allowed, unit=" s", detail=detail
        )
        table.figure("memory grown over the last three quarters", growth, at_most=64.0, unit=" MiB")
    table.finish()


if __name__ == "__main__":
    main()
