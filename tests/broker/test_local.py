"""The adapter of the local market against the real thing over loopback, with replies that go astray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from msgspec import structs
from pydantic import SecretStr

from tasks.broker.evidence import Answer
from tasks.broker.local import LocalBroker, LocalSettings
from tasks.broker.port import (
    BrokerFill,
    BrokerOrder,
    Connected,
    DefiniteRejection,
    Disconnected,
    NotSentError,
    OutcomeUnknownError,
    Report,
)
from tasks.errors import ConfigurationError, ProtocolError, TransientError
from tasks.orders.guarantees import IdempotencyClass
from tasks.orders.order import Status, TimeInForce
from tasks.simulator.orderfaults import OrderFaults
from tasks.simulator.server import Simulator
from tests.broker.contract import LONG_AGO, BrokerContract, Rig, assert_secret_free

D = Decimal


def now() -> datetime:
    """Return the wall clock."""
    return datetime.now(UTC)


def settings(sim: Simulator, grade: IdempotencyClass = IdempotencyClass.A, **changes: object) -> LocalSettings:
    """Return the settings of the running market."""
    return replace(LocalSettings(sim.url, SecretStr(sim.api_key), grade), **changes)


def rig_of(broker: LocalBroker, sim: Simulator) -> Rig:
    """Return a rig around a broker of the market."""

    async def trade() -> None:
        await asyncio.sleep(0)

    @contextmanager
    def lost_replies() -> Iterator[None]:
        before, sim.order_faults = sim.order_faults, replace(sim.order_faults, lost_reply_p=1.0)
        yield
        sim.order_faults = before

    return Rig(broker, "BTCUSDT", D("0.01"), D(30), D("28506.8"), D(100_000), D(100), trade, lost_replies, sim.api_key)


class TestClassA(BrokerContract):
    """Ids unique for ever."""

    @pytest.fixture
    async def rig(self, sim: Simulator) -> AsyncIterator[Rig]:
        """The market as it is by default."""
        broker = LocalBroker(settings(sim), clock=now)
        yield rig_of(broker, sim)
        await broker.close()


class TestClassB(BrokerContract):
    """Ids unique among open orders."""

    @pytest.fixture
    async def rig(self, sim: Simulator) -> AsyncIterator[Rig]:
        """A market that forgets ids once their order has ended."""
        sim.order_faults = OrderFaults(uniqueness="open")
        broker = LocalBroker(settings(sim, IdempotencyClass.B), clock=now)
        yield rig_of(broker, sim)
        await broker.close()


@pytest.fixture
async def rig(sim: Simulator) -> AsyncIterator[Rig]:
    """A class A broker that waits for answers for as long as a busy machine takes."""
    broker = LocalBroker(settings(sim, timeout_s=30.0), clock=now)
    yield rig_of(broker, sim)
    await broker.close()


@pytest.mark.parametrize(
    "fault", ["lost_reply_p", "error_after_p", "throttle_after_p", "reset_body_p", "late_reply_p", "error_before_p"]
)
async def test_replies_that_go_astray_leave_doubt(rig: Rig, sim: Simulator, fault: str) -> None:
    """Whatever happens to the reply, the order is in doubt, and a query tells what became of it."""
    sim.order_faults = OrderFaults(**{fault: 1.0}, late_reply_s=60.0)
    request, hasty = rig.resting(fault), LocalBroker(settings(sim, timeout_s=1.5), clock=now)
    sender = rig_of(hasty, sim) if fault == "late_reply_p" else rig
    with pytest.raises(OutcomeUnknownError) as caught:
        await sender.submit(request)
    assert_secret_free(caught.value, rig.secret)
    await hasty.close()
    found = await rig.broker.query(request.client_order_id, rig.symbol)
    assert (found is None) == (fault == "error_before_p")


async def test_a_cancel_whose_reply_is_lost_can_be_repeated(rig: Rig, sim: Simulator) -> None:
    """An unknown cancel is asked again, and the second answer says the order is not open any more."""
    request = rig.resting("cancel")
    await rig.submit(request)
    with rig.lost_replies(), pytest.raises((OutcomeUnknownError, DefiniteRejection)):
        await rig.broker.cancel(request.client_order_id, rig.symbol)
    with pytest.raises(DefiniteRejection):
        await rig.broker.cancel(request.client_order_id, rig.symbol)


async def test_a_market_that_is_not_there_was_sent_nothing() -> None:
    """Where no connection comes about nothing was sent; questions fail for now."""
    broker = LocalBroker(LocalSettings("http://127.0.0.1:9", SecretStr("canary-key")), clock=now)
    rig = Rig(broker, "BTCUSDT", D(1), D(1), D(1), D(1), D(1), asyncio.Event().wait, contextmanager(iter), "canary-key")
    with pytest.raises(NotSentError) as caught:
        await rig.submit(rig.market("nowhere"))
    assert_secret_free(caught.value, "canary-key")
    with pytest.raises(TransientError) as asked:
        await broker.account()
    assert_secret_free(asked.value, "canary-key")
    await broker.close()


async def test_a_deadline_that_has_passed_is_not_sent(rig: Rig, sim: Simulator) -> None:
    """An order older than its own deadline is kept back; nothing reaches the market."""
    with pytest.raises(NotSentError, match="deadline"):
        await rig.broker.submit(rig.resting("old"), now() - timedelta(seconds=6))
    assert sim.requests.total() == 0


async def test_a_ghost_dies_at_the_deadline(sim: Simulator) -> None:
    """A request that the gateway holds beyond the deadline takes no effect and leaves doubt, not a rejection."""
    sim.order_faults = OrderFaults(ghost_p=1.0, ghost_s=3.0)
    broker = LocalBroker(settings(sim, deadline_s=0.001, timeout_s=5.0), clock=now)
    rig = rig_of(broker, sim)
    with pytest.raises((OutcomeUnknownError, NotSentError)):
        await rig.submit(rig.resting("ghost"))
    assert await broker.query(rig.resting("ghost").client_order_id, rig.symbol) is None
    await broker.close()


async def test_a_day_order_is_not_sent(rig: Rig) -> None:
    """What the market does not know is kept back."""
    with pytest.raises(NotSentError, match="gtc, ioc or fok"):
        await rig.submit(structs.replace(rig.resting("day"), time_in_force=TimeInForce.DAY))


async def test_a_wrong_key_is_a_matter_of_configuration(sim: Simulator) -> None:
    """Questions under a wrong key ask for a person, orders under it are rejected for sure; the key is never shown."""
    broker = LocalBroker(replace(settings(sim), key=SecretStr("canary-key")), clock=now)
    rig = rig_of(broker, sim)
    with pytest.raises(ConfigurationError) as caught:
        await broker.open_orders()
    assert_secret_free(caught.value, "canary-key")
    with pytest.raises(DefiniteRejection) as refused:
        await rig.submit(rig.resting("key"))
    assert_secret_free(refused.value, "canary-key")
    await broker.close()


async def _next(reports: AsyncIterator[Report]) -> Report:
    return await asyncio.wait_for(anext(reports), 30)


@pytest.mark.parametrize("ending", ["rst", "fin", "close"])
async def test_the_stream_comes_back(rig: Rig, sim: Simulator, ending: str) -> None:
    """A break is told, the next connection too, and what happens then is heard."""
    reports = rig.broker.reports()
    assert await _next(reports) == Connected()
    sim.strike(ending, private=True)
    broke = await _next(reports)
    assert isinstance(broke, Disconnected)
    assert rig.secret not in broke.reason
    assert await _next(reports) == Connected()
    await rig.submit(rig.resting(f"after {ending}"))
    heard = await _next(reports)
    assert isinstance(heard, BrokerOrder)
    assert heard.status is Status.ACCEPTED


async def test_fills_are_heard_twice_and_late_as_they_come(rig: Rig, sim: Simulator) -> None:
    """Duplicates and reordering are handed on: counting once is the order's business, not the adapter's."""
    sim.order_faults = OrderFaults(duplicate_fill_p=1.0, late_ack_p=1.0)
    reports = rig.broker.reports()
    assert await _next(reports) == Connected()
    await rig.submit(rig.market("doubled"))
    first, second = await _next(reports), await _next(reports)
    assert isinstance(first, BrokerFill)
    assert first == second
    (told,) = await rig.broker.fills(LONG_AGO)
    assert told == first


@pytest.mark.parametrize("data", [None, 7, {"balances": [{"total": "NaN", "available": "1"}], "positions": []}])
async def test_answers_of_another_shape_break_the_protocol(sim: Simulator, data: object) -> None:
    """An answer that is whole and holds something else is no error of Python's: the desk would end over it."""
    broker = LocalBroker(settings(sim), clock=now)

    async def answers(*_: object, **__: object) -> Answer:
        return Answer(200, 0, "", data)

    broker._request = answers  # type: ignore[method-assign]
    for question in (broker.open_orders(), broker.fills(LONG_AGO), broker.account(), broker.query("kh1", "BTCUSDT")):
        with pytest.raises(ProtocolError):
            await question
