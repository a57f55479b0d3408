"""Another vendor behind the same port: ccxt's client of one exchange against a local server that speaks its klines."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from lake.coverage import Ledger
from lake.store import Lake
from lake.timeline import to_ms
from tasks.errors import (
    ConfigurationError,
    InputError,
    ProtocolError,
    RateLimitedError,
    TransientError,
    UnknownSymbolError,
)
from tasks.exchange.backfill import backfill_range
from tasks.exchange.source import SourceSettings, open_source
from tests.exchange.conftest import END, MINUTE, START, window

BARS = 3 * 1_440


class Exchange:
    """A local exchange that speaks Binance's spot market data: exchangeInfo and klines.

    Attributes:
        asked: How often each path was asked for.
        status: Status of every answer to a request for klines.
        absent: Minutes after `START` that it has no bar for.
        body: What it says instead of bars, empty for bars.
        kept: How many of the newest bars it serves, whatever is asked for (Kraken does); 0 for all of history.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.status = 200
        self.absent: set[int] = set()
        self.body = ""
        self.kept = 0
        self.url = ""

    async def info(self, request: web.Request) -> web.Response:
        """List one market."""
        self.asked["info"] += 1
        market = {
            "symbol": "BTCUSDT",
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "isSpotTradingAllowed": True,
            "permissions": ["SPOT"],
            "filters": [],
        }
        return web.json_response({"symbols": [market] if request.path.startswith("/api/") else []})

    async def klines(self, request: web.Request) -> web.Response:
        """Serve bars, the one still forming included, as the exchange does."""
        self.asked["klines"] += 1
        if self.status != 200:
            return web.json_response({"code": -1003, "msg": "no"}, status=self.status)
        if self.body:
            return web.Response(text=self.body)
        first, last = (int(request.query[name]) for name in ("startTime", "endTime"))
        start = -(-max(0, first - to_ms(START)) // 60_000)
        stop = min(BARS + 1, (last - to_ms(START)) // 60_000 + 1)
        if self.kept:
            start, stop = max(start, BARS - self.kept), BARS
        minutes = [minute for minute in range(start, stop) if minute not in self.absent]
        return web.json_response([self.bar(minute) for minute in minutes[: int(request.query["limit"])]])

    @staticmethod
    def bar(minute: int) -> list[object]:
        """Return one bar in the exchange's own shape."""
        opened, price = to_ms(START + minute * MINUTE), f"{100 + minute / 100:.2f}"
        return [opened, price, price, price, price, "1.5", opened + 59_999, "150", 3, "1", "100", "0"]


@pytest_asyncio.fixture
async def exchange() -> AsyncIterator[Exchange]:
    """The exchange on loopback."""
    local, app = Exchange(), web.Application()
    for path in ("/api/v3/exchangeInfo", "/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo"):
        app.router.add_get(path, local.info)
    app.router.add_get("/api/v3/klines", local.klines)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    local.url = "http://{}:{}".format(*runner.addresses[0])
    yield local
    await runner.cleanup()


def settings(exchange: Exchange, tmp_path: Path, **changes: object) -> SourceSettings:
    """Return the local exchange as a source."""
    fields = {"source": "ccxt:binance", "exchange_url": exchange.url, "requests_per_minute": 100_000, "now": END}
    return SourceSettings(**fields | {"budget_dir": str(tmp_path / "budget"), "attempts": 1} | changes)  # type: ignore[arg-type]


async def test_an_exchange_fills_the_lake(exchange: Exchange, tmp_path: Path) -> None:
    """The same backfill, another source: every closed bar once, the forming one not, a second run asks nothing."""
    source, root = settings(exchange, tmp_path), str(tmp_path / "lake")
    receipt = await backfill_range(root, "BTC/USDT", "1m", START, END + timedelta(hours=1), source)
    bars = Lake(root).read_bars("BTC/USDT", "1m")
    assert bars.height == receipt.rows_new == BARS
    assert bars["close"].to_list() == [float(f"{100 + minute / 100:.2f}") for minute in range(BARS)]
    assert bars["timestamp"].to_list() == [START + minute * MINUTE for minute in range(BARS)]
    assert bars["quote_volume"].null_count() == BARS
    asked = exchange.asked["klines"]
    assert asked == receipt.requests == 5
    await backfill_range(root, "BTC/USDT", "1m", START, END, source)
    assert exchange.asked["klines"] == asked


async def test_its_holes_are_confirmed_like_any_others(exchange: Exchange, tmp_path: Path) -> None:
    """What the exchange lacks is asked for twice, reported, and never again."""
    exchange.absent = {10, 11, 2_000}
    source, root = settings(exchange, tmp_path), str(tmp_path / "lake")
    receipt = await backfill_range(root, "BTC/USDT", "1m", START, END, source)
    assert [(end - start) // MINUTE for start, end in receipt.missing] == [2, 1]
    assert exchange.asked["klines"] == 7


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitedError), (418, RateLimitedError), (503, TransientError)])
async def test_its_errors_mean_the_same_cures(
    exchange: Exchange, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    """Ccxt's errors become ours, so that flows treat every vendor alike."""
    exchange.status = status
    async with open_source(settings(exchange, tmp_path)) as source:
        with pytest.raises(kind, match="BTC/USDT"):
            await source.fetch_page("BTC/USDT", "1m", window(), now=END)


@pytest.mark.parametrize(
    "body", ["<html>Please wait</html>", '{"klines": []}', '["no rows"]', '[["soon", 1, 1, 1, 1, 1]]']
)
async def test_nonsense_is_no_empty_page(exchange: Exchange, tmp_path: Path, body: str) -> None:
    """An answer that holds no rows of bars is refused, never taken for a range without bars."""
    exchange.body = body
    async with open_source(settings(exchange, tmp_path)) as source:
        with pytest.raises(ProtocolError, match="BTC/USDT"):
            await source.fetch_page("BTC/USDT", "1m", window(), now=END)


async def test_an_unknown_symbol_and_exchange_are_named(exchange: Exchange, tmp_path: Path) -> None:
    """What a person has to change is said at once."""
    async with open_source(settings(exchange, tmp_path)) as source:
        with pytest.raises(UnknownSymbolError, match="NOPE"):
            await source.fetch_page("NOPE", "1m", window(), now=END)
    with pytest.raises(ConfigurationError, match="ccxt:nowhere"):
        async with open_source(settings(exchange, tmp_path, source="ccxt:nowhere")):
            pass
    with pytest.raises(ConfigurationError, match="tickdb"):
        open_source(settings(exchange, tmp_path, source="elsewhere"))


async def test_an_exchange_without_history_is_no_empty_one(exchange: Exchange, tmp_path: Path) -> None:
    """Some exchanges answer with their newest bars whatever is asked: what is older is refused and not called empty."""
    exchange.kept = 1_000
    told, source = (str(tmp_path), "BTC/USDT", "1m"), settings(exchange, tmp_path)
    with pytest.raises(InputError, match=r"the exchange keeps its newest 1,000 bars only, from 2024-01-03T07:20"):
        await backfill_range(*told, START, END, source)
    assert set(Ledger(Lake(tmp_path)).absences("BTC/USDT", "1m", START, END, now=END)["reason"]) == {"not_fetched"}
    receipt = await backfill_range(*told, END - 1_000 * MINUTE, END, source)
    assert (receipt.rows_new, receipt.missing) == (1_000, ())
