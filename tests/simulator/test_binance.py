"""Order entry as Binance spot speaks it: what a client of theirs calls, over the same engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tasks.simulator.market import Market
from tasks.simulator.orderfaults import OrderFaults
from tasks.simulator.server import Simulator
from tests.simulator.conftest import NOW


class Spot:
    """A bare signed client."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session

    async def call(self, method: str, path: str, **fields: object) -> tuple[int, Any]:
        """Return status and body of a signed request."""
        query = {"timestamp": str(int(time.time() * 1000)), "signature": "unchecked"}
        query |= {name: str(value) for name, value in fields.items()}
        async with self.session.request(method, f"/api/v3/{path}", params=query) as answer:
            return answer.status, await answer.json()

    async def place(self, client_order_id: str, **fields: object) -> tuple[int, Any]:
        """Place a market buy of one coin, or what the fields make of it."""
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
        return await self.call("POST", "order", **{**order, "newClientOrderId": client_order_id, **fields})


@pytest.fixture
async def spot(small_market: Market) -> AsyncIterator[Spot]:
    """A client of a simulator that keeps ids unique among open orders, as Binance does."""
    faults = OrderFaults(uniqueness="open")
    async with (
        Simulator(small_market, plan="unlimited", now=NOW, order_faults=faults) as sim,
        aiohttp.ClientSession(sim.url, headers={"X-MBX-APIKEY": sim.api_key}) as session,
    ):
        yield Spot(sim, session)


async def test_markets_are_listed_with_their_steps(spot: Spot) -> None:
    """Only crypto in USDT; tick and lot are those of the instrument."""
    _, info = await spot.call("GET", "exchangeInfo")
    (listed,) = info["symbols"]
    assert (listed["symbol"], listed["baseAsset"], listed["quoteAsset"]) == ("BTCUSDT", "BTC", "USDT")
    assert [rule.get("tickSize") or rule.get("stepSize") for rule in listed["filters"][:2]] == ["0.1", "0.0001"]


async def test_an_order_is_filled_found_and_paid(spot: Spot) -> None:
    """The full reply holds the fills; query, trades and account agree with it."""
    status, order = await spot.place("a")
    _, found = await spot.call("GET", "order", symbol="BTCUSDT", origClientOrderId="a")
    _, trades = await spot.call("GET", "myTrades", symbol="BTCUSDT")
    _, account = await spot.call("GET", "account")
    assert (status, order["status"], order["executedQty"]) == (200, "FILLED", "1")
    assert order["fills"] == trades
    assert found["orderId"] == order["orderId"]
    assert {balance["asset"]: balance["free"] for balance in account["balances"]}["BTC"] == "1"


async def test_an_open_order_is_listed_and_cancelled(spot: Spot) -> None:
    """It is open until cancelled; a second cancel is -2011."""
    _, order = await spot.place("a", type="LIMIT", price="1000", timeInForce="GTC")
    _, listed = await spot.call("GET", "openOrders", symbol="BTCUSDT")
    _, gone = await spot.call("DELETE", "order", symbol="BTCUSDT", orderId=order["orderId"])
    status, again = await spot.call("DELETE", "order", symbol="BTCUSDT", orderId=order["orderId"])
    assert [item["clientOrderId"] for item in listed] == ["a"]
    assert (gone["status"], status, again["code"]) == ("CANCELED", 400, -2011)
    assert (await spot.call("GET", "openOrders"))[1] == []
    assert len((await spot.call("GET", "allOrders", symbol="BTCUSDT"))[1]) == 1


async def test_what_an_open_buy_claims_is_locked_and_not_gone(spot: Spot) -> None:
    """Free and locked make the whole cash, as at Binance, or a client would see money vanish while an order rests."""
    await spot.place("a", type="LIMIT", price="1000", quantity="2")
    _, account = await spot.call("GET", "account")
    cash = next(one for one in account["balances"] if one["asset"] == "USDT")
    assert (cash["free"], cash["locked"]) == ("998000", "2000")


async def test_a_cancel_is_answered_under_an_id_of_its_own(spot: Spot) -> None:
    """`clientOrderId` is the cancel's, ours or a random one; the order's is `origClientOrderId`, and a query's answer.

    As documented for ``DELETE /api/v3/order``.
    """
    for name in ("a", "b"):
        await spot.place(name, type="LIMIT", price="1000")
    _, named = await spot.call("DELETE", "order", symbol="BTCUSDT", origClientOrderId="a", newClientOrderId="mine")
    _, unnamed = await spot.call("DELETE", "order", symbol="BTCUSDT", origClientOrderId="b")
    _, found = await spot.call("GET", "order", symbol="BTCUSDT", origClientOrderId="a")
    assert (named["origClientOrderId"], named["clientOrderId"]) == ("a", "mine")
    assert unnamed["origClientOrderId"] == "b"
    assert unnamed["clientOrderId"] not in ("", "a", "b", "mine")
    assert (found["clientOrderId"], found["status"]) == ("a", "CANCELED")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"symbol": "NOPE"}, 400, -1121),
        ({"quantity": "0"}, 400, -2010),
        ({"type": "STOP"}, 400, -1102),
        ({"timestamp": "1000"}, 400, -1021),
        ({"signature": ""}, 400, -1102),
    ],
)
async def test_refusals_speak_binance(spot: Spot, fields: dict[str, str], status: int, code: int) -> None:
    """Each mistake has Binance's own code."""
    found, body = await spot.place("a", **fields)
    assert (found, body["code"]) == (status, code)


async def test_unknown_orders_and_keys_are_told(spot: Spot) -> None:
    """-2013 for an order that was never placed, 401 for a key that does not exist."""
    assert (await spot.call("GET", "order", symbol="BTCUSDT", origClientOrderId="x"))[1]["code"] == -2013
    async with aiohttp.ClientSession(spot.sim.url, headers={"X-MBX-APIKEY": "nobody"}) as session:
        assert (await Spot(spot.sim, session).place("a"))[0] == 401


async def test_an_id_protects_only_while_its_order_is_open(spot: Spot) -> None:
    """As Binance documents: a resting order's id is refused, a filled one's is taken again."""
    await spot.place("rests", type="LIMIT", price="1000")
    assert (await spot.place("rests", type="LIMIT", price="1000"))[1]["code"] == -2010
    assert [(await spot.place("fills"))[0] for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(("fault", "status"), [("error_after", 500), ("throttle_after", 429)])
async def test_faults_strike_here_too(spot: Spot, fault: str, status: int) -> None:
    """An order is executed although the reply says otherwise."""
    spot.sim.order_faults = OrderFaults(**{f"{fault}_p": 1.0})  # type: ignore[arg-type]
    assert (await spot.place("a"))[0] == status
    assert (await spot.call("GET", "order", symbol="BTCUSDT", origClientOrderId="a"))[1]["status"] == "FILLED"


async def test_the_public_side_needs_no_key(spot: Spot) -> None:
    """Time, ping and depth."""
    async with aiohttp.ClientSession(spot.sim.url) as session:
        stranger = Spot(spot.sim, session)
        assert (await stranger.call("GET", "ping"))[1] == {}
        assert (await stranger.call("GET", "time"))[1]["serverTime"] > 0
        _, book = await stranger.call("GET", "depth", symbol="BTCUSDT", limit=5)
        assert len(book["bids"]) == len(book["asks"]) == 5
        assert (await stranger.call("GET", "depth", symbol="NOPE"))[1]["code"] == -1121
