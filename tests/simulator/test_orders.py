"""Order entry: matching, idempotency, deadlines, and every way a reply can go astray."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from tasks.errors import InputError
from tasks.simulator.clock import MarketClock
from tasks.simulator.market import Market
from tasks.simulator.orderfaults import OrderFaults
from tasks.simulator.server import Simulator
from tests.simulator.conftest import NOW, START


class Trader:
    """A bare order client."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session

    async def call(self, method: str, path: str, *, body: object = None, **query: str) -> tuple[int, Any]:
        """Return vendor code and data of a request; the code is -1 where no whole answer arrived."""
        try:
            async with self.session.request(method, path, json=body, params=query) as answer:
                decoded = await answer.json()
                return decoded["code"], decoded["data"]
        except aiohttp.ClientError:
            return -1, None

    async def place(
        self, client_order_id: str, side: str = "buy", quantity: str = "1", **fields: object
    ) -> tuple[int, Any]:
        """Place a market order, or what the fields make of it."""
        order = {"client_order_id": client_order_id, "symbol": "BTCUSDT", "side": side, "quantity": quantity}
        return await self.call("POST", "/v1/orders", body={**order, "order_type": "market", **fields})

    async def truth(self) -> dict[str, Any]:
        """Return the account as it truly is."""
        _, data = await self.call("GET", "/simulator/orders")
        return data.get(self.sim.api_key, {"orders": [], "fills": [], "positions": []})


@asynccontextmanager
async def trading(market: Market, faults: OrderFaults | None = None, now: Any = NOW) -> AsyncIterator[Trader]:
    """Run a simulator and a client for it."""
    async with (
        Simulator(market, plan="unlimited", now=now, order_faults=faults) as sim,
        aiohttp.ClientSession(sim.url, headers={"X-API-Key": sim.api_key}) as session,
    ):
        yield Trader(sim, session)


async def _best(trader: Trader, side: str) -> list[str]:
    _, book = await trader.call("GET", "/v1/market/depth", symbol="BTCUSDT", limit="50")
    return book[side][0]


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask until something holds; half a minute at most, for a machine that is busy."""
    until = time.monotonic() + 30
    while not await holds():
        assert time.monotonic() < until, "it never came to hold"
        await asyncio.sleep(0.01)


async def test_a_market_order_walks_the_book(small_market: Market) -> None:
    """It takes the best asks in order, pays fees, and moves cash and position by exactly its fills."""
    async with trading(small_market) as trader:
        _, book = await trader.call("GET", "/v1/market/depth", symbol="BTCUSDT", limit="50")
        first_two = Decimal(book["asks"][0][1]) + Decimal(book["asks"][1][1])
        code, order = await trader.place("a", quantity=str(first_two))
        _, fills = await trader.call("GET", "/v1/fills", client_order_id="a")
        _, account = await trader.call("GET", "/v1/account")
    assert (code, order["status"], Decimal(order["filled_quantity"])) == (0, "filled", first_two)
    assert [[fill["price"], fill["quantity"]] for fill in fills] == book["asks"][:2]
    spent = sum(Decimal(fill["price"]) * Decimal(fill["quantity"]) + Decimal(fill["fee"]) for fill in fills)
    assert Decimal(account["balances"][0]["total"]) == 1_000_000 - spent
    assert Decimal(account["positions"][0]["quantity"]) == first_two


async def test_a_market_buy_needs_the_cash_for_every_level_it_walks(small_market: Market) -> None:
    """Affordable at the best price alone is not affordable: cash falls below zero by fees only."""
    async with trading(small_market) as trader:
        _, book = await trader.call("GET", "/v1/market/depth", symbol="BTCUSDT", limit="50")
        asks = [(Decimal(price), Decimal(size)) for price, size in book["asks"]]
        most = (1_000_000 / asks[0][0]).quantize(Decimal("0.0001"), rounding="ROUND_DOWN")
        assert asks[0][1] < most < sum(size for _, size in asks)
        code, _ = await trader.place("a", quantity=str(most))
        _, account = await trader.call("GET", "/v1/account")
    assert (code, account["balances"][0]["total"]) == (6003, "1000000")


async def test_the_book_thins_as_it_is_taken(small_market: Market) -> None:
    """Two orders in the same instant do not both get the best level."""
    async with trading(small_market) as trader:
        price, size = await _best(trader, "asks")
        _, first = await trader.place("a", quantity=size)
        _, second = await trader.place("b", quantity="0.0001")
    assert first["average_price"] == price
    assert Decimal(second["average_price"]) > Decimal(price)


async def test_selling_back_closes_the_position(small_market: Market) -> None:
    """Bought and sold, the account is flat and poorer by spread and fees."""
    async with trading(small_market) as trader:
        await trader.place("a", "buy", "2")
        await trader.place("b", "sell", "2")
        _, account = await trader.call("GET", "/v1/account")
    assert account["positions"] == []
    assert Decimal(account["balances"][0]["total"]) < 1_000_000


async def test_time_in_force_is_kept(small_market: Market) -> None:
    """A far fill-or-kill does nothing, an immediate-or-cancel fills what it can, a far limit waits."""
    async with trading(small_market) as trader:
        price, size = await _best(trader, "asks")
        more = str(Decimal(size) + 1)
        limit = {"order_type": "limit", "price": price}
        _, kill = await trader.place("fok", quantity=more, time_in_force="fok", **limit)
        _, part = await trader.place("ioc", quantity=more, time_in_force="ioc", **limit)
        _, rest = await trader.place("gtc", quantity="1", **limit)
        _, listed = await trader.call("GET", "/v1/orders/open")
    assert (kill["status"], kill["filled_quantity"]) == ("expired", "0")
    assert (part["status"], part["filled_quantity"]) == ("expired", size)
    assert rest["status"] == "new"
    assert [order["client_order_id"] for order in listed] == ["gtc"]


async def test_resting_orders_fill_as_the_market_passes(small_market: Market) -> None:
    """A bid below the market is filled piece by piece, by trades at or below it, at its own price."""
    moment = {"now": NOW}
    async with trading(small_market, now=lambda: moment["now"]) as trader:
        lows = small_market.bars("BTCUSDT", "1m", NOW + timedelta(minutes=1), NOW + timedelta(hours=1))["low"]
        price = f"{lows.min() + 5:.1f}"
        code, order = await trader.place("a", quantity="30", order_type="limit", price=price)
        seen = {order["filled_quantity"]}
        for _ in range(60):
            moment["now"] += timedelta(minutes=1)
            _, order = await trader.call("GET", "/v1/orders", client_order_id="a")
            seen.add(order["filled_quantity"])
        _, fills = await trader.call("GET", "/v1/fills", client_order_id="a")
    assert code == 0
    assert len(fills) >= 2
    assert {fill["price"] for fill in fills} == {price.removesuffix(".0")}
    assert {fill["liquidity"] for fill in fills} == {"maker"}
    assert sum(Decimal(fill["quantity"]) for fill in fills) == Decimal(order["filled_quantity"])


async def test_cancel_leaves_what_was_filled(small_market: Market) -> None:
    """A cancelled order stays cancelled; cancelling it again is answered 6005 with the order."""
    async with trading(small_market) as trader:
        await trader.place("a", order_type="limit", price="1000")
        code, order = await trader.call("DELETE", "/v1/orders", client_order_id="a")
        again, same = await trader.call("DELETE", "/v1/orders", client_order_id="a")
        unknown, _ = await trader.call("DELETE", "/v1/orders", client_order_id="zzz")
    assert (code, order["status"], again, same["status"], unknown) == (0, "canceled", 6005, "canceled", 6001)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"symbol": "NOPE"}, 2002),
        ({"side": "hold"}, 2001),
        ({"quantity": "0"}, 6003),
        ({"quantity": "NaN"}, 2001),
        ({"quantity": "0.00001"}, 6003),
        ({"quantity": "1000000"}, 6003),
        ({"order_type": "limit"}, 2001),
        ({"order_type": "limit", "price": "1.23"}, 6003),
        ({"client_order_id": ""}, 2001),
        ({"timestamp": 1}, 6004),
        ({"timestamp": 9_999_999_999_999}, 2001),
    ],
)
async def test_wrong_orders_are_refused_for_good(small_market: Market, fields: dict[str, object], code: int) -> None:
    """Each mistake has its code, and nothing reached the engine."""
    async with trading(small_market) as trader:
        found, _ = await trader.place(**{"client_order_id": "a", **fields})  # type: ignore[arg-type]
        assert found == code
        assert (await trader.truth())["orders"] == []


@pytest.mark.parametrize(("uniqueness", "codes"), [("lifetime", [0, 6002]), ("open", [0, 0]), ("none", [0, 0])])
async def test_a_filled_orders_id_is_unique_as_configured(
    small_market: Market, uniqueness: str, codes: list[int]
) -> None:
    """Only lifetime uniqueness protects a filled order from its double."""
    async with trading(small_market, OrderFaults(uniqueness=uniqueness)) as trader:
        found = [(await trader.place("a"))[0] for _ in range(2)]
        assert found == codes
        assert len((await trader.truth())["orders"]) == codes.count(0)


@pytest.mark.parametrize(("uniqueness", "codes"), [("lifetime", [0, 6002]), ("open", [0, 6002]), ("none", [0, 0])])
async def test_an_open_orders_id_is_unique_as_configured(
    small_market: Market, uniqueness: str, codes: list[int]
) -> None:
    """While it rests, an order's id is refused unless nothing is checked; the refusal shows the known order."""
    async with trading(small_market, OrderFaults(uniqueness=uniqueness)) as trader:
        answers = [await trader.place("a", order_type="limit", price="1000") for _ in range(2)]
    assert [code for code, _ in answers] == codes
    assert answers[1][1]["client_order_id"] == "a"


@pytest.mark.parametrize(
    ("fault", "code", "placed"),
    [
        ("lost_reply", -1, 1),
        ("reset_body", -1, 1),
        ("error_after", 5000, 1),
        ("throttle_after", 3001, 1),
        ("error_before", 5000, 0),
        ("reject", 6003, 0),
    ],
)
async def test_replies_go_astray(small_market: Market, fault: str, code: int, placed: int) -> None:
    """What the client reads says nothing about what was placed; the record names the fault."""
    async with trading(small_market, OrderFaults(**{f"{fault}_p": 1.0})) as trader:  # type: ignore[arg-type]
        found, _ = await trader.place("a")
        assert found == code
        assert len((await trader.truth())["orders"]) == placed
        assert [item.fault for item in trader.sim.injected] == [fault]


async def test_a_late_reply_outlasts_the_client(small_market: Market) -> None:
    """The client gives up; the order had been executed long before."""
    async with trading(small_market, OrderFaults(late_reply_p=1.0, late_reply_s=60.0)) as trader:
        placing = asyncio.ensure_future(trader.place("a"))

        async def executed() -> bool:
            return [order["status"] for order in (await trader.truth())["orders"]] == ["filled"]

        await _until(executed)
        assert not placing.done()
        placing.cancel()


async def test_a_ghost_is_executed_after_its_client_left(small_market: Market) -> None:
    """The gateway holds the request; the client is gone when it reaches the engine, and it is executed all the same."""
    async with trading(small_market, OrderFaults(ghost_p=1.0, ghost_s=1.2)) as trader:
        placing = asyncio.ensure_future(trader.place("a"))

        async def held() -> bool:
            return bool(trader.sim.injected)

        async def executed() -> bool:
            return bool((await trader.truth())["orders"])

        await _until(held)
        placing.cancel()
        assert not await executed()
        await _until(executed)


async def test_a_deadline_stops_a_ghost(small_market: Market) -> None:
    """Checked again right before the engine, a request past its window is never executed."""
    async with trading(small_market, OrderFaults(seed=3, ghost_p=1.0, ghost_s=2.0)) as trader:
        code, _ = await trader.place("a", timestamp=int(time.time() * 1000), recv_window=20)
        assert code == 6004
        assert (await trader.truth())["orders"] == []


async def test_lists_and_queries_can_lag(small_market: Market) -> None:
    """A fresh order is not yet seen by query and open orders; the truth has it."""
    async with trading(small_market, OrderFaults(query_lag_s=60.0, open_lag_s=60.0)) as trader:
        await trader.place("a", order_type="limit", price="1000")
        code, _ = await trader.call("GET", "/v1/orders", client_order_id="a")
        _, listed = await trader.call("GET", "/v1/orders/open")
        assert (code, listed, len((await trader.truth())["orders"])) == (6001, [], 1)
        trader.sim.order_faults = OrderFaults(query_lag_s=0.2, open_lag_s=0.2)

        async def seen() -> bool:
            return (await trader.call("GET", "/v1/orders", client_order_id="a"))[0] == 0

        await _until(seen)
        assert len((await trader.call("GET", "/v1/orders/open"))[1]) == 1


async def test_terminal_orders_can_be_forgotten(small_market: Market) -> None:
    """With no retention a filled order is unknown at once; an open one never is."""
    async with trading(small_market, OrderFaults(retention_s=0.0)) as trader:
        await trader.place("filled")
        await trader.place("open", order_type="limit", price="1000")
        codes = [(await trader.call("GET", "/v1/orders", client_order_id=name))[0] for name in ("filled", "open")]
    assert codes == [6001, 0]


async def test_a_fill_can_come_after_the_cancel(small_market: Market) -> None:
    """The cancel is acknowledged, then half of the rest is filled; the order stays cancelled, the position moves."""
    async with trading(small_market, OrderFaults(late_fill_p=1.0)) as trader:
        await trader.place("a", quantity="2", order_type="limit", price="1000")
        _, cancelled = await trader.call("DELETE", "/v1/orders", client_order_id="a")
        _, later = await trader.call("GET", "/v1/orders", client_order_id="a")
        _, account = await trader.call("GET", "/v1/account")
    assert (cancelled["status"], cancelled["filled_quantity"]) == ("canceled", "0")
    assert (later["status"], later["filled_quantity"]) == ("canceled", "1")
    assert account["positions"][0]["quantity"] == "1"


async def test_some_brokers_know_no_deadline_and_no_client_id(small_market: Market) -> None:
    """An ancient request is executed, and only the venue's own id finds the order."""
    async with trading(small_market, OrderFaults(deadlines=False, client_ids=False)) as trader:
        code, order = await trader.place("a", timestamp=1, recv_window=1)
        assert code == 0
        assert (await trader.call("GET", "/v1/orders", client_order_id="a"))[0] == 2001
        assert (await trader.call("GET", "/v1/orders", order_id=order["order_id"]))[0] == 0


@asynccontextmanager
async def _private(trader: Trader) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with trader.session.ws_connect("/v1/private") as socket:
        await socket.send_json({"cmd": "ping"})
        assert (await socket.receive_json())["cmd"] == "pong"
        yield socket


async def _pushed(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[tuple[str, str]]:
    """Return the next messages as what they are about: an order's status or a fill's id."""
    seen = []
    for _ in range(count):
        message = json.loads((await asyncio.wait_for(socket.receive(), 30)).data)
        seen.append((message["cmd"], message["data"].get("status") or message["data"]["trade_id"]))
    return seen


async def _two_fills(trader: Trader) -> list[str]:
    """Place an order that needs two levels; return its fills' ids in order."""
    _, book = await trader.call("GET", "/v1/market/depth", symbol="BTCUSDT", limit="2")
    await trader.place("a", quantity=str(Decimal(book["asks"][0][1]) + Decimal("0.0001")))
    return [fill["trade_id"] for fill in (await trader.truth())["fills"]]


@pytest.mark.parametrize("fault", ["none", "late_ack", "reorder_fills", "duplicate_fill"])
async def test_pushes_come_in_order_unless_a_fault_says_otherwise(small_market: Market, fault: str) -> None:
    """New, first fill, partially filled, second fill, filled; each fault disturbs it in its own way."""
    faults = OrderFaults() if fault == "none" else OrderFaults(**{f"{fault}_p": 1.0})  # type: ignore[arg-type]
    async with trading(small_market, faults) as trader, _private(trader) as socket:
        first, second = await _two_fills(trader)
        pushed = await _pushed(socket, 7 if fault == "duplicate_fill" else 5)
    one, two = ("fill", first), ("fill", second)
    new, part, done = (("order", status) for status in ("new", "partially_filled", "filled"))
    assert (
        pushed
        == {
            "none": [new, one, part, two, done],
            "late_ack": [one, two, new, part, done],
            "reorder_fills": [new, two, part, one, done],
            "duplicate_fill": [new, one, one, part, two, two, done],
        }[fault]
    )


async def test_pushes_can_be_lost_and_the_stream_cut(small_market: Market) -> None:
    """Nothing is pushed, the REST side knows; a strike ends the private stream."""
    async with trading(small_market, OrderFaults(lose_push_p=1.0)) as trader, _private(trader) as socket:
        await _two_fills(trader)
        assert trader.sim.strike("close", private=True) == 1
        assert (await asyncio.wait_for(socket.receive(), 30)).type is aiohttp.WSMsgType.CLOSE


async def test_accounts_are_apart(small_market: Market) -> None:
    """Another key sees none of it, and nobody trades without a key."""
    async with trading(small_market) as trader:
        trader.sim.add_key("other", "pro")
        await trader.place("a")
        async with aiohttp.ClientSession(trader.sim.url, headers={"X-API-Key": "other"}) as session:
            stranger = Trader(trader.sim, session)
            assert (await stranger.call("GET", "/v1/orders", client_order_id="a"))[0] == 6001
            assert (await stranger.call("GET", "/v1/fills"))[1] == []
        async with aiohttp.ClientSession(trader.sim.url) as session:
            assert (await Trader(trader.sim, session).place("b"))[0] == 1002


async def test_faults_are_switched_from_another_process(small_market: Market) -> None:
    """Over HTTP, every kind of fault is read and changed; a wrong name is told."""
    async with trading(small_market) as trader:
        code, now = await trader.call("PUT", "/simulator/faults/orders", body={"uniqueness": "open", "seed": 4})
        assert (code, now["uniqueness"], trader.sim.order_faults.seed) == (0, "open", 4)
        assert (await trader.call("PUT", "/simulator/faults/stream", body={"endings": ["rst"]}))[0] == 0
        assert trader.sim.stream_faults.endings == ("rst",)
        assert (await trader.call("PUT", "/simulator/faults/rest", body={"zap": 1}))[0] == 2001
        assert (await trader.call("PUT", "/simulator/faults/rest", body={"drop_p": 7}))[0] == 2001
        assert (await trader.call("PUT", "/simulator/faults/nothing", body={}))[0] == 404
        assert (await trader.call("POST", "/simulator/strike/private/rst"))[1] == {"struck": 0}
        assert (await trader.call("GET", "/simulator/injected"))[1] == []


def test_an_unknown_kind_of_uniqueness_is_refused() -> None:
    """The message lists the kinds."""
    with pytest.raises(InputError, match="lifetime open none"):
        OrderFaults(uniqueness="monthly")


async def test_orders_follow_a_passing_clock(small_market: Market) -> None:
    """With nobody asking, a resting order is filled and told as market time passes."""
    clock = MarketClock(START + timedelta(hours=1), speed=2_000.0)
    async with trading(small_market, now=clock) as trader, _private(trader) as socket:
        bid, _ = await _best(trader, "bids")
        await trader.place("a", quantity="0.01", order_type="limit", price=f"{float(bid) - 5:.1f}")
        assert (await _pushed(socket, 1)) == [("order", "new")]
        assert (await _pushed(socket, 1))[0][0] == "fill"


async def _send_and_die(trader: Trader, client_order_id: str, window_s: float) -> None:
    """Send an order and leave while the gateway holds it, as a client killed in the middle does."""
    sent = {"timestamp": int(time.time() * 1000), "recv_window": round(window_s * 1000)}
    placing = asyncio.ensure_future(trader.place(client_order_id, quantity="0.01", **sent))

    async def held_or_done() -> bool:
        return placing.done() or f"place {client_order_id} #1" in {item.target for item in trader.sim.injected}

    await _until(held_or_done)
    placing.cancel()


async def _recover(trader: Trader, client_order_id: str) -> None:
    """Place an order again unless the venue knows it."""
    code, _ = await trader.call("GET", "/v1/orders", client_order_id=client_order_id)
    while code == 6001:
        fresh = {"timestamp": int(time.time() * 1000), "recv_window": 60_000}
        code, _ = await trader.place(client_order_id, quantity="0.01", **fresh)


@pytest.mark.parametrize(("patient", "window_s", "ghost_s"), [(True, 0.9, 0.8), (False, 60.0, 15.0)])
async def test_only_the_patient_recover_without_doubles(
    small_market: Market, patient: bool, window_s: float, ghost_s: float
) -> None:
    """Asking before the deadline doubles orders that a ghost still carries; asking after it never does.

    The simulator must be able to tell the two apart, or tests of recovery against it would be blind.
    """
    names = [f"order{number}" for number in range(20)]
    faults = OrderFaults(uniqueness="none", ghost_p=0.7, ghost_s=ghost_s)
    async with trading(small_market, faults) as trader:

        async def placed() -> list[str]:
            return [order["client_order_id"] for order in (await trader.truth())["orders"]]

        async def doubled() -> bool:
            return len(await placed()) > len(names)

        await asyncio.gather(*(_send_and_die(trader, name, window_s) for name in names))
        if patient:
            await asyncio.sleep(window_s + 0.02)
        else:
            trader.sim.order_faults = replace(faults, ghost_p=0.0)  # whoever asks again is served at once
        await asyncio.gather(*(_recover(trader, name) for name in names))
        if patient:
            await asyncio.sleep(ghost_s)  # the last ghosts
            assert sorted(await placed()) == sorted(names)
        else:
            await _until(doubled)
            assert set(await placed()) == set(names)
