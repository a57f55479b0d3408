"""The rate limit of orders: exact over every rolling window, cancels first, silence after a 429."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any, cast

import pytest

from tasks.broker.metered import MeteredBroker, order_limits
from tasks.broker.port import Broker, Features, NotSentError, ThrottledError
from tasks.errors import RateLimitedError
from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile
from tasks.orders.order import OrderRequest, Side

NOW = datetime(2026, 1, 1, tzinfo=UTC)
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

    name, is_live = "exchange", False
    features = Features()
    profile = IdempotencyProfile(IdempotencyClass.A, deadline_s=5, lag_s=0)

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.arrived: list[tuple[float, str]] = []
        self.angry_until, self.travel_s = 0.0, 0.2

    async def _take(self, name: str) -> None:
        await asyncio.sleep(self._rng.uniform(0, self.travel_s))
        self.arrived.append((asyncio.get_running_loop().time(), name))
        await asyncio.sleep(self._rng.uniform(0, self.travel_s))
        if asyncio.get_running_loop().time() < self.angry_until:
            raise ThrottledError("429")

    async def submit(self, request: OrderRequest, sent_at: datetime) -> None:
        """Take an order."""
        await self._take("submit")

    async def cancel(self, client_order_id: str, symbol: str) -> None:
        """Take a cancel."""
        await self._take("cancel")

    async def open_orders(self) -> None:
        """Take a look."""
        await self._take("look")


def run(scenario: Callable[[MeteredBroker, Exchange], Awaitable[Any]], seed: int = 1) -> Exchange:
    """Run a scenario in virtual time and return the exchange."""
    exchange = Exchange(Random(seed))

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        await scenario(MeteredBroker(cast("Broker", exchange), order_limits(LIMIT, WINDOW_S), clock=clock), exchange)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    return exchange


def order(*, reduce_only: bool = False) -> OrderRequest:
    """Return an order."""
    return OrderRequest("o", "a", "S", Side.BUY, Decimal(1), reduce_only=reduce_only)


async def anything(broker: MeteredBroker, rng: Random) -> None:
    """Ask for one thing or another at a random moment."""
    await asyncio.sleep(rng.uniform(0, 20))
    asked = rng.choice([lambda: broker.submit(order(), NOW), lambda: broker.cancel("o", "S"), broker.open_orders])
    try:
        await asked()
    except (NotSentError, RateLimitedError):
        return


@pytest.mark.parametrize("seed", range(5))
def test_no_rolling_window_holds_more_than_the_limit(seed: int) -> None:
    """Whatever is asked when, and however long requests travel, the exchange never counts more than it allows."""

    async def crowd(broker: MeteredBroker, exchange: Exchange) -> None:
        rng = Random(seed)
        await asyncio.gather(*(anything(broker, rng) for _ in range(400)))

    times = [moment for moment, _ in run(crowd, seed).arrived]
    assert len(times) > 150
    assert all(later - first >= WINDOW_S - 1e-9 for first, later in zip(times, times[LIMIT:], strict=False))


def test_a_cancel_does_not_wait_behind_entries() -> None:
    """While entries and looks fill the limit and a crowd waits, a cancel leaves at once: a reserve is kept for it."""
    waits: list[float] = []

    async def storm(broker: MeteredBroker, exchange: Exchange) -> None:
        clock = asyncio.get_running_loop().time
        looks = [asyncio.ensure_future(broker.open_orders()) for _ in range(90)]
        for _ in range(8):
            await asyncio.sleep(1.0)
            asked_at = clock()
            await broker.cancel("o", "S")
            waits.append(clock() - asked_at)
        for look in looks:
            look.cancel()

    run(storm)
    assert max(waits) <= 0.4 + WINDOW_S / LIMIT  # two ways of at most 0.2 s, and less than one slot


def test_cancels_overtake_whoever_waits() -> None:
    """Where even the reserve is used up, the next slot is a cancel's."""

    async def storm(broker: MeteredBroker, exchange: Exchange) -> None:
        exchange.travel_s = 0.0
        cancels = [asyncio.ensure_future(broker.cancel("o", "S")) for _ in range(LIMIT)]
        await asyncio.sleep(0.1)
        looks = [asyncio.ensure_future(broker.open_orders()) for _ in range(5)]
        await asyncio.sleep(0.1)
        cancels += [asyncio.ensure_future(broker.cancel("o", "S")) for _ in range(LIMIT)]
        await asyncio.gather(*cancels, *looks)

    names = [name for _, name in run(storm).arrived]
    assert names == ["cancel"] * 2 * LIMIT + ["look"] * 5


def test_nothing_is_sent_while_the_exchange_is_angry() -> None:
    """After a 429 two hundred tasks send nothing before the penalty is over, and a second 429 doubles it."""

    async def storm(broker: MeteredBroker, exchange: Exchange) -> None:
        exchange.angry_until = 6.0
        with pytest.raises(ThrottledError):
            await broker.cancel("o", "S")
        await asyncio.gather(*(broker.cancel("o", "S") for _ in range(200)), return_exceptions=True)

    times = [moment for moment, _ in run(storm).arrived]
    silent = [later - first for first, later in pairwise(times) if later - first > 2 * WINDOW_S]
    assert len(times) == 201
    assert silent[0] >= 4.8
    assert silent[1] >= 9.5


def test_an_entry_that_waited_too_long_was_not_sent() -> None:
    """An entry whose turn does not come in two seconds would meet an old price: proved unsent, to be decided anew."""

    async def storm(broker: MeteredBroker, exchange: Exchange) -> None:
        exchange.angry_until = 1.0
        with pytest.raises(ThrottledError):
            await broker.submit(order(), NOW)
        with pytest.raises(NotSentError, match="limits us"):
            await broker.submit(order(), NOW)
        with pytest.raises(NotSentError, match="limits us"):
            await broker.submit(order(reduce_only=True), NOW)

    assert len(run(storm).arrived) == 1


def test_a_queue_that_only_grows_is_refused() -> None:
    """More than a hundred waiting questions are answered at once that it is no use; cancels still get in line."""

    async def storm(broker: MeteredBroker, exchange: Exchange) -> None:
        looks = [asyncio.ensure_future(broker.open_orders()) for _ in range(130)]
        await asyncio.sleep(0.01)
        refused = [look for look in looks if look.done() and isinstance(look.exception(), RateLimitedError)]
        assert len(refused) == 130 - 100 - (LIMIT - 2)
        await broker.cancel("o", "S")
        for look in looks:
            look.cancel()

    run(storm)
