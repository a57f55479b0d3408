"""From tick to order, cancels behind a queue of ticks, and recovery: the speeds of the order desk.

    python -m benchmarks.orders             # about a minute and a half

Three processes over loopback: a sender of WebSocket frames, ours (stream service, desk, journal with every commit
synced, broker adapter), and the local market that takes the orders. A tick's way is timed from the moment before its
frame is sent to the moment the market has read its order's request off the socket. Books come at full rate and
conflate; the ticks that are signals are trades, which do not: one without its order fails the run. A cancel is timed
from the call that wants it to the moment the market has read its request, with so many trades waiting in the stream's
mailbox whenever one is wanted.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import structlog
from pydantic import SecretStr

from benchmarks.journal_orders import measure_journal
from benchmarks.killed_orders import LIMITS
from benchmarks.orders_market import SIGNAL, Wire, send_ticks, take_orders, wire
from benchmarks.runner import Table
from flows.trading import OrderDesk
from flows.trading_process import kept_awake
from flows.trading_proposal import Proposal
from tasks.broker.local import LocalBroker, LocalSettings
from tasks.journal.journal import Journal
from tasks.orders.account import Market, TradingState
from tasks.orders.order import OrderType, Side, Status, TimeInForce
from tasks.stream.desk import Desk, DeskPolicy
from tasks.stream.messages import Trade, Trades
from tasks.stream.policy import SessionPolicy
from tasks.stream.service import StreamService
from tasks.stream.session import Session
from tasks.stream.socket import Endpoint
from tasks.stream.way import Way

SYMBOLS = [f"S{number:02}USDT" for number in range(50)]
RATE, SIGNALS_A_SECOND = 5_000, 20
QUEUED, ROUNDS = 200_000, 4


@dataclass
class Bench:
    """What runs in this process.

    Attributes:
        desk: The order desk.
        service: The stream.
        numbers: Order to the signal it came from.
    """

    desk: OrderDesk
    service: StreamService
    numbers: dict[str, int]


class SignalDesk(Desk):
    """The stream's desk, with a strategy that orders once for every signal it sees among the trades."""

    on_signal: Callable[[str, int], None]

    def take_trades(self, trades: Iterable[tuple[str, Trade, float]]) -> None:
        """Take trades, then look at them."""
        taken = list(trades)
        super().take_trades(taken)
        for symbol, trade, _ in taken:
            if trade.side == SIGNAL:
                self.on_signal(symbol, int(trade.id))


async def _within(sender: Wire, market: Wire, folder: Path, work: Callable[[Bench], Awaitable[None]]) -> None:
    """Run stream and desk on both wires for the length of some work."""
    url, key = market.address
    clock, stop, known = partial(datetime.now, UTC), asyncio.Event(), Market(Decimal(100), period_price=Decimal(100))
    broker = LocalBroker(LocalSettings(url, SecretStr(key)), clock=clock)
    session = Session(
        [(channel, symbol) for channel in ("depth", "trade") for symbol in SYMBOLS],
        policy=SessionPolicy(close_timeout_s=0.2),
        rng=Random(1),  # noqa: S311
        epoch_ms=time.time() * 1000.0,
    )
    books = SignalDesk(SYMBOLS, DeskPolicy(), recorder=None, on_alert=lambda alert: None, to_wall_ms=session.wall_ms)
    address = f"127.0.0.1:{sender.address}"
    way = Way()
    service = StreamService(
        session,
        Endpoint(f"ws://{address}/v1/realtime", f"http://{address}", SecretStr("k")),
        books,
        max_trades=QUEUED,
        way=way,
    )
    with Journal(folder / "orders.sqlite") as journal:
        desk = OrderDesk(
            journal, broker, account="bench", limits=LIMITS, market=lambda symbol: known, clock=clock, way=way
        )
        bench = Bench(desk, service, {})

        def on_signal(symbol: str, number: int) -> None:
            bench.numbers[desk.propose(_wish(symbol, f"signal {number}", clock()))] = number

        books.on_signal = on_signal
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(desk.run(stop)), group.create_task(service.run(stop))]
            await _until(lambda: desk.state is TradingState.ACTIVE)
            await work(bench)
            stop.set()
            await asyncio.gather(*running)
    await broker.close()


def _wish(symbol: str, key: str, now: datetime, limit: Decimal | None = None) -> Proposal:
    if limit is None:
        return Proposal("bench", symbol, Side.BUY, Decimal("0.01"), key, now)
    return Proposal("bench", symbol, Side.BUY, Decimal(1), key, now, OrderType.LIMIT, limit, TimeInForce.GTC)


async def tick_to_order_ms(sender: Wire, market: Wire, folder: Path, seconds: float) -> list[float]:
    """Return the way of every signal to its order; endless where none came of it."""
    found: list[float] = []

    async def work(bench: Bench) -> None:
        told: dict[int, float] = await asyncio.to_thread(sender.ask, RATE, seconds, SIGNALS_A_SECOND)
        await asyncio.sleep(0.5)
        arrivals = await asyncio.to_thread(market.ask, "arrivals")
        numbers = bench.numbers.items()
        found.extend(1000 * (arrivals["place", key] - told[n]) for key, n in numbers if ("place", key) in arrivals)
        missed = len(told) - len(found)
        found.extend([float("inf")] * missed)

    await _within(sender, market, folder, work)
    return found


async def cancels_ms(sender: Wire, market: Wire, folder: Path) -> list[float]:
    """Return how long after it was wanted each cancel was read by the market, with ticks queued in front of it."""
    wanted: dict[str, float] = {}

    async def work(bench: Bench) -> None:
        for turn in range(ROUNDS):
            now = datetime.now(UTC)
            keys = [bench.desk.propose(_wish(s, f"rest {turn} {s}", now, Decimal(1))) for s in SYMBOLS]
            await _until(lambda keys=keys: _rest(bench.desk, keys))
            for key in keys:
                _fill_up(bench.service)
                wanted[key] = time.perf_counter()
                bench.desk.cancel(key)
                await _until(lambda key=key: all(one.request.client_order_id != key for one in bench.desk.working))

    await _within(sender, market, folder, work)
    arrivals = market.ask("arrivals")
    return [1000 * (arrivals["cancel", key] - at) for key, at in wanted.items()]


def _rest(desk: OrderDesk, keys: list[str]) -> bool:
    return {one.request.client_order_id for one in desk.working if one.status is Status.ACCEPTED} == set(keys)


def _fill_up(service: StreamService) -> None:
    """Have the stream service receive trades, without a chance to look at one, until enough of them wait."""
    topics, now = [one for one in service.session.link.subscriptions.topics.values() if one.channel == "trade"], 0.0
    for number in range(service.messages, service.messages + QUEUED - service.mailbox.waiting):
        topic, now = topics[number % len(topics)], time.monotonic()
        service._data(topic, Trades(topic.symbol, [Trade(number, 97_000.0, 1.0, "buy", number)]), now)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  (several orders at once)
            await asyncio.sleep(0.01)


def _taken(measure: Callable[[Wire, Wire, Path], Coroutine[Any, Any, list[float]]]) -> list[float]:
    with (
        wire(send_ticks, SYMBOLS) as sender,
        wire(take_orders, tuple(SYMBOLS)) as market,
        tempfile.TemporaryDirectory() as folder,
    ):
        return asyncio.run(measure(sender, market, Path(folder)))


def main() -> None:
    """Print the table; exit 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of ticks at full rate (default: %(default)s)")
    parser.add_argument("--lines", type=int, default=1_000_000, help="of the journal (default: %(default)s)")
    parser.add_argument("--awake", action="store_true", help="once more with KLINEHOUSE_KEEP_AWAKE, and the ratio")
    parser.add_argument("--open", type=int, default=10_000, help="orders open in it (default: %(default)s)")
    arguments = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    table = Table("Orders")
    ticks = partial(tick_to_order_ms, seconds=arguments.seconds)
    usual = 0.0
    for name, measure, median, worst in (
        ("tick to order", ticks, 2.5, 10.0),
        ("cancel dispatch", cancels_ms, None, 5.0),
    ):
        taken = _taken(measure)
        p50, p99 = statistics.median(taken), statistics.quantiles(taken, n=100)[98]
        usual = usual or p50
        at = f"{RATE:,} messages a second" if median else f"{QUEUED:,} ticks queued"
        table.figure(
            f"{name} p50, {at}", p50, at_most=median, unit=" ms", detail=f"{len(taken)} orders, journal synced"
        )
        table.figure(f"{name} p99, {at}", p99, at_most=worst, unit=" ms", detail=f"worst {max(taken):.2f} ms")
    if arguments.awake:
        with kept_awake():
            awake = statistics.median(_taken(ticks))
        table.figure("tick to order p50, processors kept awake", awake, unit=" ms", detail=f"{awake / usual:.2f} of it")
    measure_journal(table, arguments.lines, arguments.open)
    table.finish()


if __name__ == "__main__":
    main()
