"""Plays the market's trades, books and tickers to the stream's subscribers, in the order of market time.

What is played is what the REST side serves: the same tapes, rendered once for each bar and shared by all readers.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from itertools import chain

import numpy as np

from tasks.simulator import wire
from tasks.simulator.clock import MarketClock
from tasks.simulator.faults import Injection, StreamFaults, chance
from tasks.simulator.instruments import Instrument
from tasks.simulator.links import MAX_UNSENT_BYTES, Link, Links, Topic
from tasks.simulator.market import EPOCH, Clock
from tasks.simulator.quotes import STREAM_LEVELS, Quotes, book_json, book_texts, trade_json

_TICK_S = 0.02  # how often a passing clock is looked at
_CATCH_UP_MS = 3_600_000  # a clock that jumps further leaves the rest unplayed
_TICKER_MS = 1_000
_KEPT = 512  # rendered bars: about 100 kB each for depth

Rendered = tuple[np.ndarray, list[bytes]]


class Feed:
    """Plays market time.

    Args:
        quotes: What happened when.
        clock: Market time.
        links: The readers.
        injected: Where faults of messages are recorded.

    Attributes:
        subscribed: To be set after each change of what readers are subscribed to.
        played_ms: Up to when everything has been sent.
    """

    def __init__(self, quotes: Quotes, clock: Clock, links: Links, injected: list[Injection]) -> None:
        self.quotes = quotes
        self.clock = clock
        self.links = links
        self.injected = injected
        self.subscribed = asyncio.Event()
        self.played_ms = clock()
        self._rendered: OrderedDict[tuple[str, Instrument, int, str, int], Rendered] = OrderedDict()
        self._writers: dict[str, Callable[[Instrument, int, str, int], Rendered]] = {
            "depth": self._depths,
            "trade": self._trades,
            "ticker": self._tickers,
        }

    async def run(self) -> None:
        """Play until cancelled; a driven clock waits for readers and for their sockets to drain."""
        self.played_ms = self.clock()
        while True:
            clock = self.clock
            if isinstance(clock, MarketClock) and clock.driven:
                await self._reader()
                clock.advance(self.played_ms + clock.step_ms)
            else:
                await asyncio.sleep(_TICK_S)
            now = clock()
            if now <= self.played_ms:  # the market has ended, or its clock stands still
                await asyncio.sleep(_TICK_S)
                continue
            self.play(max(self.played_ms, now - _CATCH_UP_MS), now)
            self.played_ms = now
            await self._drained()

    async def _reader(self) -> None:
        """Return when somebody is subscribed and takes what is sent: no market time passes for nobody."""
        while not any(link.topics and link.state == "alive" for link in self.links.living):
            self.subscribed.clear()
            await self.subscribed.wait()

    def play(self, after_ms: int, until_ms: int) -> None:
        """Send every reader what happened in ``(after_ms, until_ms]`` on its topics."""
        for link in tuple(self.links.living):
            if link.state != "alive" or not link.topics:
                continue
            faults = link.faults
            pieces = [self.messages(topic, after_ms, until_ms, faults) for topic in link.topics]
            ordered = sorted(chain.from_iterable(pieces), key=lambda piece: piece[0])
            frames = [frame for _, frame in ordered]
            self.deliver(link, self._spoiled(frames, faults, until_ms) if faults.touches_messages else frames, until_ms)

    def deliver(self, link: Link, frames: list[bytes], now_ms: int) -> None:
        """Write frames to a reader, ending the connection where its faults say so."""
        if link.faults.repeat > 1:
            frames = [frame for frame in frames for _ in range(link.faults.repeat)]
        ending = link.ending
        if ending is None or len(frames) < link.frames_left:
            link.write(frames)
            return
        link.write(frames[: link.frames_left])
        self.injected.append(Injection(ending, link.id, timestamp=EPOCH + timedelta(milliseconds=now_ms)))
        link.end(ending)

    def messages(self, topic: Topic, after_ms: int, until_ms: int, faults: StreamFaults) -> list[tuple[int, bytes]]:
        """Return the frames of one topic in ``(after_ms, until_ms]`` with their times."""
        tape = self.quotes.tape(topic[1])
        found: list[tuple[int, bytes]] = []
        for index in range(max(tape.index_at(after_ms), 0), tape.index_at(until_ms) + 1):
            times, frames = self._bar(topic, index, faults)
            first, stop = np.searchsorted(times, (after_ms, until_ms), side="right")
            found += zip(times[first:stop].tolist(), frames[first:stop], strict=True)
        return found

    def snapshot(self, topic: Topic, faults: StreamFaults) -> bytes | None:
        """Return the message that stands for a new subscriber where the playing goes on; trades have none."""
        channel, item = topic
        now, name = self.played_ms, item.ticker if channel in faults.bare_channels else item.symbol
        if channel == "trade":
            return None
        view = (
            self.quotes.depth_at(item, now, STREAM_LEVELS) if channel == "depth" else self.quotes.ticker_at(item, now)
        )
        return wire.message(channel, {**view, "symbol": name, "timestamp": view["timestamp"] + faults.skew_ms})

    def _bar(self, topic: Topic, index: int, faults: StreamFaults) -> Rendered:
        channel, item = topic
        name = item.ticker if channel in faults.bare_channels else item.symbol
        key = (channel, item, index, name, faults.skew_ms)
        found = self._rendered.get(key)
        if found is None:
            found = self._rendered[key] = self._writers[channel](item, index, name, faults.skew_ms)
            if len(self._rendered) > _KEPT:
                self._rendered.popitem(last=False)
        return found

    def _depths(self, item: Instrument, index: int, name: str, skew_ms: int) -> Rendered:
        bar = self.quotes.tape(item).bar(index)
        if bar.bid_prices[:, STREAM_LEVELS - 1].min() > 0:
            return bar.book_times, [wire.frame(text.encode()) for text in book_texts(item, bar, name, skew_ms)]
        books = [book_json(item, bar, row, STREAM_LEVELS) for row in range(len(bar.book_times))]
        frames = [
            wire.message("depth", {**book, "symbol": name, "timestamp": book["timestamp"] + skew_ms}) for book in books
        ]
        return bar.book_times, frames

    def _trades(self, item: Instrument, index: int, name: str, skew_ms: int) -> Rendered:
        bar = self.quotes.tape(item).bar(index)
        frames = []
        for number in range(len(bar.times)):
            trade = trade_json(item, bar, number)
            trade["timestamp"] += skew_ms
            # China futures: one trade lies flat in data.
            data = {"symbol": name, **trade} if item.type == "futures" else {"symbol": name, "trades": [trade]}
            frames.append(wire.message("trade", data))
        return bar.times, frames

    def _tickers(self, item: Instrument, index: int, name: str, skew_ms: int) -> Rendered:
        bars = self.quotes.tape(item).bars
        times = np.arange(int(bars.times[index]), int(bars.closes[index]), _TICKER_MS)
        frames = []
        for moment in times.tolist():
            data = {**self.quotes.ticker_at(item, moment), "symbol": name, "timestamp": moment + skew_ms}
            frames.append(wire.message("ticker", data))
        return times, frames

    def _spoiled(self, frames: list[bytes], faults: StreamFaults, now_ms: int) -> list[bytes]:
        """Return the frames with crossed books in their places, and nonsense and giants after them."""
        stamp = EPOCH + timedelta(milliseconds=now_ms)
        spoiled = []
        for number, frame in enumerate(frames):
            dice = [chance(faults.seed, fault, frame, number) for fault in ("crossed", "garbage", "oversize")]
            if dice[0] < faults.crossed_p and b'"cmd":"depth"' in frame:
                spoiled.append(_crossed(frame))
                self.injected.append(Injection("crossed", "stream", timestamp=stamp))
            else:
                spoiled.append(frame)
            if dice[1] < faults.garbage_p:
                spoiled.append(wire.nonsense(len(self.injected)))
                self.injected.append(Injection("garbage", "stream", timestamp=stamp))
            if dice[2] < faults.oversize_p:
                spoiled.append(wire.frame(b'{"cmd":"depth","data":"' + b"x" * faults.oversize_bytes + b'"}'))
                self.injected.append(Injection("oversize", "stream", timestamp=stamp))
        return spoiled

    async def _drained(self) -> None:
        """Let the sockets work; at a driven clock wait for the slowest, else cut who is hopelessly behind."""
        await asyncio.sleep(0)
        driven = isinstance(self.clock, MarketClock) and self.clock.driven
        for link in tuple(self.links.living):
            # Polled, because the transport tells only its own protocol, aiohttp's, when it has drained.
            while driven and link.state == "alive" and link.unsent > 262_144 and not link.transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.0005)
            if link.unsent > MAX_UNSENT_BYTES:
                self.injected.append(Injection("slow_reader", link.id))
                link.end("rst")


def _crossed(frame: bytes) -> bytes:
    """Return a depth frame with its best bid lifted above its best ask."""
    body = json.loads(frame[frame.index(b"{") :])
    bids, asks = body["data"]["bids"], body["data"]["asks"]
    if bids and asks:
        bids[0][0] = repr(round(float(asks[0][0]) * 1.0005, 9))
    return wire.message("depth", body["data"])
