"""The rate limit of orders: exact over every rolling window, cancels first, silence after a 429."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.broker.ccxt import CcxtBroker, CcxtSettings
from tasks.broker.metered import ENTRY_PATIENCE_S, Gate, Urgency, order_limits
from tasks.broker.port import NotSentError, ThrottledError
from tasks.errors import RateLimitedError
from tasks.orders.order import OrderRequest, Side

LIMIT, WINDOW_S = 10, 1.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time is that of its next timer: seconds pass at once."""

    _at_s = 0.0

    def time(self) -> float:
        """Return the loop's time."""
        return self._at_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._at_s = max(self._at_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


class Exchange:
    """Notes what arrives and when, which lies somewhere between sending and answer; angry at times.

    Attributes:
        arrived: Time and name of every request.
        angry_until: Requests before that are answered 429.
        travel_s: The longest way there, and back.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.arrived: list[tuple[float, str]] = []
        self.angry_until, self.travel_s = 0.0, 0.2

    async def take(self, name: str) -> None:
        """Take a request."""
        await asyncio.sleep(self._rng.uniform(0, self.travel_s))
        self.arrived.append((asyncio.get_running_loop().time(), name))
        await asyncio.sleep(self._rng.uniform(0, self.travel_s))
        if asyncio.get_running_loop().time() < self.angry_until:
            raise ThrottledError("429")


class Client:
    """What a broker's adapter does: a slot for each request.

    Args:
        exchange: Whom it asks.
        gate: Its limit.
    """

    def __init__(self, exchange: Exchange, gate: Gate) -> None:
        self._exchange, self._gate = exchange, gate

    async def submit(self, request: OrderRequest) -> None:
        """Place an order."""
        urgency = Urgency.RESOLVE if request.reduce_only else Urgency.ENTRY
        async with self._gate.slot(urgency, "submit", patience_s=ENTRY_PATIENCE_S):
            await self._exchange.take("submit")

    async def cancel(self) -> None:
        """Cancel an order."""
        async with self._gate.slot(Urgency.CANCEL, "cancel"):
            await self._exchange.take("cancel")

    async def open_orders(self) -> None:
        """Look."""
        async with self._gate.slot(Urgency.LOOK, "open orders"):
            await self._exchange.take("look")


def run(scenario: Callable[[Client, Exchange], Awaitable[Any]], seed: int = 1) -> Exchange:
    """Run a scenario in virtual time and return the exchange."""
    exchange = Exchange(Random(seed))

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        await scenario(Client(exchange, Gate("exchange", order_limits(LIMIT, WINDOW_S), clock=clock)), exchange)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    return exchange


def order(*, reduce_only: bool = False) -> OrderRequest:
    """Return an order."""
    return OrderRequest("o", "a", "S", Side.BUY, Decimal(1), reduce_only=reduce_only)


async def anything(broker: Client, rng: Random) -> None:
    """Ask for one thing or another at a random moment."""
    await asyncio.sleep(rng.uniform(0, 20))
    asked = rng.choice([lambda: broker.submit(order()), broker.cancel, broker.open_orders])
    try:
        await asked()
    except (NotSentError, RateLimitedError):
        return


@pytest.mark.parametrize("seed", range(5))
def test_no_rolling_window_holds_more_than_the_limit(seed: int) -> None:
    """Whatever is asked when, and however long requests travel, the exchange never counts more than it allows."""

    async def crowd(broker: Client, exchange: Exchange) -> None:
        rng = Random(seed)
        await asyncio.gather(*(anything(broker, rng) for _ in range(400)))

    times = [moment for moment, _ in run(crowd, seed).arrived]
    assert len(times) > 150
    assert all(later - first >= WINDOW_S - 1e-9 for first, later in zip(times, times[LIMIT:], strict=False))


def test_a_cancel_does_not_wait_behind_entries() -> None:
    """While entries and looks fill the limit and a crowd waits, a cancel leaves at once: a reserve is kept for it."""
    waits: list[float] = []

    async def storm(broker: Client, exchange: Exchange) -> None:
        clock = asyncio.get_running_loop().time
        looks = [asyncio.ensure_future(broker.open_orders()) for _ in range(90)]
        for _ in range(8):
            await asyncio.sleep(1.0)
            asked_at = clock()
            await broker.cancel()
            waits.append(clock() - asked_at)
        for look in looks:
            look.cancel()

    run(storm)
    assert max(waits) <= 0.4 + WINDOW_S / LIMIT  # two ways of at most 0.2 s, and less than one slot


def test_cancels_overtake_whoever_waits() -> None:
    """Where even the reserve is used up, the next slot is a cancel's."""

    async def storm(broker: Client, exchange: Exchange) -> None:
        exchange.travel_s = 0.0
        cancels = [asyncio.ensure_future(broker.cancel()) for _ in range(LIMIT)]
        await asyncio.sleep(0.1)
        looks = [asyncio.ensure_future(broker.open_orders()) for _ in range(5)]
        await asyncio.sleep(0.1)
        cancels += [asyncio.ensure_future(broker.cancel()) for _ in range(LIMIT)]
        await asyncio.gather(*cancels, *looks)

    names = [name for _, name in run(storm).arrived]
    assert names == ["cancel"] * 2 * LIMIT + ["look"] * 5


def test_nothing_is_sent_while_the_exchange_is_angry() -> None:
    """After a 429 two hundred tasks send nothing before the penalty is over, and a second 429 doubles it."""

    async def storm(broker: Client, exchange: Exchange) -> None:
        exchange.angry_until = 6.0
        with pytest.raises(ThrottledError):
            await broker.cancel()
        await asyncio.gather(*(broker.cancel() for _ in range(200)), return_exceptions=True)

    times = [moment for moment, _ in run(storm).arrived]
    silent = [later - first for first, later in pairwise(times) if later - first > 2 * WINDOW_S]
    assert len(times) == 201
    assert silent[0] >= 4.8
    assert silent[1] >= 9.5


def test_an_entry_that_waited_too_long_was_not_sent() -> None:
    """An entry whose turn does not come in two seconds would meet an old price: proved unsent, to be decided anew."""

    async def storm(broker: Client, exchange: Exchange) -> None:
        exchange.angry_until = 1.0
        with pytest.raises(ThrottledError):
            await broker.submit(order())
        with pytest.raises(NotSentError, match="limits us"):
            await broker.submit(order())
        with pytest.raises(NotSentError, match="limits us"):
            await broker.submit(order(reduce_only=True))

    assert len(run(storm).arrived) == 1


def test_a_queue_that_only_grows_is_refused() -> None:
    """More than a hundred waiting questions are answered at once that it is no use; cancels still get in line."""

    async def storm(broker: Client, exchange: Exchange) -> None:
        looks = [asyncio.ensure_future(broker.open_orders()) for _ in range(130)]
        await asyncio.sleep(0.01)
        refused = [look for look in looks if look.done() and isinstance(look.exception(), RateLimitedError)]
        assert len(refused) == 130 - 100 - (LIMIT - 2)
        await broker.cancel()
        for look in looks:
            look.cancel()

    run(storm)


class ListedExchange:
    """A ccxt client in virtual time: every request takes a tenth of a second, and is noted."""

    def __init__(self) -> None:
        self.arrived: list[tuple[float, str]] = []

    async def fetch_my_trades(self, symbol: str, since: int) -> list[Any]:
        """Return no trades."""
        return await self._take("trades")

    async def fetch_open_orders(self, symbol: str) -> list[Any]:
        """Return no orders."""
        return await self._take("orders")

    async def cancel_order(self, number: str | None, symbol: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Cancel."""
        await self._take("cancel")
        return {"id": "1", "symbol": symbol, "side": "buy", "amount": 1.0, "status": "canceled"} | {
            "clientOrderId": fields["origClientOrderId"]
        }

    async def close(self) -> None:
        """Do nothing."""

    async def _take(self, name: str) -> list[Any]:
        self.arrived.append((asyncio.get_running_loop().time(), name))
        await asyncio.sleep(0.1)
        return []


def test_polling_counts_and_starves_no_cancel() -> None:
    """Each request of the polling takes a slot, a third of them at most; a cancel leaves at once beside it."""
    exchange, symbols, waits = ListedExchange(), ("BTC/USDT", "ETH/USDT"), []
    settings = CcxtSettings("binance", SecretStr("k"), SecretStr("s"), symbols, poll_s=0.01)

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        gate = Gate("binance", order_limits(60, 60.0), clock=clock)
        broker = CcxtBroker(settings, clock=lambda: datetime.now(UTC), exchange=exchange, gate=gate)
        listening = asyncio.ensure_future(anext(broker.reports()))
        looks = [asyncio.ensure_future(broker.open_orders()) for _ in range(60)]
        for _ in range(20):
            await asyncio.sleep(15.0)
            asked_at = clock()
            await broker.cancel("kh1", "BTC/USDT")
            waits.append(clock() - asked_at)
        await asyncio.gather(listening, *looks)
        await broker.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    times = [moment for moment, _ in exchange.arrived]
    assert all(later - first >= 60.0 - 1e-9 for first, later in zip(times, times[60:], strict=False))
    assert max(waits) < 0.2
    polled = Counter(int(moment // 60) for moment, name in exchange.arrived if name == "trades")
    assert max(polled.values()) <= 20 / 2 + 2
    assert sum(polled.values()) >= 10
