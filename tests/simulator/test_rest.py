"""The REST side against the vendor's published protocol."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.errors import InputError
from tasks.simulator.answers import Dialect
from tasks.simulator.market import Market
from tasks.simulator.server import Simulator
from tests.simulator.conftest import NOW, START_MS, get, klines

MINUTE = 60_000
NOW_MS = int(NOW.timestamp()) * 1000


def test_a_page_has_the_published_shape(sim: Simulator) -> None:
    """Code 0, the asked symbol, figures as strings, times in milliseconds."""
    status, _, body = get(sim, "/v1/market/kline", symbol="BTCUSDT", interval="1m", limit=2, start_time=START_MS)
    assert (status, body["code"], body["message"]) == (200, 0, "success")
    assert {name: body["data"][name] for name in ("symbol", "type", "interval")} == {
        "symbol": "BTCUSDT",
        "type": "crypto",
        "interval": "1m",
    }
    first, second = body["data"]["klines"]
    assert (first["time"], second["time"]) == (START_MS, START_MS + MINUTE)
    assert set(first) == {"time", "open", "high", "low", "close", "volume", "quote_volume"}
    assert all(isinstance(value, str) for name, value in first.items() if name != "time")


def test_futures_have_open_interest_and_no_quote_volume(sim: Simulator) -> None:
    """As the vendor documents."""
    bar = klines(sim, symbol="BU2609", limit=1)[0]
    assert "open_interest" in bar
    assert "quote_volume" not in bar


def test_pages_tile_the_range_and_equal_the_truth(sim: Simulator) -> None:
    """Walked forward by windows, the pages are exactly the market's bars."""
    seen: list[dict[str, Any]] = []
    for start in range(START_MS, NOW_MS, 700 * MINUTE):
        seen += klines(sim, start_time=start, end_time=start + 700 * MINUTE - 1)
    truth = sim.market.bars("BTCUSDT", "1m")
    assert [bar["time"] for bar in seen] == truth["timestamp"].dt.epoch("ms").to_list()
    for name in ("open", "high", "low", "close", "volume", "quote_volume"):
        assert [float(bar[name]) for bar in seen] == truth[name].to_list()


def test_the_forming_bar_is_only_in_latest(sim: Simulator) -> None:
    """At 15:30:17 the page ends with 15:29, and latest serves 15:30."""
    opened = NOW_MS - NOW_MS % MINUTE
    assert klines(sim)[-1]["time"] == opened - MINUTE
    _, _, body = get(sim, "/v1/market/kline/latest", symbols="BTCUSDT,ACME.US", interval="1m")
    assert [bar["time"] for item in body["data"] for bar in item["klines"]] == [opened, opened]


def test_the_forming_bar_is_what_its_trades_make_it(sim: Simulator) -> None:
    """High, low, close and volume of the latest bar are those of the trades since its open."""
    _, _, latest = get(sim, "/v1/market/kline/latest", symbols="BTCUSDT", interval="1m")
    _, _, recent = get(sim, "/v1/market/trades", symbol="BTCUSDT", limit=1000)
    bar = latest["data"][0]["klines"][0]
    trades = [trade for trade in recent["data"]["trades"] if trade["timestamp"] >= bar["time"]]
    prices = [float(trade["price"]) for trade in trades]
    assert trades
    assert (float(bar["open"]), float(bar["close"])) == (prices[0], prices[-1])
    assert (float(bar["high"]), float(bar["low"])) == (max(prices), min(prices))
    assert float(bar["volume"]) == pytest.approx(sum(float(trade["quantity"]) for trade in trades))


@pytest.mark.parametrize("limit", [1, 10, 50])
def test_depth_is_sorted_and_never_crossed(sim: Simulator, limit: int) -> None:
    """Bids fall, asks rise, the best ask is above the best bid, at most `limit` levels."""
    _, _, body = get(sim, "/v1/market/depth", symbol="BTCUSDT", limit=limit)
    bids, asks = ([float(price) for price, _ in body["data"][side]] for side in ("bids", "asks"))
    assert len(bids) == len(asks) == limit
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]


def test_ticker_agrees_with_depth_and_trades(sim: Simulator) -> None:
    """Last price, best quotes and the day's range fit together."""
    _, _, body = get(sim, "/v1/market/ticker", symbols="BTCUSDT")
    ticker = body["data"][0]
    _, _, depth = get(sim, "/v1/market/depth", symbol="BTCUSDT", limit=1)
    _, _, trades = get(sim, "/v1/market/trades", symbol="BTCUSDT", limit=1)
    assert ticker["last_price"] == trades["data"]["trades"][-1]["price"]
    assert ticker["bid_price"] == depth["data"]["bids"][0][0]
    assert float(ticker["low_24h"]) <= float(ticker["last_price"]) <= float(ticker["high_24h"])
    assert ticker["timestamp"] == NOW_MS


def test_symbols_are_listed_in_pages(sim: Simulator) -> None:
    """Limit and offset walk the list; filters narrow it."""
    _, _, body = get(sim, "/v1/symbols/available", limit=2, offset=1)
    assert [product["symbol"] for product in body["data"]["products"]] == ["ACME.US", "BU2609"]
    assert body["data"]["pagination"] == {"limit": 2, "offset": 1, "total": 5, "count": 2}
    _, _, body = get(sim, "/v1/symbols/available", market="US")
    assert [product["symbol"] for product in body["data"]["products"]] == ["ACME.US"]


def test_intervals_are_those_of_the_vendor(sim: Simulator) -> None:
    """Eleven of them, 3m included."""
    _, _, body = get(sim, "/v1/market/intervals/kline")
    assert body["data"]["count"] == len(body["data"]["intervals"]) == 11


def test_trade_days_know_holidays_and_half_days(sim: Simulator) -> None:
    """Independence Day is closed, the day before it is half."""
    _, _, body = get(sim, "/v1/market/trade-days", market="US", beg_day="20240701", end_day="20240707")
    assert body["data"]["trade_days"] == ["20240701", "20240702", "20240705"]
    assert body["data"]["half_trade_days"] == ["20240703"]


def test_trading_sessions_are_local_hhmm(sim: Simulator) -> None:
    """The regular US session is 930 to 1600."""
    _, _, body = get(sim, "/v1/market/trading-sessions", market="US")
    assert {"begin_time": 930, "end_time": 1600} in body["data"][0]["trading_sessions"]


@pytest.mark.parametrize(
    ("query", "status", "code", "words"),
    [
        ({"interval": ""}, 400, 2001, "interval is required"),
        ({"interval": "7m"}, 400, 2001, "interval must be one of"),
        ({"limit": "ten"}, 400, 2001, "whole number"),
        ({"limit": 0}, 400, 2001, "at least 1"),
        ({"symbol": "NOPE"}, 404, 2002, "NOPE"),
        ({"start_time": 9, "end_time": 3}, 400, 2003, "after"),
        ({"limit": 1001}, 400, 2004, "at most 1000"),
        ({"symbol": "SPX"}, 400, 2001, "AMBIGUOUS_SYMBOL"),
        ({"symbol": "SPX", "type": "crypto"}, 404, 2002, "SPX"),
        ({"type": "bond"}, 400, 2001, "type must be one of"),
    ],
)
def test_wrong_requests_get_their_code(
    sim: Simulator, query: dict[str, object], status: int, code: int, words: str
) -> None:
    """Each mistake is answered with the published code, its status and words that name the mistake."""
    found, _, body = get(sim, "/v1/market/kline", **{"symbol": "BTCUSDT", "interval": "1m", **query})
    assert (found, body["code"]) == (status, code)
    assert words in body["message"]


def test_an_ambiguous_symbol_is_served_with_its_type(sim: Simulator) -> None:
    """The type the error names is the cure."""
    stock = klines(sim, symbol="SPX", type="stock", limit=1)
    index = klines(sim, symbol="SPX", type="indices", limit=1)
    assert stock != index


def test_other_paths_are_not_found(sim: Simulator) -> None:
    """An unknown path answers 404 in the same envelope."""
    status, _, body = get(sim, "/v1/market/candles")
    assert (status, body["code"]) == (404, 404)


def test_keys_are_checked(sim: Simulator) -> None:
    """No key is 1002, an unknown one 1001, one of another address 1003, a used-up quota 3002."""
    sim.add_key("elsewhere", "pro", addresses=frozenset({"10.0.0.1"}))
    sim.add_key("metered", "pro", quota=1)
    path = "/v1/market/intervals/kline"
    assert get(sim, path, key="")[2]["code"] == 1002
    assert get(sim, path, key="nonsense")[2]["code"] == 1001
    assert get(sim, path, key="elsewhere")[2]["code"] == 1003
    assert [get(sim, path, key="metered")[2]["code"] for _ in range(2)] == [0, 3002]


@pytest.mark.parametrize(("plan", "code"), [("free", 1004), ("basic", 1004), ("pro", 0), ("unlimited", 0)])
def test_history_is_limited_by_plan(sim: Simulator, plan: str, code: int) -> None:
    """Two years back is beyond basic, within pro; free has no bars at all."""
    sim.add_key(plan, plan)
    long_ago = NOW_MS - 2 * 366 * 86_400_000
    _, _, body = get(sim, "/v1/market/kline", key=plan, symbol="BTCUSDT", interval="1m", start_time=long_ago)
    assert body["code"] == code


def test_the_minute_is_counted_exactly(small_market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty requests pass, the next is refused with the seconds to wait, and those seconds are enough."""
    clock = [1_000.0]
    monkeypatch.setattr("tasks.simulator.rest.time", SimpleNamespace(monotonic=lambda: clock[0]))
    with Simulator(small_market, plan="free", now=NOW) as sim:
        path = "/v1/market/intervals/kline"
        codes = [get(sim, path)[2]["code"] for _ in range(31)]
        status, headers, _ = get(sim, path)
        assert (codes.count(0), codes.count(3001), status) == (30, 1, 429)
        clock[0] += float(headers["Retry-After"])
        assert get(sim, path)[2]["code"] == 0
        assert sim.requests[path, 429] == 2


def test_every_undocumented_reading_can_be_chosen(sim: Simulator) -> None:
    """Inclusion of the end, which end a page keeps, and its order are switches."""
    window = {"start_time": START_MS, "end_time": START_MS + 10 * MINUTE}
    minutes = [(bar["time"] - START_MS) // MINUTE for bar in klines(sim, **window, limit=3)]
    sim.dialect = Dialect(end_included=True, newest_kept=True, descending=True)
    other = [(bar["time"] - START_MS) // MINUTE for bar in klines(sim, **window, limit=3)]
    sim.dialect = Dialect()
    assert minutes == [0, 1, 2]
    assert other == [10, 9, 8]


def test_several_run_at_once_and_stop_fast(small_market: Market) -> None:
    """Each has its own port, and stopping with an open connection waits for nobody."""
    sims = [Simulator(small_market, now=NOW).start() for _ in range(3)]
    assert len({sim.url for sim in sims}) == 3
    assert all(len(klines(sim, limit=5)) == 5 for sim in sims)
    began = time.perf_counter()
    for sim in sims:
        sim.stop()
    assert time.perf_counter() - began < 20.0  # a server that waits for its clients waits for a minute
    with pytest.raises(OSError, match="refused"):
        get(sims[0], "/v1/market/intervals/kline")


async def test_it_runs_inside_an_event_loop(small_market: Market) -> None:
    """`async with` starts and stops it without blocking the loop."""
    async with Simulator(small_market, now=NOW) as sim:
        assert sim.url.startswith("http://127.0.0.1:")


def test_a_taken_port_is_told(sim: Simulator, small_market: Market) -> None:
    """Starting on a port in use raises at once and says which."""
    port = int(sim.url.rsplit(":", 1)[1])
    with pytest.raises(InputError, match=str(port)):
        Simulator(small_market, port=port).start()


def test_pages_are_cut_fast(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is cut out of the rendered text: no bar is rendered twice."""
    bars, _ = sim.market.closed(sim.market.find("BTCUSDT"), "1m")
    whole = bars.text(0, len(bars))
    monkeypatch.setattr("tasks.simulator.series.render", lambda frame: pytest.fail("rendered again"))
    assert bars.text(500, 1500) in whole
    assert bars.text(500, 1500).count(b"}") == 1_000


def test_the_room_reads_no_file_of_ours() -> None:
    """Neither side of the protocol may lean on the other: only `tasks.errors` is shared."""
    room = Path(__file__).parents[2] / "tasks" / "simulator"
    for path in room.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "from lake" not in text, path.name
        assert "tasks.exchange" not in text, path.name
        assert "tasks.stream" not in text, path.name
