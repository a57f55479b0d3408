"""The order desk on paper: nothing is placed twice, nothing is lost, and whatever looks wrong stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs

from tasks.broker.port import Features
from tasks.errors import InputError
from tasks.journal.entries import Kind
from tasks.orders.account import Limits, Market, TradingState
from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile
from tasks.orders.order import OrderType, Side, Status
from tests.flows.trading_rig import LIMITS, QUICK, SYMBOL, FaultyBroker, Rig, market_at, now, proposal, trading


async def bought(rig: Rig, number: int = 1) -> str:
    """Have one unit bought at the market."""
    await rig.until_state(TradingState.ACTIVE)
    identifier = rig.desk.propose(proposal(number))
    await rig.until_status(identifier, Status.FILLED)
    return identifier


async def unanswered(rig: Rig) -> str:
    """Have an order filled that nobody tells of: the reply is lost, and no question is answered."""
    rig.broker.hidden.add(proposal().request("paper").client_order_id)  # a comparison may be under way
    rig.broker.released = asyncio.Event()
    identifier = rig.desk.propose(proposal())
    await rig.until_status(identifier, Status.SUBMITTING)
    rig.broker.lose_replies = rig.broker.mute = rig.broker.down = True
    rig.broker.released.set()
    await rig.until_status(identifier, Status.IN_DOUBT)
    return identifier


async def resting(rig: Rig, number: int = 1) -> str:
    """Have an order wait at 99."""
    await rig.until_state(TradingState.ACTIVE)
    identifier = rig.desk.propose(proposal(number, limit=99))
    await rig.until_status(identifier, Status.ACCEPTED)
    return identifier


async def test_an_order_is_journaled_before_it_is_sent(tmp_path: Path) -> None:
    """Signal, order, verdict and intent stand before the reply; the fill makes the position."""
    async with trading(tmp_path) as rig:
        identifier = await bought(rig)
        assert rig.kinds(identifier)[:4] == ["signal", "created", "risk", "event"]
        assert rig.journal.state.positions == {("paper", SYMBOL): Decimal(1)}
        assert rig.broker.submits == [identifier]


async def test_the_same_signal_is_the_same_order(tmp_path: Path) -> None:
    """Proposed twice, and again after a restart, a signal is one order."""
    async with trading(tmp_path) as rig:
        identifier = await bought(rig)
        assert rig.desk.propose(proposal(1)) == identifier
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.desk.propose(proposal(1))
        await bought(rig, 2)
        assert rig.broker.submits == [rig.desk.propose(proposal(2))]
        assert rig.journal.state.positions == {("paper", SYMBOL): Decimal(2)}


async def test_a_rehearsal_leaves_nothing_behind(tmp_path: Path) -> None:
    """However often an order's way is gone without one: no line, no order, no signal taken, no rate used up."""
    looks, known = [0], market_at()

    def market(symbol: str) -> Market:
        looks[0] += 1
        return known(symbol)

    pace, limits = replace(QUICK, tick_s=60.0, reconcile_s=60.0, rehearse_s=0.001), replace(LIMITS, orders_per_minute=2)
    async with trading(tmp_path, market=market, pace=pace, limits=limits) as rig:
        identifier = await bought(rig)
        await rig.until(lambda: rig.desk._core.is_idle, "nothing waits")
        lines, before = rig.kinds(), looks[0]
        await rig.until(lambda: looks[0] > before + 20, "it is rehearsed")
        assert rig.kinds() == lines
        assert list(rig.journal.state.orders) == [identifier]
        await bought(rig, 2)
        assert len(rig.broker.submits) == 2


async def test_a_rejection_is_final(tmp_path: Path) -> None:
    """What the broker refuses in so many words is rejected, and not sent again."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.broker.paper.halt(SYMBOL)
        identifier = rig.desk.propose(proposal())
        await rig.until_status(identifier, Status.REJECTED)
        assert "halted" in rig.order(identifier).reason
        assert rig.broker.submits == [identifier]


async def test_a_denial_is_journaled_with_its_reason(tmp_path: Path) -> None:
    """An order that risk refuses never reaches the broker; the line says which control and what it saw."""
    async with trading(tmp_path, market=market_at(None)) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.desk.propose(proposal())
        await rig.until_status(identifier, Status.DENIED)
        verdict = next(body["verdict"] for body in rig.bodies(Kind.RISK) if "verdict" in body)
        assert verdict["refused_by"] == "data_quality"
        assert "reference price" in rig.order(identifier).reason
        assert rig.broker.submits == []


async def test_nonsense_is_the_callers_error(tmp_path: Path) -> None:
    """An order no broker could take is refused where it is asked for."""
    async with trading(tmp_path) as rig:
        with pytest.raises(InputError, match="quantity above 0"):
            rig.desk.propose(proposal(quantity="0"))


async def test_a_lost_reply_is_doubt_and_then_the_truth(tmp_path: Path) -> None:
    """An order whose reply was lost is in doubt, never rejected; the query finds it, and it is sent once."""

    def lossy(broker: FaultyBroker) -> None:
        broker.lose_replies = broker.mute = True

    async with trading(tmp_path, prepare=lossy) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.desk.propose(proposal())
        await rig.until_status(identifier, Status.FILLED)
        said = [line.body().kind.value for line in rig.journal.lines(identifier) if line.kind == Kind.EVENT]
        assert "outcome_unknown" in said
        assert "rejected" not in said
        assert rig.broker.submits == [identifier]


async def test_what_never_arrived_is_sent_again_under_its_id(tmp_path: Path) -> None:
    """An order that the broker never got is sent again, under the same id, and the journal says why."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.broker.swallow = True
        identifier = rig.desk.propose(proposal())
        await rig.until_status(identifier, Status.IN_DOUBT)
        rig.broker.swallow = False
        await rig.until_status(identifier, Status.FILLED)
        assert set(rig.broker.submits) == {identifier}
        assert "send" in rig.kinds(identifier)
        assert rig.journal.state.positions == {("paper", SYMBOL): Decimal(1)}


def bounded(deadline_s: float) -> Callable[[FaultyBroker], None]:
    """Let requests live for so long."""

    def prepare(broker: FaultyBroker) -> None:
        broker.profile = IdempotencyProfile(IdempotencyClass.A, deadline_s=deadline_s, lag_s=0.0)

    return prepare


async def refused_again(rig: Rig) -> str:
    """Return an order whose first request is on its way somewhere, and whose second one was refused."""
    await rig.until_state(TradingState.ACTIVE)
    rig.broker.swallow = True
    identifier = rig.desk.propose(proposal())
    rig.broker.refuse_again = "no funds"
    await rig.until(lambda: "refused_again" in str(rig.bodies(Kind.REPLY)), "sending it again is refused")
    return identifier


async def test_a_refusal_of_the_second_request_says_nothing_of_the_first(tmp_path: Path) -> None:
    """The first request arrives after the second was refused: its fill is an order's in doubt, not a rejected one's."""
    async with trading(tmp_path, prepare=bounded(60)) as rig:
        identifier = await refused_again(rig)
        assert rig.status(identifier) is Status.IN_DOUBT
        await rig.broker.paper.submit(rig.order(identifier).request, now())  # the ghost comes out of the gateway
        await rig.until_status(identifier, Status.FILLED)
        assert "resurrected" not in rig.order(identifier).flags
        assert rig.broker.submits == [identifier, identifier]


async def test_a_refused_order_is_rejected_once_its_first_request_is_dead(tmp_path: Path) -> None:
    """Also across a restart the refusal is known: nothing is sent a third time, and the broker's words are kept."""
    async with trading(tmp_path, prepare=bounded(1)) as rig:
        identifier = await refused_again(rig)
        assert rig.status(identifier) is Status.IN_DOUBT
        rig.desk._core.doubts[identifier].given_up = True  # so that the end does not wait for its fate
    async with trading(tmp_path, prepare=bounded(1)) as rig:
        await rig.until_status(identifier, Status.REJECTED)
        assert "no funds" in rig.order(identifier).reason
        assert rig.broker.submits == []
        first = next(line for line in rig.journal.lines(identifier) if line.kind == Kind.CREATED)
        last = list(rig.journal.lines(identifier))[-1]
        assert last.wall_ns - first.wall_ns >= 1e9


async def test_a_silent_broker_keeps_doubt(tmp_path: Path) -> None:
    """While nobody answers, an order stays in doubt, is not sent again, and blocks its symbol."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        doubtful = await unanswered(rig)
        blocked = rig.desk.propose(proposal(2))
        await rig.until_status(blocked, Status.DENIED)
        assert rig.status(doubtful) is Status.IN_DOUBT
        rig.broker.hidden.clear()
        rig.broker.down = False
        await rig.until_status(doubtful, Status.FILLED)
        assert rig.broker.submits == [doubtful]


async def test_fills_the_stream_lost_are_fetched(tmp_path: Path) -> None:
    """A snapshot that speaks of fills nobody told makes the desk ask for them."""
    async with trading(tmp_path, prepare=lambda broker: setattr(broker, "mute", True)) as rig:
        identifier = await resting(rig)
        rig.broker.paper.on_trade(SYMBOL, 98, 5, now())
        await rig.until_status(identifier, Status.FILLED)
        assert rig.journal.state.positions == {("paper", SYMBOL): Decimal(1)}


async def test_a_cancel_ends_an_order(tmp_path: Path) -> None:
    """A cancelled order ends, after exactly one request to the broker."""
    async with trading(tmp_path) as rig:
        identifier = await resting(rig)
        rig.desk.cancel(identifier)
        rig.desk.cancel(identifier)
        await rig.until_status(identifier, Status.CANCELED)
        await bought(rig, 2)
        assert rig.broker.cancels == [identifier]


async def test_a_cancel_of_an_order_in_doubt_waits_for_its_ack(tmp_path: Path) -> None:
    """A cancel is not sent before the broker knows the order, and not forgotten either."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.broker.released = asyncio.Event()
        identifier = rig.desk.propose(proposal(limit=99))
        await rig.until(lambda: rig.broker.submits == [identifier], "the submit is under way")
        rig.desk.cancel(identifier)
        await rig.until(lambda: rig.order(identifier).pending.value == "cancel", "the wish is on record")
        assert rig.broker.cancels == []
        rig.broker.released.set()
        await rig.until_status(identifier, Status.CANCELED)
        assert rig.broker.cancels == [identifier]


async def test_a_cancel_without_an_answer_is_asked_again(tmp_path: Path) -> None:
    """A cancel whose reply was lost is not taken for a refusal; the order's end is learned."""
    async with trading(tmp_path, prepare=lambda broker: setattr(broker, "mute", True)) as rig:
        identifier = await resting(rig)
        rig.broker.lose_replies = True
        rig.desk.cancel(identifier)
        await rig.until_status(identifier, Status.CANCELED)


async def test_a_halt_cancels_and_stays(tmp_path: Path) -> None:
    """A halt cancels what is open, denies what comes, and holds across a restart until a person clears it."""
    async with trading(tmp_path) as rig:
        identifier = await resting(rig)
        rig.desk.halt("the button")
        await rig.until_status(identifier, Status.CANCELED)
    async with trading(tmp_path) as rig:
        denied = rig.desk.propose(proposal(2))
        await rig.until_status(denied, Status.DENIED)
        assert (rig.desk.state, rig.desk.halted_for) == (TradingState.HALTED, "the button")
        rig.desk.clear("somebody")
        await bought(rig, 3)
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)


async def test_a_halt_that_died_half_way_is_finished(tmp_path: Path) -> None:
    """Orders that a halted process did not get to cancel are cancelled by the next one."""
    async with trading(tmp_path) as rig:
        identifier = await resting(rig)
        rig.desk._core.working.clear()  # a crash between the halt's line and the cancels
        rig.desk.halt("the button")
        await rig.until_state(TradingState.HALTED)
    async with trading(tmp_path) as rig:
        await rig.until_status(identifier, Status.CANCELED)


async def test_a_restart_takes_up_what_was_left(tmp_path: Path) -> None:
    """An order whose reply never came is found after a restart, with what filled meanwhile, and sent once."""
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = await unanswered(rig)
        rig.desk._core.doubts[identifier].given_up = True  # so that the end need not wait for an answer
    async with trading(tmp_path) as rig:
        assert rig.desk.state is TradingState.RECONCILING
        await rig.until_state(TradingState.ACTIVE)
        assert rig.status(identifier) is Status.FILLED
        assert rig.journal.state.positions == {("paper", SYMBOL): Decimal(1)}
        assert rig.broker.submits == []


async def test_an_unknown_order_of_ours_halts(tmp_path: Path) -> None:
    """An order of our making that the journal does not know means a lost journal."""
    async with trading(tmp_path) as rig:
        await resting(rig)
    (tmp_path / "orders.sqlite").rename(tmp_path / "lost.sqlite")
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.HALTED)
        assert "the journal does not know" in rig.desk.halted_for


async def test_positions_that_differ_halt(tmp_path: Path) -> None:
    """A difference that lasts stops trading, and both figures are on record; nothing is traded meanwhile."""
    async with trading(tmp_path) as rig:
        await bought(rig)
        rig.broker.extra = Decimal(3)
        await rig.until_state(TradingState.HALTED)
        assert "journal 1, broker 4" in rig.desk.halted_for
        assert rig.bodies(Kind.RECONCILE)[-1]["differing"] == {SYMBOL: {"journal": "1", "broker": "4"}}


async def test_a_difference_that_heals_does_not_halt(tmp_path: Path) -> None:
    """A fill that is late makes entries wait, not stop."""

    def stranger(broker: FaultyBroker) -> None:
        broker.extra = Decimal(1)

    async with trading(tmp_path, prepare=stranger) as rig:
        await rig.until(lambda: bool(rig.bodies(Kind.RECONCILE)), "the difference is on record")
        rig.broker.extra = Decimal(0)
        await bought(rig)


async def test_a_difference_younger_than_the_grace_denies_nothing(tmp_path: Path) -> None:
    """Where both agreed before, a fill that races the account's snapshot stops no entry; it is looked at again soon."""
    async with trading(tmp_path, pace=replace(QUICK, grace_s=60.0)) as rig:
        await bought(rig)
        rig.broker.extra = Decimal(1)
        await rig.until(lambda: bool(rig.bodies(Kind.RECONCILE)), "the difference is on record")
        assert rig.desk.state is TradingState.ACTIVE
        await rig.until_status(rig.desk.propose(proposal(2)), Status.FILLED)


async def test_answers_that_make_no_sense_deny_and_end_nothing(tmp_path: Path) -> None:
    """While the broker answers nonsense nothing is entered and cancels pass; the desk lives, and goes on afterwards."""
    async with trading(tmp_path) as rig:
        identifier = await resting(rig)
        rig.broker.absurd = True
        await rig.until_state(TradingState.RECONCILING)
        rig.desk.cancel(identifier)
        await rig.until_status(identifier, Status.CANCELED)
        rig.broker.absurd = False
        await bought(rig, 2)


async def test_losing_round_trips_in_a_row_leave_reducing(tmp_path: Path) -> None:
    """Bought at the ask and sold at the bid, twice: entries are denied, ways out are not, also after a restart."""
    limits = replace(LIMITS, max_losses_in_a_row=2)
    async with trading(tmp_path, limits=limits) as rig:
        for number in (1, 2):
            await bought(rig, number)
            await rig.until_status(rig.desk.propose(proposal(-number, Side.SELL)), Status.FILLED)
        await rig.until_state(TradingState.REDUCING)
    async with trading(tmp_path, limits=limits) as rig:
        await rig.until_state(TradingState.REDUCING)
        await rig.until_status(rig.desk.propose(proposal(3)), Status.DENIED)


async def test_three_rejections_halt(tmp_path: Path) -> None:
    """Orders that keep being refused stop trading."""
    async with trading(tmp_path, limits=Limits()) as rig:
        await rig.until_state(TradingState.ACTIVE)
        rig.broker.paper.halt(SYMBOL)
        for number in range(3):
            await rig.until_status(rig.desk.propose(proposal(number)), Status.REJECTED)
        await rig.until_state(TradingState.HALTED)


async def test_a_strategy_that_runs_away_is_stopped(tmp_path: Path) -> None:
    """The third order within a minute that a rate limit refuses halts: something asks far too often."""
    async with trading(tmp_path, limits=Limits(symbol_orders_per_minute=1)) as rig:
        await bought(rig)
        for number in range(2, 4):
            await rig.until_status(rig.desk.propose(proposal(number)), Status.DENIED)
        assert rig.desk.state is TradingState.ACTIVE
        rig.desk.propose(proposal(4))
        await rig.until_state(TradingState.HALTED)
        assert "rate limits" in rig.desk.halted_for
        rig.desk.clear("somebody")
        await rig.until_status(rig.desk.propose(proposal(5)), Status.DENIED)
        assert rig.desk.state is not TradingState.HALTED


async def test_the_limits_of_every_start_are_on_record(tmp_path: Path) -> None:
    """Each start journals the limits, with their hash and every figure; a change also with both figures and a name."""
    for fraction in ("0.02", "0.02", "0.01"):
        async with trading(tmp_path, limits=Limits(max_order_fraction=Decimal(fraction)), operator="ada") as rig:
            await rig.until_state(TradingState.ACTIVE)
            first, second, third = [*rig.bodies(Kind.LIMITS), None, None][:3]
    assert first["values"]["max_order_fraction"] == second["values"]["max_order_fraction"] == "0.02"
    assert first["limits"] == second["limits"] != third["limits"]
    assert "changed" not in first | second
    assert (third["changed"], third["operator"]) == ({"max_order_fraction": ["0.02", "0.01"]}, "ada")


async def test_a_market_order_goes_with_a_price_it_cannot_run_beyond(tmp_path: Path) -> None:
    """Where the broker takes immediate limit orders a market order is one, a per cent from the reference at most."""
    limits = replace(LIMITS, market_collar=Decimal("0.005"))
    async with trading(tmp_path, limits=limits) as rig:
        await rig.until_state(TradingState.ACTIVE)
        identifier = rig.desk.propose(proposal())
        await rig.until_status(identifier, Status.EXPIRED)  # the ask is a whole per cent above the middle
        request = rig.order(identifier).request
        assert (request.order_type, request.limit_price) == (OrderType.LIMIT, Decimal("100.5"))
    plain = lambda broker: setattr(broker, "features", Features())  # noqa: E731
    async with trading(tmp_path, limits=limits, prepare=plain) as rig:
        assert rig.order(await bought(rig, 2)).request.order_type is OrderType.MARKET


async def test_orders_of_a_signal_never_exceed_it(tmp_path: Path) -> None:
    """Cut into parts a signal buys what it asked for and no more, also when a restart lies between the parts."""
    parts = [
        structs.replace(proposal(quantity="0.6"), leg=leg, parent_quantity=Decimal(1)) for leg in ("a", "b", "c", "d")
    ]
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        await rig.until_status(rig.desk.propose(parts[0]), Status.FILLED)
        await rig.until_status(rig.desk.propose(parts[1]), Status.DENIED)
        await rig.until_status(rig.desk.propose(structs.replace(parts[2], quantity=Decimal("0.4"))), Status.FILLED)
    async with trading(tmp_path) as rig:
        await rig.until_state(TradingState.ACTIVE)
        denied = rig.desk.propose(structs.replace(parts[3], quantity=Decimal("0.1")))
        await rig.until_status(denied, Status.DENIED)
        assert "one signal" in rig.order(denied).reason


async def test_orders_of_a_desk_that_died_are_cancelled_by_the_broker(tmp_path: Path) -> None:
    """While the desk lives it calls, and its orders stay; once it hangs they end; a clean end calls the switch off."""
    async with trading(tmp_path, pace=replace(QUICK, dead_man_s=0.8)) as rig:
        identifier = await resting(rig)
        await rig.until(lambda: len(rig.broker.calls) > 5, "a whole silence has passed")
        assert rig.status(identifier) is Status.ACCEPTED
        rig.desk._ticking = True  # the queue is stuck: no tick is handled any more
        await rig.until_status(identifier, Status.CANCELED)
        rig.desk._ticking = False
    assert (set(rig.broker.calls[:-1]), rig.broker.calls[-1]) == ({0.8}, 0.0)


async def test_a_broker_without_the_switch_is_not_called(tmp_path: Path) -> None:
    """Where no switch is declared, or where it does not answer, trading goes on."""
    async with trading(tmp_path, prepare=lambda broker: setattr(broker, "features", Features())) as rig:
        await bought(rig)
        assert rig.broker.calls == []


async def test_three_orders_in_doubt_halt(tmp_path: Path) -> None:
    """Orders whose replies keep being lost stop trading, however well they end."""

    def lossy(broker: FaultyBroker) -> None:
        broker.lose_replies = broker.mute = True

    async with trading(tmp_path, limits=Limits(), prepare=lossy) as rig:
        for number in range(3):
            await rig.until_state(TradingState.ACTIVE)
            await rig.until_status(rig.desk.propose(proposal(number)), Status.FILLED)
        await rig.until_state(TradingState.HALTED)
        assert "in doubt" in rig.desk.halted_for


async def test_losses_of_the_day_survive_a_restart(tmp_path: Path) -> None:
    """A crash does not forgive a loss: after it only what closes positions passes, as before."""
    limits = Limits(max_day_loss=Decimal("0.001"), max_order_fraction=Decimal("0.2"))
    async with trading(tmp_path, limits=limits) as rig:
        await rig.until_state(TradingState.ACTIVE)
        await rig.until_status(rig.desk.propose(proposal(quantity="10")), Status.FILLED)
        rig.quote(bid=79, ask=81)
        await rig.until_state(TradingState.REDUCING)
    async with trading(tmp_path, limits=limits, market=market_at(Decimal(79))) as rig:
        rig.quote(bid=79, ask=81)
        await rig.until_state(TradingState.REDUCING)
        await rig.until_status(rig.desk.propose(proposal(2)), Status.DENIED)
        await rig.until_status(rig.desk.propose(proposal(3, side=Side.SELL)), Status.FILLED)
