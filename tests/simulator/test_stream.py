"""The WebSocket side: what is played equals what REST serves, limits hold, and every fault does what it says."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from tasks.errors import InputError
from tasks.simulator.clock import MarketClock
from tasks.simulator.faults import ENDINGS, StreamFaults
from tasks.simulator.market import Market, generated
from tasks.simulator.server import Simulator
from tests.simulator.conftest import END, NOW, START, get, klines

#: How long a message may take that must come, on a machine that is busy.
PATIENCE_S = 30.0


class Client:
    """A bare WebSocket client: sends dicts, reads dicts."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, cmd: str, channel: str | None = None, *symbols: str) -> None:
        """Send a command."""
        data = {"channel": channel, "symbols": list(symbols)} if channel else None
        await self.socket.send_json({"cmd": cmd, "data": data} if data else {"cmd": cmd})

    async def read(self, cmd: str | None = None) -> dict[str, Any]:
        """Return the next message, of that command if one is named."""
        while True:
            message = await asyncio.wait_for(self.socket.receive(), PATIENCE_S)
            assert message.type is aiohttp.WSMsgType.TEXT, message
            body = json.loads(message.data)
            if cmd in (None, body["cmd"]):
                return body

    async def read_until_end(self) -> int | None:
        """Read on until the connection ends; return the close code."""
        while True:
            message = await asyncio.wait_for(self.socket.receive(), PATIENCE_S)
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING):
                return self.socket.close_code
            if message.type is aiohttp.WSMsgType.ERROR:
                return 1006


@asynccontextmanager
async def connected(sim: Simulator, key: str | None = None) -> AsyncIterator[Client]:
    """Connect a client with a key."""
    timeout = aiohttp.ClientWSTimeout(ws_close=0.2)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{sim.stream_url}?api_key={key or sim.api_key}", timeout=timeout, max_msg_size=0) as socket,
    ):
        yield Client(socket)


@asynccontextmanager
async def playing(market: Market, **options: Any) -> AsyncIterator[tuple[Simulator, Client]]:
    """Run a simulator that plays as fast as it is read, with one client connected."""
    clock = MarketClock(START + timedelta(hours=1), speed=math.inf)
    async with Simulator(market, **{"plan": "unlimited", "now": clock, **options}) as sim, connected(sim) as client:
        yield sim, client


async def test_ping_is_answered_with_the_markets_time(small_market: Market) -> None:
    """The pong carries milliseconds of the server's clock, skewed by as much as the faults say."""
    faults = StreamFaults(skew_ms=700)
    async with Simulator(small_market, now=NOW, stream_faults=faults) as sim, connected(sim) as client:
        await client.send("ping")
        pong = await client.read("pong")
    assert pong["data"]["timestamp"] == int(NOW.timestamp() * 1000) + 700


async def test_a_snapshot_is_followed_by_what_is_newer(small_market: Market) -> None:
    """However fast the clock runs, a new subscriber gets no book twice and none that is older than the last."""
    async with (
        Simulator(small_market, plan="pro", now=MarketClock(START, speed=600)) as sim,
        connected(sim) as client,
    ):
        await client.send("subscribe", "depth", "BTCUSDT")
        stamps = [(await client.read("depth"))["data"]["timestamp"] for _ in range(40)]
    assert stamps == sorted(set(stamps))


async def test_subscriptions_are_acknowledged_and_snapshots_follow(small_market: Market) -> None:
    """The answer names channel and symbols; the standing book comes at once, even if the clock stands still."""
    async with Simulator(small_market, now=NOW) as sim, connected(sim) as client:
        await client.send("subscribe", "depth", "BTCUSDT")
        answer, book = await client.read(), await client.read()
        assert answer == {
            "cmd": "subscribe",
            "code": 0,
            "message": "success",
            "data": {"channel": "depth", "symbols": ["BTCUSDT"]},
        }
        _, _, body = await asyncio.to_thread(get, sim, "/v1/market/depth", symbol="BTCUSDT")
        assert book["data"] == {name: body["data"][name] for name in ("symbol", "bids", "asks", "timestamp")}
        assert sim.subscriptions == (frozenset({("depth", "BTCUSDT")}),)
        await client.send("unsubscribe", "depth", "BTCUSDT")
        assert (await client.read("unsubscribe"))["code"] == 0
        assert sim.subscriptions == (frozenset(),)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BU2609"])
async def test_streamed_trades_make_the_bars_that_rest_serves(small_market: Market, symbol: str) -> None:
    """Collected over minutes, trades aggregate to open, high, low, close and volume of the REST bars."""
    trades: list[dict[str, Any]] = []
    async with playing(small_market) as (sim, client):
        await client.send("subscribe", "trade", symbol)
        first = START + timedelta(hours=1, minutes=1)
        last = int((first + timedelta(minutes=10)).timestamp() * 1000)
        while not trades or trades[-1]["timestamp"] < last:
            data = (await client.read("trade"))["data"]
            trades += data.get("trades", [data])
        start = int(first.timestamp() * 1000)
        bars = await asyncio.to_thread(klines, sim, symbol=symbol, start_time=start, end_time=last - 1)
    assert len(bars) == 10
    for bar in bars:
        inside = [trade for trade in trades if bar["time"] <= trade["timestamp"] < bar["time"] + 60_000]
        prices = [float(trade["price"]) for trade in inside]
        assert [prices[0], max(prices), min(prices), prices[-1]] == [
            float(bar[name]) for name in ("open", "high", "low", "close")
        ]
        assert sum(float(trade["quantity"]) for trade in inside) == pytest.approx(float(bar["volume"]), abs=1e-9)


async def test_messages_come_in_the_order_of_time(small_market: Market) -> None:
    """Over all channels and symbols of a connection, timestamps never go back."""
    async with playing(small_market) as (_, client):
        for channel in ("depth", "trade", "ticker"):
            await client.send("subscribe", channel, "BTCUSDT", "BU2609")
        stamps = []
        while len(stamps) < 2_000:
            body = await client.read()
            if "code" not in body:
                data = body["data"]
                stamps.append(data["trades"][0]["timestamp"] if "trades" in data else data["timestamp"])
    played = stamps[50:]  # snapshots of later subscriptions come between
    assert played == sorted(played)


async def test_a_clock_of_n_times_plays_n_times_faster(small_market: Market) -> None:
    """At 60×, a real second shows about a minute of books."""
    clock = MarketClock(START, speed=60.0)
    async with Simulator(small_market, now=clock) as sim, connected(sim) as client:
        began = asyncio.get_running_loop().time()
        await client.send("subscribe", "depth", "BTCUSDT")
        first = (await client.read("depth"))["data"]["timestamp"]
        elapsed_s = speed = 0.0
        while elapsed_s < 0.5 or (speed < 40 and elapsed_s < PATIENCE_S):  # a busy reader lags and catches up
            last = (await client.read("depth"))["data"]["timestamp"]
            elapsed_s = asyncio.get_running_loop().time() - began
            speed = (last - first) / 1000 / elapsed_s
    assert 30 < speed < 90


def test_the_clock_stops_at_its_end_and_refuses_nonsense() -> None:
    """A driven clock goes where it is told, never back, never beyond its end."""
    clock = MarketClock(START, speed=math.inf, end=START + timedelta(seconds=1))
    began = clock()
    clock.advance(began + 400)
    clock.advance(began + 100)
    assert clock() == began + 400
    clock.advance(began + 4_000)
    assert clock() == began + 1_000
    with pytest.raises(InputError, match="speed"):
        MarketClock(START, speed=0)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nonsense", 4002),
        ("[1]", 4002),
        ('{"cmd":"dance"}', 4001),
        ('{"cmd":"subscribe"}', 4002),
        ('{"cmd":"subscribe","data":{"channel":"depth","symbols":"BTCUSDT"}}', 4002),
        ('{"cmd":"subscribe","data":{"channel":"kline","symbols":["BTCUSDT"]}}', 2001),
        ('{"cmd":"subscribe","data":{"channel":"depth","symbols":["NOPE"]}}', 2002),
        ('{"cmd":"subscribe","data":{"channel":"depth","symbols":["SPX"]}}', 2001),
    ],
)
async def test_wrong_commands_get_their_code_and_the_connection_stays(
    small_market: Market, text: str, code: int
) -> None:
    """Each mistake is answered with its code; the next ping is answered as ever."""
    async with Simulator(small_market, now=NOW) as sim, connected(sim) as client:
        await client.socket.send_str(text)
        assert (await client.read())["code"] == code
        await client.send("ping")
        assert (await client.read())["cmd"] == "pong"


async def test_free_keys_have_no_depth_and_no_trades(small_market: Market) -> None:
    """4003 and 4004 name the REST endpoint; tickers work."""
    async with Simulator(small_market, plan="free", now=NOW) as sim, connected(sim) as client:
        await client.send("subscribe", "depth", "BTCUSDT")
        await client.send("subscribe", "trade", "BTCUSDT")
        await client.send("subscribe", "ticker", "BTCUSDT")
        answers = [await client.read("subscribe") for _ in range(3)]
    assert [answer["code"] for answer in answers] == [4003, 4004, 0]
    assert "/v1/market/depth" in answers[0]["message"]


async def test_subscriptions_are_limited_by_plan() -> None:
    """A free key has five over all channels; what is beyond is refused by name with 3004, the rest is served."""
    names = tuple(f"C{number}USDT" for number in range(7))
    market = generated(symbols=names, start=START, end=START + timedelta(minutes=5))
    async with Simulator(market, plan="free") as sim, connected(sim) as client:
        await client.send("subscribe", "ticker", *names)
        served, refused = await client.read("subscribe"), await client.read("subscribe")
        assert (served["code"], served["data"]["symbols"]) == (0, list(names[:5]))
        assert (refused["code"], refused["data"]["symbols"]) == (3004, list(names[5:]))
        await client.send("unsubscribe", "ticker", names[0])
        await client.send("subscribe", "ticker", names[6])
        answers = [await client.read("unsubscribe"), await client.read("subscribe")]
        assert [answer["code"] for answer in answers] == [0, 0]


@pytest.mark.parametrize(("key", "status"), [("nobody", 401), ("elsewhere", 403)])
async def test_keys_are_checked_in_the_handshake(small_market: Market, key: str, status: int) -> None:
    """An unknown key and a wrong address never get a connection."""
    async with Simulator(small_market, now=NOW) as sim:
        sim.add_key("elsewhere", "pro", addresses=frozenset({"10.0.0.1"}))
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with connected(sim, key):
                pass
    assert caught.value.status == status


async def test_a_connection_too_many_is_told_and_closed(small_market: Market) -> None:
    """The second connection of a basic key reads 3003 and a close; the first one goes on."""
    async with Simulator(small_market, plan="basic", now=NOW) as sim, connected(sim) as first:
        async with connected(sim) as second:
            assert (await second.read())["code"] == 3003
            assert await second.read_until_end() == 1008
        await first.send("ping")
        assert (await first.read())["cmd"] == "pong"


async def test_zombies_lock_out_until_reaped_or_deleted(small_market: Market) -> None:
    """A cut connection still counts; it is listed, and deleting it makes room at once."""
    faults = StreamFaults(zombie_s=60.0)
    async with Simulator(small_market, plan="basic", now=NOW, stream_faults=faults) as sim:
        async with connected(sim) as client:
            sim.strike("rst")
            await client.read_until_end()
        async with connected(sim) as locked_out:
            assert (await locked_out.read())["code"] == 3003
        async with aiohttp.ClientSession(sim.url, headers={"X-API-Key": sim.api_key}) as session:
            async with session.get("/v1/connections") as answer:
                listed = (await answer.json())["data"]
            assert [item["status"] for item in listed] == ["stale"]
            async with session.delete(f"/v1/connections/{listed[0]['id']}") as answer:
                assert answer.status == 200
            async with session.delete(f"/v1/connections/{listed[0]['id']}") as answer:
                assert answer.status == 404
        async with connected(sim) as client:
            await client.send("ping")
            assert (await client.read())["cmd"] == "pong"


async def test_a_deleted_connection_is_closed(small_market: Market) -> None:
    """Deleting a living connection says goodbye to it."""
    async with Simulator(small_market, now=NOW) as sim, connected(sim) as client:
        async with aiohttp.ClientSession(sim.url, headers={"X-API-Key": sim.api_key}) as session:
            async with session.get("/v1/connections") as answer:
                listed = (await answer.json())["data"]
            async with session.delete(f"/v1/connections/{listed[0]['id']}") as answer:
                assert answer.status == 200
        assert await client.read_until_end() == 1001


@pytest.mark.parametrize(
    ("how", "code"), [("rst", 1006), ("fin", 1006), ("mid_frame", 1006), ("close", 1001), ("accept_close", 1001)]
)
async def test_every_ending_ends_the_connection(small_market: Market, how: str, code: int) -> None:
    """A cut reads as 1006, a goodbye as 1001, and the record names it."""
    async with playing(small_market) as (sim, client):
        await client.send("subscribe", "depth", "BTCUSDT")
        await client.read("depth")
        assert sim.strike(how) == 1
        assert await client.read_until_end() == code
        assert [item.fault for item in sim.injected] == [how]


@pytest.mark.parametrize(("how", "pongs"), [("silent", False), ("silent_pong", True), ("half_open", False)])
async def test_silence_is_silent(small_market: Market, how: str, pongs: bool) -> None:
    """Nothing that happened later comes any more; only `silent_pong` answers a ping; the socket stays open."""
    clock = MarketClock(START, speed=100.0)
    async with Simulator(small_market, now=clock) as sim, connected(sim) as client:
        await client.send("subscribe", "depth", "BTCUSDT")
        await client.read("depth")
        sim.strike(how)
        struck_at, seen, stamps = clock(), set(), []
        for _ in range(100):
            await client.send("ping")
            try:
                body = await asyncio.wait_for(client.read(), PATIENCE_S if pongs else 0.3)
            except TimeoutError:
                break
            seen.add(body["cmd"])
            if body["cmd"] == "depth":
                stamps.append(body["data"]["timestamp"])
    assert ("pong" in seen) is pongs
    assert all(stamp <= struck_at for stamp in stamps)  # what had been sent before


@pytest.mark.parametrize("how", ENDINGS)
async def test_endings_come_by_themselves(small_market: Market, how: str) -> None:
    """With `endings`, each connection ends that way after a few messages, and it is on record."""
    faults = StreamFaults(endings=(how,), ending_after_frames=5)
    async with playing(small_market, stream_faults=faults) as (sim, client):
        await client.send("subscribe", "depth", "BTCUSDT")
        count = 0
        while count < 100:
            try:
                await asyncio.wait_for(client.read("depth"), 0.3)
                count += 1
            except TimeoutError:  # silence, or a busy machine before it
                if sim.injected:
                    break
            except AssertionError:  # the end
                break
        assert count < 20
        assert [item.fault for item in sim.injected] == [how]


async def test_acknowledgements_can_be_lost(small_market: Market) -> None:
    """The command is obeyed and data flows, but nobody says so."""
    async with playing(small_market, stream_faults=StreamFaults(drop_ack_p=1.0)) as (sim, client):
        await client.send("subscribe", "depth", "BTCUSDT")
        assert (await client.read())["cmd"] == "depth"
        assert sim.injected[0].fault == "drop_ack"


async def test_symbols_can_come_without_their_suffix(small_market: Market) -> None:
    """Subscribed as ACME.US, tickers say ACME and depth ACME.US, as the vendor's own example mixes them."""
    async with playing(small_market, stream_faults=StreamFaults(bare_channels=("ticker",))) as (_, client):
        await client.send("subscribe", "ticker", "ACME.US", "BTCUSDT")
        assert {(await client.read("ticker"))["data"]["symbol"] for _ in range(2)} == {"ACME", "BTCUSDT"}
        await client.send("subscribe", "depth", "ACME.US")
        assert (await client.read("depth"))["data"]["symbol"] == "ACME.US"


async def test_books_can_be_crossed(small_market: Market) -> None:
    """The best bid of a struck book is above its best ask."""
    async with playing(small_market, stream_faults=StreamFaults(crossed_p=1.0)) as (sim, client):
        await client.send("subscribe", "depth", "BTCUSDT")
        await client.read("depth")  # the snapshot is clean
        book = (await client.read("depth"))["data"]
        assert float(book["bids"][0][0]) > float(book["asks"][0][0])
        assert "crossed" in {item.fault for item in sim.injected}


async def test_garbage_and_giants_come_between_messages(small_market: Market) -> None:
    """Nonsense of every kind and a frame of five megabytes arrive, and the stream goes on."""
    faults = StreamFaults(garbage_p=1.0, oversize_p=0.02)
    async with playing(small_market, stream_faults=faults) as (_, client):
        await client.send("subscribe", "depth", "BTCUSDT")
        texts, kinds, biggest = [], set(), 0
        while len(texts) < 400 or biggest < 5_000_000:
            message = await asyncio.wait_for(client.socket.receive(), PATIENCE_S)
            kinds.add(message.type)
            biggest = max(biggest, len(message.data))
            texts.append(message.data)
    assert kinds == {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}
    assert "not json at all" in texts


async def test_messages_can_be_repeated(small_market: Market) -> None:
    """Every message after the snapshot comes three times in a row."""
    async with playing(small_market, stream_faults=StreamFaults(repeat=3)) as (_, client):
        await client.send("subscribe", "trade", "BTCUSDT")
        ids = [(await client.read("trade"))["data"]["trades"][0]["id"] for _ in range(30)]
    assert ids[0::3] == ids[1::3] == ids[2::3]
    assert len(set(ids)) == 10


async def test_no_market_time_passes_for_nobody(small_market: Market) -> None:
    """As fast as it is read means not at all without a reader, and not beyond the end of the data."""
    clock = MarketClock(START, speed=math.inf)
    async with Simulator(small_market, plan="unlimited", now=clock) as sim, connected(sim) as client:
        await client.send("subscribe", "ticker", "BTCUSDT")
        await client.read("ticker")
        await client.send("unsubscribe", "ticker", "BTCUSDT")
        await client.read("unsubscribe")
        stood = clock()
        for _ in range(5):
            await client.send("ping")
            assert (await client.read("pong"))["data"]["timestamp"] == stood
    clock.advance(stood + 10**12)
    assert clock() == int(END.timestamp()) * 1000


async def test_a_drip_arrives_whole(small_market: Market) -> None:
    """Written seven bytes at a time, messages are what they were."""
    faults = StreamFaults(drip_bytes=7, drip_s=0.0)
    async with Simulator(small_market, now=NOW, stream_faults=faults) as sim, connected(sim) as client:
        await client.send("subscribe", "depth", "BTCUSDT")
        assert (await client.read("depth"))["data"]["symbol"] == "BTCUSDT"


@pytest.mark.parametrize(("code", "status"), [(1004, 403), (3001, 429), (5001, 503)])
async def test_connections_can_be_refused_with_any_code(small_market: Market, code: int, status: int) -> None:
    """The handshake answers with the code's HTTP status."""
    async with Simulator(small_market, now=NOW, stream_faults=StreamFaults(connect_code=code)) as sim:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with connected(sim):
                pass
    assert caught.value.status == status


async def test_commands_can_be_refused_with_any_code(small_market: Market) -> None:
    """Every subscribe is answered with the code; pings are not touched."""
    faults = StreamFaults(command_code=3001)
    async with Simulator(small_market, now=NOW, stream_faults=faults) as sim, connected(sim) as client:
        await client.send("subscribe", "depth", "BTCUSDT")
        assert (await client.read())["code"] == 3001


async def test_channels_can_be_down(small_market: Market) -> None:
    """Depth answers 4003 and tickers go on."""
    async with playing(small_market, stream_faults=StreamFaults(channels_down=("depth",))) as (_, client):
        await client.send("subscribe", "depth", "BTCUSDT")
        assert (await client.read("subscribe"))["code"] == 4003


def test_unknown_endings_are_refused(small_market: Market) -> None:
    """A misspelt fault is told, not ignored."""
    with pytest.raises(InputError, match="endings"):
        StreamFaults(endings=("explode",))
    with pytest.raises(InputError, match="strike"):
        Simulator(small_market).strike("explode")


async def test_hundreds_of_reconnections_leave_nothing_behind(small_market: Market) -> None:
    """After 300 connects, subscribes and resets no connection is left, and the next one works."""
    async with Simulator(small_market, plan="unlimited", now=NOW) as sim:
        async with aiohttp.ClientSession() as session:
            for _ in range(300):
                async with session.ws_connect(f"{sim.stream_url}?api_key={sim.api_key}") as socket:
                    await Client(socket).send("subscribe", "depth", "BTCUSDT")
                    await Client(socket).read("depth")
                    sim.strike("rst")
        async with connected(sim) as client:
            await client.send("ping")
            await client.read("pong")
            assert (sim.connections_opened, len(sim.subscriptions)) == (301, 1)
