"""The client against a real local server, with everything that goes wrong on a network."""

from __future__ import annotations

import asyncio
import io
import logging
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date

import pytest
import structlog
from pydantic import SecretStr

from tasks.errors import (
    ConfigurationError,
    KlinehouseError,
    ProtocolError,
    QuotaExhaustedError,
    RateLimitedError,
    TransientError,
    UnknownSymbolError,
)
from tasks.exchange.client import Reply, TickDBClient
from tasks.exchange.request import Request
from tasks.exchange.retry import RetryPolicy
from tasks.simulator.faults import Faults
from tasks.simulator.market import Market
from tasks.simulator.server import Dialect, Simulator
from tests.exchange.conftest import END, MINUTE, NOW, START, body, kline, window

QUICK = RetryPolicy(base_s=0.001, cap_s=0.005)
CANARY = "canary-7f3a-key"


def connect(sim: Simulator, **changes: object) -> TickDBClient:
    """Return a client of the simulator that retries without long waits."""
    options = {"requests_per_minute": 100_000, "retry": QUICK, "timeout_s": 60.0, "seed": 1} | changes
    return TickDBClient(sim.url, SecretStr(sim.api_key), **options)  # type: ignore[arg-type]


class Scripted:
    """A network that gives the scripted answers in turn; an exception is raised."""

    def __init__(self, *answers: Reply | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []

    async def get(self, request: Request) -> Reply:
        """Return the next answer of the script."""
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        """Close nothing."""


def scripted(*answers: Reply | Exception, key: str = CANARY) -> tuple[TickDBClient, Scripted]:
    """Return a client whose network follows a script."""
    network = Scripted(*answers)
    client = TickDBClient("http://x", SecretStr(key), requests_per_minute=1_000, retry=QUICK, transport=network, seed=1)
    return client, network


def refusal(status: int, code: int, message: str = "no", **headers: str) -> Reply:
    """Return an error answer of the vendor."""
    return Reply(status, f'{{"code":{code},"message":"{message}","data":null}}'.encode(), headers)


PAGE = Reply(200, body([kline(i) for i in range(10)]), {})


@pytest.mark.parametrize(
    "dialect",
    [Dialect(), Dialect(end_included=True), Dialect(newest_kept=True), Dialect(descending=True)],
    ids=["excluded", "included", "newest-kept", "descending"],
)
async def test_the_bars_are_the_markets_bars(market: Market, dialect: Dialect) -> None:
    """However the vendor reads the undocumented, the bars that arrive are the market's, each once, in order."""
    with Simulator(market, plan="unlimited", dialect=dialect) as sim:
        async with connect(sim) as client:
            bars = await client.fetch_klines("BTCUSDT", "1m", START, END, now=END)
        assert bars.equals(sim.market.bars("BTCUSDT", "1m", START, END).select(bars.columns))
        assert client.requests == 5


@pytest.mark.parametrize(
    "faults",
    [
        Faults(missing_p=0.05),
        Faults(duplicate_p=0.05, shuffle_p=1.0),
        Faults(server_error_p=0.3),
        Faults(drop_p=0.3),
        Faults(truncate_p=0.3),
        Faults(forming_p=1.0, latency_s=0.001),
    ],
    ids=["missing", "disorder", "5xx", "dropped", "truncated", "forming"],
)
async def test_passing_faults_heal(market: Market, faults: Faults) -> None:
    """Every fault that asking again can cure leaves the bars equal to the truth."""
    with Simulator(market, plan="unlimited", faults=faults) as sim:
        async with connect(sim) as client:
            bars = await client.fetch_klines("BTCUSDT", "1m", START, END, now=END)
        assert bars.equals(sim.market.bars("BTCUSDT", "1m", START, END).select(bars.columns))


async def test_the_forming_bar_never_passes(market: Market) -> None:
    """Asked for a range that reaches beyond now, the client returns closed bars only, even if the vendor lies."""
    now = START + 100 * MINUTE + MINUTE / 2
    with Simulator(market, plan="unlimited", faults=Faults(forming_p=1.0), now=now) as sim:
        async with connect(sim) as client:
            bars = await client.fetch_klines("BTCUSDT", "1m", START, END, now=now)
            page = await client.fetch_page("BTCUSDT", "1m", window(200), now=now)
    assert bars["timestamp"].max() == START + 99 * MINUTE
    assert bars.height == 100
    assert page.unclosed == 1
    assert page.bars["timestamp"].max() == START + 99 * MINUTE


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "http-date"])
async def test_a_storm_is_waited_out_by_everyone(as_date: bool) -> None:
    """A 429 closes the gate for all pages: what was in flight is refused, nothing more is sent before it opens."""
    dated = {"retry-after": "Mon, 01 Jan 2024 00:00:01 GMT", "date": "Mon, 01 Jan 2024 00:00:00 GMT"}
    sent: list[float] = []

    async def stormy(asked: Request) -> Reply:
        sent.append(time.monotonic())
        refused = len(sent) <= 4
        await asyncio.sleep(0.02)
        if refused:
            return refusal(429, 3001, **(dated if as_date else {"retry-after": "1"}))
        start = (int(dict(asked.params)["start_time"]) - int(START.timestamp() * 1000)) // 60_000
        return Reply(200, body([kline(start + i) for i in range(1_000)]), {})

    client, network = scripted()
    client._sender._in_flight = asyncio.Semaphore(4)
    network.get = stormy  # type: ignore[method-assign]
    async with client:
        bars = await client.fetch_klines("BTCUSDT", "1m", START, START + 20_000 * MINUTE, now=NOW)
    assert bars.height == 20_000
    assert len(sent) == 24
    assert sent[4] - sent[3] >= 1.0


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1001, ConfigurationError),
        (1004, ConfigurationError),
        (2002, UnknownSymbolError),
        (3002, QuotaExhaustedError),
        (3003, ConfigurationError),
        (4001, ProtocolError),
    ],
)
async def test_what_time_cannot_cure_is_asked_once(market: Market, code: int, kind: type[KlinehouseError]) -> None:
    """Keys, parameters, quotas and defects are never retried."""
    with Simulator(market, plan="unlimited", faults=Faults(code=code)) as sim:
        async with connect(sim) as client:
            with pytest.raises(kind, match=str(code)):
                await client.fetch_page("BTCUSDT", "1m", window(), now=NOW)
        assert client.requests == 1


@pytest.mark.parametrize("code", [5000, 5001, 5002, 3001])
async def test_retries_are_bounded(code: int) -> None:
    """What may pass is asked five times, then the error says so."""
    client, network = scripted(*[refusal(500, code, **{"retry-after": "0"})] * 9)
    client._sender._throttle.penalise = lambda delay_s: None  # type: ignore[method-assign]  # the gate has its own test
    async with client:
        with pytest.raises(TransientError, match=str(code)):
            await client.fetch_page("BTCUSDT", "1m", window(), now=NOW)
    assert len(network.asked) == 5


async def test_all_waits_together_are_bounded() -> None:
    """However many attempts are left, a request never sleeps longer than the policy's total."""
    client, network = scripted(*[TransientError("cut")] * 9)
    client._sender._retry = RetryPolicy(attempts=9, base_s=50.0, cap_s=50.0, total_s=0.0)
    async with client:
        with pytest.raises(TransientError, match="cut"):
            await client.fetch_page("BTCUSDT", "1m", window(), now=NOW)
    assert len(network.asked) == 1


@pytest.mark.parametrize(
    ("header", "penalty"), [({"retry-after": "7"}, 7.0), ({"retry-after": "soon"}, 5.0), ({}, 5.0)]
)
async def test_the_vendors_wait_reaches_the_gate(header: dict[str, str], penalty: float) -> None:
    """The gate closes for what Retry-After says and a tenth at most, for a default where it says nothing."""
    client, _ = scripted(refusal(429, 3001, **header), PAGE)
    seen: list[float] = []
    client._sender._throttle.penalise = seen.append  # type: ignore[method-assign]
    async with client:
        assert (await client.fetch_page("BTCUSDT", "1m", window(), now=NOW)).bars.height == 10
    assert len(seen) == 1
    assert penalty <= seen[0] <= penalty * 1.1


async def test_an_answer_that_does_not_come_is_named() -> None:
    """A server that accepts and stays silent costs one timeout, and the error names the setting."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with (
        _server(silent) as url,
        TickDBClient(
            url, SecretStr(CANARY), requests_per_minute=1_000, timeout_s=0.05, retry=RetryPolicy(attempts=1)
        ) as client,
    ):
        with pytest.raises(TransientError, match=r"within 0\.05 s \(timeout_s\)"):
            await client.fetch_page("BTCUSDT", "1m", window(), now=NOW)


async def test_nobody_listening_is_transient() -> None:
    """A refused connection is retried, then reported without its address's secrets."""
    async with _server(lambda reader, writer: None) as url:
        pass
    async with TickDBClient(url, SecretStr(CANARY), requests_per_minute=1_000, retry=QUICK) as client:
        with pytest.raises(TransientError, match="connection failed"):
            await client.fetch_page("BTCUSDT", "1m", window(), now=NOW)
    assert client.requests == 5


async def test_a_redirect_is_not_followed(market: Market) -> None:
    """A redirect would carry the key to another host: it is reported instead."""
    client, network = scripted(Reply(302, b"", {"location": "http://elsewhere"}))
    async with client:
        with pytest.raises(ProtocolError, match="302"):
            await client.fetch_page("BTCUSDT", "1m", window(), now=NOW)
    assert len(network.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        refusal(401, 1001, f"key {CANARY} is not valid"),
        refusal(429, 3001, f"{CANARY} is too fast", **{"retry-after": "0"}),
        Reply(200, body([kline(0, open=CANARY)]), {}),
        Reply(200, body([kline(0)], symbol=CANARY), {}),
        Reply(500, CANARY.encode(), {}),
    ],
    ids=["refused", "limited", "field", "symbol", "raw"],
)
async def test_no_error_holds_the_key(answer: Reply) -> None:
    """A vendor that echoes the key does not get it into an error, its traceback or a log."""
    spoken = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(spoken))
    client, _ = scripted(*[answer] * 5)
    client._sender._throttle.penalise = lambda delay_s: None  # type: ignore[method-assign]
    try:
        async with client:
            with pytest.raises(KlinehouseError) as raised:
                await client.fetch_page("BTCUSDT", "1m", window(), now=NOW)
    finally:
        structlog.reset_defaults()
    words = (
        "".join(traceback.format_exception(raised.value)) + repr(raised.value.args) + repr(client) + spoken.getvalue()
    )
    assert CANARY not in words


async def test_no_network_error_holds_the_key(caplog: pytest.LogCaptureFixture) -> None:
    """Aiohttp's own errors know the request's headers; ours do not lead back to them."""
    caplog.set_level(logging.DEBUG)

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{")
        writer.close()

    async with (
        _server(rude) as url,
        TickDBClient(url, SecretStr(CANARY), requests_per_minute=1_000, retry=QUICK) as one,
    ):
        with pytest.raises(TransientError) as raised:
            await one.fetch_page("BTCUSDT", "1m", window(), now=NOW)
    assert raised.value.__cause__ is None
    assert CANARY not in "".join(traceback.format_exception(raised.value)) + caplog.text


async def test_a_missing_key_is_named_before_anything_is_sent() -> None:
    """An empty key fails at once and names the setting."""
    client, network = scripted(key="")
    with pytest.raises(ConfigurationError, match="api_key"):
        await client.__aenter__()
    assert not network.asked


async def test_the_other_endpoints_answer(market: Market) -> None:
    """Symbols are read page after page; depth, trades, tickers, calendars and the forming bar are typed."""
    with Simulator(market, plan="unlimited") as sim:
        async with connect(sim) as client:
            assert [item.symbol for item in await client.fetch_symbols()] == ["BTCUSDT", "ETHUSDT"]
            depth = await client.fetch_depth("BTCUSDT", 3)
            assert depth.bids[0][0] < depth.asks[0][0]
            assert len(await client.fetch_trades("BTCUSDT", 4)) == 4
            assert [one.symbol for one in await client.fetch_tickers(["BTCUSDT", "ETHUSDT"])] == ["BTCUSDT", "ETHUSDT"]
            assert "1m" in await client.fetch_intervals()
            days = await client.fetch_trade_days("US", date(2024, 1, 1), date(2024, 1, 31))
            assert date(2024, 1, 15) not in days.days()
            assert any(one.trade_session == 0 for one in await client.fetch_trading_sessions("US"))
            latest = await client.fetch_latest_klines(["BTCUSDT"], "1m")
            assert latest[0].klines[-1].time == int(END.timestamp() * 1000)


async def test_a_metered_plan_is_never_overrun(market: Market) -> None:
    """At the plan's own rate the vendor never answers 429, and a window's worth goes out at once."""
    with Simulator(market, plan="basic", period_s=60.0) as sim:
        async with connect(sim, requests_per_minute=60) as client:
            await asyncio.gather(*(client.fetch_depth("BTCUSDT") for _ in range(60)))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.fetch_depth("BTCUSDT"), 0.05)
    assert sim.requests["/v1/market/depth", 200] == 60
    assert sum(count for (_, status), count in sim.requests.items() if status != 200) == 0


async def test_a_limiter_may_be_shared(market: Market) -> None:
    """Two clients on one budget together stay within it: a penalty of one stops the other."""
    first, _ = scripted(refusal(429, 3001, **{"retry-after": "9"}), PAGE)
    second = TickDBClient(
        "http://x",
        SecretStr(CANARY),
        requests_per_minute=1,
        limiter=first._sender._throttle._budget,
        transport=Scripted(PAGE),
        retry=QUICK,
    )
    async with first, second:
        page = asyncio.create_task(first.fetch_page("BTCUSDT", "1m", window(), now=NOW))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.fetch_page("BTCUSDT", "1m", window(), now=NOW), 0.05)
        page.cancel()
    assert isinstance(RateLimitedError("x"), TransientError)


@asynccontextmanager
async def _server(handle: Callable) -> AsyncIterator[str]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
