"""What every broker has to keep, whoever it is. A broker's test file subclasses `BrokerContract` and gives it a rig."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from tasks.broker.port import (
    Broker,
    BrokerFill,
    BrokerOrder,
    Connected,
    DefiniteRejection,
    NotSentError,
    OutcomeUnknownError,
    Recorded,
    on_disk,
)
from tasks.errors import DataError, KlinehouseError, TransientError
from tasks.orders.guarantees import IdempotencyClass
from tasks.orders.identity import client_order_id
from tasks.orders.order import TERMINAL, OrderRequest, OrderType, Side, Status, TimeInForce

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Rig:
    """A broker with a market around it.

    Attributes:
        broker: Under test.
        symbol: Something it trades.
        lot: A quantity that the book fills at once.
        too_much: More than the book shows at `deep_price` or better, and still affordable.
        deep_price: A limit that a buy fills at in part.
        unaffordable: More than the account can pay.
        resting_price: A limit so low that a buy rests.
        trade: Lets the market meet what is there.
        lost_replies: While inside, what the broker does stays unknown to the adapter.
        secret: What no error may ever show.
    """

    broker: Broker
    symbol: str
    lot: Decimal
    too_much: Decimal
    deep_price: Decimal
    unaffordable: Decimal
    resting_price: Decimal
    trade: Callable[[], Awaitable[None]]
    lost_replies: Callable[[], AbstractContextManager[None]]
    secret: str = "no secret at all"  # noqa: S105  (a broker without one)

    def market(self, name: str, quantity: Decimal | None = None, side: Side = Side.BUY) -> OrderRequest:
        """Return a market order whose id follows from its name."""
        identifier = client_order_id("test", "contract", name)
        return OrderRequest(identifier, "test", self.symbol, side, quantity or self.lot, time_in_force=TimeInForce.IOC)

    def resting(self, name: str) -> OrderRequest:
        """Return a limit buy that rests."""
        request = self.market(name)
        return replace(
            request,
            order_type=OrderType.LIMIT,
            limit_price=self.resting_price,
            time_in_force=TimeInForce.GTC,
        )

    async def submit(self, request: OrderRequest, recorded: Recorded = on_disk) -> BrokerOrder:
        """Submit now."""
        return await self.broker.submit(request, datetime.now(UTC), recorded)

    async def ended(self, request: OrderRequest) -> BrokerOrder:
        """Return an order once it has ended."""
        for _ in range(100):
            await self.trade()
            found = await self.broker.query(request.client_order_id, request.symbol)
            if found is not None and found.status in TERMINAL:
                return found
        raise AssertionError(f"{request.client_order_id} did not end: {found}")

    async def fills_of(self, request: OrderRequest) -> list[BrokerFill]:
        """Return an order's fills."""
        fills = await self.broker.fills(LONG_AGO)
        return [one for one in fills if one.client_order_id == request.client_order_id]


class BrokerContract:
    """The promises of `tasks.broker.port.Broker`."""

    @pytest.fixture
    async def rig(self) -> Rig:
        """Give a fresh account; each broker's test file fills this in."""
        raise NotImplementedError

    def test_it_is_never_live_in_tests(self, rig: Rig) -> None:
        """A broker made for a test says that no real money moves, and what it guarantees."""
        assert rig.broker.is_live is False
        assert rig.broker.profile.lag_s >= 0
        assert rig.broker.profile.max_id_length >= len(rig.market("any").client_order_id)

    async def test_a_market_order_fills(self, rig: Rig) -> None:
        """An affordable market order fills in whole; its fills sum up to it, and the position is theirs."""
        request = rig.market("fills")
        before = (await rig.broker.account()).positions.get(rig.symbol, Decimal(0))
        placed = await rig.submit(request)
        order, fills = await rig.ended(request), await rig.fills_of(request)
        assert placed.client_order_id == request.client_order_id
        assert placed.broker_order_id == order.broker_order_id
        assert (order.status, order.filled_quantity, order.quantity) == (Status.FILLED, rig.lot, rig.lot)
        assert sum(one.fill.quantity for one in fills) == rig.lot
        assert all(one.side is Side.BUY and one.fill.price > 0 and one.symbol == rig.symbol for one in fills)
        after = (await rig.broker.account()).positions[rig.symbol]
        assert after - before == rig.lot

    async def test_a_round_trip_leaves_no_position(self, rig: Rig) -> None:
        """What was bought and sold again is no position, and fees make the account poorer."""
        first, equity = rig.market("in"), (await rig.broker.account()).equity
        await rig.submit(first)
        await rig.ended(first)
        second = rig.market("out", side=Side.SELL)
        await rig.submit(second)
        await rig.ended(second)
        account = await rig.broker.account()
        assert rig.symbol not in account.positions
        assert account.equity < equity

    async def test_nothing_leaves_before_the_intent_is_on_disk(self, rig: Rig) -> None:
        """However far the request is prepared, the broker knows nothing of it before, and has it after."""
        waited_for, written, request = asyncio.Event(), asyncio.Event(), rig.resting("held")

        async def recorded() -> None:
            waited_for.set()
            await written.wait()

        placing = asyncio.create_task(rig.submit(request, recorded))
        await asyncio.wait_for(waited_for.wait(), _PATIENCE_S)
        for _ in range(3):  # each a way to the broker and back: time enough for a byte that does not wait
            assert await rig.broker.query(request.client_order_id, rig.symbol) is None
        assert await rig.broker.open_orders() == []
        written.set()
        assert (await asyncio.wait_for(placing, _PATIENCE_S)).status is Status.ACCEPTED
        assert [one.client_order_id for one in await rig.broker.open_orders()] == [request.client_order_id]

    async def test_nothing_leaves_where_the_intent_never_is_on_disk(self, rig: Rig) -> None:
        """A disk that fails while the request is prepared ends it; the broker never hears of the order."""
        request = rig.resting("lost")

        async def recorded() -> None:
            raise DataError("the disk took nothing")

        with pytest.raises(KlinehouseError):
            await rig.submit(request, recorded)
        assert await rig.broker.query(request.client_order_id, rig.symbol) is None
        assert await rig.broker.open_orders() == []

    async def test_what_must_not_leave_any_more_was_not_sent(self, rig: Rig) -> None:
        """Cancelled before its first byte left, an order was not sent: that is certain, and no doubt."""

        async def recorded() -> None:
            raise NotSentError("cancelled meanwhile")

        request = rig.resting("withdrawn")
        with pytest.raises(NotSentError, match="cancelled meanwhile"):
            await rig.submit(request, recorded)
        assert await rig.broker.query(request.client_order_id, rig.symbol) is None

    async def test_reports_tell_every_fill(self, rig: Rig) -> None:
        """Whoever listened before the order was placed hears its fills, each with its own trade id, and its end."""
        reports = rig.broker.reports()
        assert isinstance(await asyncio.wait_for(anext(reports), _PATIENCE_S), Connected)
        request, fills, statuses = rig.market("heard"), [], []
        await rig.submit(request)
        await rig.trade()
        while Status.FILLED not in statuses or sum(one.fill.quantity for one in fills) < rig.lot:
            report = await asyncio.wait_for(anext(reports), _PATIENCE_S)
            if isinstance(report, BrokerFill):
                fills.append(report)
            elif isinstance(report, BrokerOrder):
                statuses.append(report.status)
        assert {one.fill.trade_id for one in fills} == {one.fill.trade_id for one in await rig.fills_of(request)}
        assert sum(one.fill.quantity for one in fills) == rig.lot

    async def test_a_resting_order_is_open_until_canceled(self, rig: Rig) -> None:
        """A resting order is listed as open, can be cancelled once, under its own id, and is found afterwards."""
        request = rig.resting("rests")
        await rig.submit(request)
        assert [one.client_order_id for one in await rig.broker.open_orders()] == [request.client_order_id]
        found = await rig.broker.query(request.client_order_id, rig.symbol)
        assert found is not None
        assert (found.status, found.filled_quantity) == (Status.ACCEPTED, 0)
        gone = await rig.broker.cancel(request.client_order_id, rig.symbol)
        assert (gone.client_order_id, gone.status) == (request.client_order_id, Status.CANCELED)
        assert await rig.broker.open_orders() == []
        assert (await rig.ended(request)).status is Status.CANCELED
        with pytest.raises(DefiniteRejection):
            await rig.broker.cancel(request.client_order_id, rig.symbol)

    async def test_more_than_the_book_shows_fills_in_part(self, rig: Rig) -> None:
        """What the book does not hold stays unfilled; the snapshot's filled quantity is the sum of the fills."""
        request = replace(rig.market("deep", rig.too_much), order_type=OrderType.LIMIT, limit_price=rig.deep_price)
        await rig.submit(request)
        order, fills = await rig.ended(request), await rig.fills_of(request)
        assert order.status in (Status.EXPIRED, Status.CANCELED)
        assert 0 < order.filled_quantity < rig.too_much
        assert sum(one.fill.quantity for one in fills) == order.filled_quantity
        assert len({one.fill.trade_id for one in fills}) == len(fills)

    async def test_what_cannot_be_paid_is_rejected_for_sure(self, rig: Rig) -> None:
        """An order beyond the account's cash is refused on positive evidence, and nothing fills."""
        request = replace(rig.resting("dear"), quantity=rig.unaffordable)
        with pytest.raises(DefiniteRejection):
            await rig.submit(request)
        assert await rig.fills_of(request) == []
        assert await rig.broker.open_orders() == []

    async def test_an_unknown_id_is_not_found(self, rig: Rig) -> None:
        """A query for an order that never was gives None, a cancel of it is refused."""
        identifier = client_order_id("test", "contract", "never")
        assert await rig.broker.query(identifier, rig.symbol) is None
        with pytest.raises(DefiniteRejection):
            await rig.broker.cancel(identifier, rig.symbol)

    async def test_the_same_id_twice_while_open_is_one_order(self, rig: Rig) -> None:
        """Every broker that declares class A or B keeps ids apart among open orders."""
        if not rig.broker.profile.may_resend:
            pytest.skip("ids are not unique here, by its own declaration")
        request = rig.resting("twice")
        first = await rig.submit(request)
        again = await rig.submit(request)
        assert again.broker_order_id == first.broker_order_id
        assert len(await rig.broker.open_orders()) == 1
        await rig.broker.cancel(request.client_order_id, rig.symbol)

    async def test_the_same_id_after_the_end_is_the_same_order(self, rig: Rig) -> None:
        """Class A keeps ids apart for ever: an order that has filled is answered, not placed again."""
        if rig.broker.profile.grade is not IdempotencyClass.A:
            pytest.skip("ids are unique among open orders at most, by its own declaration")
        request = rig.market("for ever")
        first = await rig.submit(request)
        await rig.ended(request)
        again = await rig.submit(request)
        assert again.broker_order_id == first.broker_order_id
        assert sum(one.fill.quantity for one in await rig.fills_of(request)) == rig.lot

    async def test_many_at_once_are_one_order(self, rig: Rig) -> None:
        """The same request sent five times at the same moment is one order, and nobody hears a rejection."""
        if not rig.broker.profile.may_resend:
            pytest.skip("ids are not unique here, by its own declaration")
        request = rig.resting("at once")
        answers = await asyncio.gather(*(rig.submit(request) for _ in range(5)))
        assert len({one.broker_order_id for one in answers}) == 1
        assert len(await rig.broker.open_orders()) == 1

    async def test_a_dead_mans_orders_are_cancelled(self, rig: Rig) -> None:
        """Where a broker declares the switch, an order ends once nobody calls in time, and not while somebody does."""
        if not rig.broker.features.dead_man:
            with pytest.raises(TransientError, match="no such switch"):
                await rig.broker.cancel_all_after(60.0)
            return
        request = rig.resting("left behind")
        await rig.submit(request)
        await rig.broker.cancel_all_after(1.0)
        await rig.broker.cancel_all_after(0.0)
        await rig.broker.cancel_all_after(60.0)
        await asyncio.sleep(1.1)  # the first call's time has come, and went
        assert len(await rig.broker.open_orders()) == 1
        await rig.broker.cancel_all_after(0.05)
        async with asyncio.timeout(_PATIENCE_S):
            while await rig.broker.open_orders():  # noqa: ASYNC110  (the market does it, not we)
                await asyncio.sleep(0.02)
        assert (await rig.ended(request)).status is Status.CANCELED

    async def test_a_market_order_with_a_price_takes_what_is_there(self, rig: Rig) -> None:
        """Where a broker declares it, an immediate limit order fills up to its price and never rests."""
        if not rig.broker.features.immediate_limits:
            pytest.skip("no immediate limit orders here, by its own declaration")
        request = replace(rig.resting("too low"), time_in_force=TimeInForce.IOC)
        await rig.submit(request)
        ended = await rig.ended(request)
        assert (ended.status in (Status.EXPIRED, Status.CANCELED), ended.filled_quantity) == (True, 0)
        assert await rig.broker.open_orders() == []

    async def test_fills_are_told_from_a_moment_on(self, rig: Rig) -> None:
        """`fills(since)` leaves out what is older, and keeps what happened at that very moment."""
        request = rig.market("dated")
        await rig.submit(request)
        await rig.ended(request)
        (first, *_) = await rig.fills_of(request)
        at = first.fill.timestamp
        assert first.fill.trade_id in {one.fill.trade_id for one in await rig.broker.fills(at)}
        assert await rig.broker.fills(at + timedelta(days=1)) == []

    async def test_a_lost_reply_is_no_rejection(self, rig: Rig) -> None:
        """Where the reply is lost the outcome is unknown, whatever it was, and the error shows no secret."""
        request = rig.resting("lost")
        with rig.lost_replies(), pytest.raises((OutcomeUnknownError, NotSentError)) as caught:
            await rig.submit(request)
        assert_secret_free(caught.value, rig.secret)


def assert_secret_free(error: BaseException, secret: str) -> None:
    """Follow an error to its first cause: none may show the secret."""
    seen: BaseException | None = error
    assert isinstance(error, KlinehouseError)
    while seen is not None:
        assert secret not in str(seen)
        assert secret not in repr(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
