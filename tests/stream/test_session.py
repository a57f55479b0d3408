"""The session's promises, one scenario each; time is an argument, nothing sleeps."""

from __future__ import annotations

import json
from random import Random

import pytest
from stream_frames import answer, depth, make, pong, trade

from tasks.stream.codes import CURES, Cure
from tasks.stream.events import (
    Abort,
    Alarm,
    AlarmKind,
    Close,
    Connect,
    Degraded,
    GapBegan,
    GapEnded,
    GapReason,
    Reap,
    Refused,
    Send,
)
from tasks.stream.messages import PING
from tasks.stream.session import Session
from tasks.stream.states import State


def sent(session: Session) -> list[dict]:
    """Return the commands waiting to be sent, pings left out."""
    payloads = [command.payload for command in session.take_commands() if isinstance(command, Send)]
    return [json.loads(payload) for payload in payloads if payload != PING]


def gaps_of(session: Session) -> list[tuple[str, str, float, float]]:
    """Return the gaps that ended: channel, reason, and the wall clock's seconds from when to when."""
    ended = of(session, GapEnded)
    return [
        (one.channel, str(one.reason), session.wall_ms(one.start) / 1e3, session.wall_ms(one.end) / 1e3)
        for one in ended
    ]


def of(session: Session, kind: type) -> list:
    """Return the events of one kind."""
    return [event for event in session.take_events() if isinstance(event, kind)]


def reconnected(session: Session, now: float) -> float:
    """Lose the connection and open the next one; return the time."""
    session.lost(now, 1006, "cut")
    now = session.retry_at
    session.tick(now)
    session.opened(now)
    return now


def test_subscriptions_are_replayed_at_every_open(session_in) -> None:
    """After a reconnect the same commands go out, one at a time, without anybody asking."""
    session = session_in(State.LIVE)
    for _ in range(3):
        now = reconnected(session, session.retry_at + 1.0)
        first = sent(session)
        session.receive(answer(0), now)
        second = sent(session)
        assert [command["data"]["channel"] for command in first + second] == ["depth", "trade"]
        session.receive(answer(0), now)
        assert not session.link.subscriptions.unanswered


def test_commands_are_chunked() -> None:
    """At most fifty symbols go into one command, and every symbol into exactly one."""
    symbols = [f"S{number}" for number in range(120)]
    session = make([("ticker", symbol) for symbol in symbols])
    session.start(0.0)
    session.opened(0.0)
    asked = []
    while command := sent(session):
        asked.append(command[0]["data"]["symbols"])
        session.receive(answer(0), 0.0)
    assert [len(chunk) for chunk in asked] == [50, 50, 20]
    assert [symbol for chunk in asked for symbol in chunk] == symbols
    assert session.state is State.LIVE


def test_pings_keep_time_without_drift(session_in) -> None:
    """However unevenly time is told, one ping a second goes out, and missed ones are not made up for."""
    session = session_in(State.LIVE)
    rng, now, pings = Random(3), 0.0, 0
    while now < 60.0:
        session.receive(depth(), now)
        session.tick(now)
        pings += sum(command == Send(PING) for command in session.take_commands())
        now += rng.uniform(0.01, 0.4)
    assert pings in (60, 61)


def test_heartbeat_survives_reconnects(session_in) -> None:
    """Pings go out on every connection, not only on the first."""
    session = session_in(State.LIVE)
    for _ in range(5):
        now = reconnected(session, session.retry_at + 1.0)
        session.take_commands()
        session.tick(now)
        assert Send(PING) in session.take_commands()


def test_dead_link_is_noticed_within_six_seconds(session_in) -> None:
    """Silence on the wire is noticed after five seconds, and the connection is dropped without a handshake."""
    session = session_in(State.LIVE)
    session.tick(4.9)
    assert session.state is State.LIVE
    session.tick(5.0)
    assert session.state is State.CLOSING
    assert Abort() in session.take_commands()


def test_pongs_do_not_feed_the_data_watchdog(session_in) -> None:
    """A server that only pongs is stale after ten seconds, asked again, and given up after that."""
    session = session_in(State.LIVE)
    states = {}
    for tenth in range(1, 900):
        now = tenth / 10
        session.receive(pong(), now)
        session.tick(now)
        states.setdefault(session.state, now)
        if session.state is State.CLOSING:
            break
    assert 10.0 <= states[State.STALE] <= 11.5
    assert states[State.CLOSING] <= 32.0
    assert [command["cmd"] for command in sent(session)][:2] == ["unsubscribe", "subscribe"]


def test_stale_topic_is_asked_for_again_and_recovers(session_in) -> None:
    """A silent subscription is unsubscribed and subscribed; its first data ends gap and staleness."""
    session = session_in(State.STALE)
    session.receive(answer(0, "unsubscribe"), 1.2)
    asked_again = sent(session)
    session.receive(depth(), 2.0)
    gap = of(session, GapEnded)
    assert [command["cmd"] for command in asked_again] == ["subscribe"]
    assert [(one.channel, one.reason, one.end) for one in gap] == [("depth", GapReason.SILENT, 2.0)]
    assert session.state is State.RESYNC


def test_closed_market_is_not_silent() -> None:
    """Outside trading sessions nothing is expected, so nothing is stale."""
    session = Session(
        [("depth", "AAPL.US")],
        policy=make().policy,
        rng=Random(1),
        epoch_ms=0.0,
        is_open=lambda symbol: False,
    )
    session.start(0.0)
    session.opened(0.0)
    session.receive(answer(0), 0.0)
    for second in range(600):
        session.receive(pong(), float(second))
        session.tick(float(second))
    assert session.state is State.LIVE


def test_gap_begins_at_the_last_frame_and_ends_with_data(session_in) -> None:
    """TCP keeps order: nothing before the last frame was lost; depth is whole again with its first snapshot."""
    session = session_in(State.LIVE)
    session.receive(pong(), 3.0)
    session.lost(4.0, 1006, "cut")
    assert {(gap.channel, gap.start) for gap in of(session, GapBegan)} == {("depth", 3.0), ("trade", 3.0)}
    now = session.retry_at
    session.tick(now)
    session.opened(now)
    session.receive(answer(0), now + 1)  # depth
    session.receive(answer(0), now + 2)  # trade
    session.receive(depth(), now + 3)
    assert [(gap.channel, gap.start, gap.end) for gap in of(session, GapEnded)] == [
        ("trade", 3.0, now + 2),
        ("depth", 3.0, now + 3),
    ]


def test_one_outage_is_one_gap(session_in) -> None:
    """Failed attempts in the middle neither split the gap nor move its beginning."""
    session = session_in(State.LIVE)
    session.lost(1.0, 1006, "cut")
    for _ in range(5):
        session.tick(session.retry_at)
        session.lost(session.retry_at, None, "refused")
    began = of(session, GapBegan)
    assert len(began) == 2
    assert {gap.start for gap in began} == {0.0}


def test_live_only_after_the_missed_bars_are_fetched(session_in) -> None:
    """After a reconnect the state is resync until somebody says that the bars are there."""
    session = session_in(State.RESYNC)
    session.resynced(1.0, ["ETHUSDT"])
    assert session.state is State.RESYNC
    session.resynced(1.0, ["BTCUSDT"])
    assert session.state is State.LIVE


@pytest.mark.parametrize("code", [code for code, cure in CURES.items() if cure is Cure.DENY])
def test_denied_key_is_tried_exactly_once(code: int) -> None:
    """A refused key is final, by handshake or by frame: no second attempt until a person starts again."""
    for by_frame in (False, True):
        session = make()
        session.start(0.0)
        if by_frame:
            session.opened(0.0)
            session.receive(answer(code, "error"), 0.0)
            session.lost(0.1, 1008, "closed")
        else:
            session.refused(0.0, status=401, code=code)
        for second in range(0, 100_000, 100):
            session.tick(float(second))
        assert session.connects == 1
        assert session.state is State.FATAL
        assert [alarm.kind for alarm in of(session, Alarm) if alarm.kind is AlarmKind.DENIED] == [AlarmKind.DENIED]
        session.start(1e6)
        assert session.state is State.CONNECTING


def test_lockout_is_reaped_then_retried_soon() -> None:
    """After 3003 our dead connections are closed; if that helps, the next attempt comes soon."""
    session = make()
    session.start(0.0)
    session.refused(0.0, status=429, code=3003)
    assert Reap() in session.take_commands()
    assert session.retry_at >= 90.0
    session.reaped(1.0, 1)
    assert session.retry_at < 5.0


def test_lockout_without_help_waits_without_storm() -> None:
    """With nothing to reap, an hour of 3003 costs at most forty attempts."""
    session = make()
    session.start(0.0)
    now = 0.0
    while now < 3600.0:
        session.refused(now, status=429, code=3003)
        session.reaped(now, 0)
        now = session.retry_at
        session.tick(now)
    assert session.connects <= 41


@pytest.mark.parametrize(("status", "code"), [(429, 3003), (429, 3002)])
def test_a_refusal_that_lasts_is_told_once(status: int, code: int) -> None:
    """A lockout or a used-up quota calls a person once, however often it is met, and again after data has flowed."""
    session = make([("depth", "BTCUSDT")])
    session.start(0.0)
    now, told = 0.0, []
    for attempt in range(6):
        if attempt == 4:
            session.opened(now)
            session.receive(depth(), now)
            session.tick(now)
            session.lost(now, 1006, "cut")
        else:
            session.refused(now, status=status, code=code)
        told.append(len([one for one in of(session, Alarm) if one.kind is not AlarmKind.LASTING]))
        now = session.retry_at
        session.tick(now)
    assert told == [1, 0, 0, 0, 0, 1]


def test_accept_then_close_does_not_reset_the_backoff() -> None:
    """A server that accepts, delivers once and closes is met with growing waits."""
    session = make()
    session.start(0.0)
    now = 0.0
    for _ in range(12):
        session.opened(now)
        session.receive(depth(), now)
        session.receive(trade(), now)
        session.lost(now + 1.0, 1000, "closed")
        now = session.retry_at
        session.tick(now)
    assert session.backoff.failures == 12


def test_a_stable_minute_with_data_forgives(session_in) -> None:
    """Sixty seconds of flowing data reset the backoff; fifty-nine do not."""
    session = session_in(State.LIVE)
    session.backoff.failures = 7
    for second in range(1, 60):
        session.receive(depth(), float(second))
        session.receive(trade(identity=str(second)), float(second))
        session.tick(float(second))
    assert session.backoff.failures == 7
    for second in range(60, 63):
        session.receive(depth(), float(second))
        session.tick(float(second))
    assert session.backoff.failures == 0


def test_connects_keep_to_their_budget() -> None:
    """Whatever the jitter draws, at most thirty attempts begin in any five minutes."""
    session = make(backoff_cap_s=0.5)
    session.start(0.0)
    attempts = [0.0]
    while attempts[-1] < 2000.0:
        session.lost(attempts[-1], None, "refused")
        session.tick(session.retry_at)
        attempts.append(session.retry_at)
    assert all(later - earlier >= 300.0 - 1e-6 for earlier, later in zip(attempts, attempts[30:], strict=False))


def test_server_without_answers_is_given_up() -> None:
    """Three unanswered subscribe commands close the connection."""
    session = make([("ticker", "A")])
    session.start(0.0)
    session.opened(0.0)
    asked = 0
    for second in range(20):
        session.receive(pong(), float(second))
        session.tick(float(second))
        asked += len(sent(session))
        if session.state is State.CLOSING:
            break
    assert asked == 3
    assert session.state is State.CLOSING


def test_data_confirms_where_the_answer_was_lost() -> None:
    """The first data frame confirms a subscription as well as an answer does."""
    session = make([("depth", "BTCUSDT")])
    session.start(0.0)
    session.opened(0.0)
    session.receive(depth(), 0.1)
    assert session.state is State.LIVE
    session.tick(20.0 - 15.1)
    assert session.state is State.LIVE


def test_an_answer_that_data_overtook_is_not_the_next_commands() -> None:
    """An answer that names nothing and comes after the data it promised confirms no other subscription."""
    session = make([("depth", "BTCUSDT"), ("trade", "BTCUSDT")])
    session.start(0.0)
    session.opened(0.0)
    session.receive(depth(), 0.1)
    session.receive(answer(0), 0.2)
    assert session.state is State.SUBSCRIBING
    session.receive(answer(4004), 0.3)
    assert [topic.channel for topic in session.link.subscriptions.refused] == ["trade"]
    assert [event.channel for event in of(session, Degraded)] == ["trade"]


def test_an_answer_that_never_comes_costs_the_next_command_one_more_try() -> None:
    """Where the answer to an overtaken command was lost, the next one is asked again and then taken at its word."""
    session = make([("depth", "BTCUSDT"), ("trade", "BTCUSDT")])
    session.start(0.0)
    session.opened(0.0)
    session.receive(depth(), 0.1)
    session.receive(answer(0), 0.2)  # the second command's
    for second in range(1, 6):
        session.receive(pong(), float(second))
        session.receive(depth(), float(second))
        session.tick(float(second) + 0.2)
    assert [command["data"]["channel"] for command in sent(session)] == ["depth", "trade", "trade"]
    session.receive(answer(0), 5.3)
    assert session.state is State.LIVE


def test_one_bad_symbol_does_not_refuse_its_neighbours() -> None:
    """A refused chunk is asked for again in halves until only the bad symbol is refused."""
    session = make([("ticker", f"S{number}") for number in range(8)])
    session.start(0.0)
    session.opened(0.0)
    for _ in range(20):
        for command in sent(session):
            session.receive(answer(2002 if "S5" in command["data"]["symbols"] else 0), 0.0)
    assert [topic.symbol for topic in session.link.subscriptions.refused] == ["S5"]
    assert session.state is State.LIVE_PARTIAL
    assert [event.symbols for event in of(session, Refused)] == [("S5",)]


def test_subscription_limit_keeps_the_most_wanted() -> None:
    """At 3004 the first of the desired order stay, the rest are left out, and nobody reconnects."""
    session = make([("ticker", f"S{number:02}") for number in range(64)])
    session.start(0.0)
    session.opened(0.0)
    held: set[str] = set()
    for _ in range(200):
        for command in sent(session):
            wanted = held | set(command["data"]["symbols"])
            fits = len(wanted) <= 5
            held = wanted if fits else held
            session.receive(answer(0 if fits else 3004), 0.0)
    assert sorted(held) == [f"S{number:02}" for number in range(5)]
    assert len(session.link.subscriptions.refused) == 59
    assert session.connects == 1


def test_plan_limit_is_checked_before_asking() -> None:
    """More than the plan allows is never sent to the server."""
    session = make([("ticker", f"S{number}") for number in range(8)], plan_subscriptions=5)
    session.start(0.0)
    session.opened(0.0)
    assert len(sent(session)[0]["data"]["symbols"]) == 5
    session.receive(answer(0), 0.0)
    assert session.state is State.LIVE_PARTIAL


def test_unavailable_channel_is_told_as_degraded() -> None:
    """4003 keeps the connection and hands its symbols to REST."""
    session = make([("depth", "A"), ("ticker", "A")])
    session.start(0.0)
    session.opened(0.0)
    session.receive(answer(4003), 0.0)
    session.receive(answer(0), 0.0)
    assert [(event.channel, event.symbols) for event in of(session, Degraded)] == [("depth", ("A",))]
    assert session.state is State.LIVE_PARTIAL


def test_penalty_holds_commands_and_nothing_else(session_in) -> None:
    """After 3001 no subscribe command goes out until the wait is over; the connection stays."""
    session = make([("ticker", "A")])
    session.start(0.0)
    session.opened(0.0)
    sent(session)
    session.receive(answer(3001), 0.0)
    asked = []
    for second in range(70):
        session.receive(pong(), float(second))
        session.tick(float(second))
        asked += [second] * len(sent(session))
    assert asked[0] == 60
    assert session.connects == 1


def test_retry_after_is_honoured() -> None:
    """A handshake refused with Retry-After is not tried before."""
    session = make()
    session.start(0.0)
    session.refused(0.0, status=429, retry_after_s=33.0)
    assert session.retry_at >= 33.0


def test_third_oversized_frame_asks_a_person(session_in) -> None:
    """Three connections in a row lost to oversized frames are no accident."""
    session = session_in(State.LIVE)
    now = 0.0
    for _ in range(3):
        session.lost(now, 1009, "too big")
        now = session.retry_at
        session.tick(now)
        session.opened(now)
    assert session.state is State.FATAL


def test_symbols_without_suffix_are_known() -> None:
    """NVDA is NVDA.US where only one of ours fits, and nobody's where two do."""
    session = make([("depth", "NVDA.US"), ("depth", "700.HK"), ("depth", "X.US"), ("depth", "X.HK")])
    session.start(0.0)
    session.opened(0.0)
    delivered = session.receive(depth("NVDA"), 0.0)
    assert delivered is not None
    assert delivered[0].symbol == "NVDA.US"
    assert session.receive(depth("700"), 0.0) is not None
    assert session.receive(depth("X"), 0.0) is None
    assert session.receive(depth("Y"), 0.0) is None


def test_stop_ends_idle_from_everywhere(session_in) -> None:
    """Whatever the state, stop and the end of the connection lead to rest, and nothing is tried again."""
    for state in State:
        session = session_in(state)
        session.stop(1.0)
        session.lost(2.0, 1000, "closed")
        session.tick(1e6)
        assert session.state is State.IDLE
        assert Connect() not in session.take_commands()


def test_a_close_that_hangs_is_aborted(session_in) -> None:
    """The close handshake has five seconds; then the transport is dropped."""
    session = session_in(State.LIVE)
    session.stop(1.0)
    assert session.take_commands() == [Close()]
    session.tick(6.0)
    assert session.take_commands() == [Abort()]


def test_long_outages_are_told_at_one_five_and_fifteen_minutes() -> None:
    """A person hears of an outage three times, not at every attempt."""
    session = make()
    session.start(0.0)
    told = []
    for second in range(2000):
        session.lost(float(second), None, "refused")
        session.tick(float(second))
        told += [event.at for event in of(session, Alarm) if event.kind is AlarmKind.LASTING]
    assert told == [60.0, 300.0, 900.0]


def test_clock_skew_is_told_once(session_in) -> None:
    """A server clock half a second off is told once, from a ping and its own pong."""
    session = session_in(State.LIVE)
    alarms = []
    for second in range(1, 20):
        session.tick(float(second))
        session.receive(pong(int(session.wall_ms(second + 0.02)) + 800), second + 0.04)
        alarms += [event for event in of(session, Alarm) if event.kind is AlarmKind.SKEWED]
    assert len(alarms) == 1
    assert session.link.clock.offset_ms == pytest.approx(800.0, abs=1.0)
    assert session.link.clock.round_trip_ms == pytest.approx(40.0, abs=1e-6)


def test_a_clock_that_hovers_at_the_limit_is_told_once(session_in) -> None:
    """A skew that comes and goes by a millisecond calls nobody twice; one that was gone does."""
    session, told = session_in(State.LIVE), []
    for at, skew in ((100.0, 501), (200.0, 499), (300.0, 501), (400.0, 100), (500.0, 501)):
        session.receive(depth(), at)
        session.link.clock.ping_sent(at)
        session.receive(pong(int(session.wall_ms(at)) + skew), at)
        told.append(sum(one.kind is AlarmKind.SKEWED for one in of(session, Alarm)))
    assert told == [1, 0, 0, 0, 1]


def test_garbage_is_told_at_powers_of_two(session_in) -> None:
    """A thousand unreadable frames make ten alarms and no crash."""
    session = session_in(State.LIVE)
    for _ in range(1000):
        session.receive(b"\x00garbage", 0.5)
    assert len(of(session, Alarm)) == 10
    assert session.state is State.LIVE


def test_answers_by_symbol_are_taken_at_their_word() -> None:
    """A server that answers for each symbol is believed: what it names is confirmed or refused, nothing else asked."""
    session = make([("ticker", symbol) for symbol in "ABCD"])
    session.start(0.0)
    session.opened(0.0)
    assert len(sent(session)) == 1
    session.receive(answer(0, "subscribe", "ticker", ["A", "C"]), 0.0)
    session.receive(answer(2002, "subscribe", "ticker", ["B", "D"]), 0.0)
    assert sent(session) == []
    assert [topic.symbol for topic in session.link.subscriptions.refused] == ["B", "D"]
    assert session.state is State.LIVE_PARTIAL


def test_what_a_partial_answer_leaves_out_is_asked_again() -> None:
    """Symbols that no answer named are asked for again after the wait for the answer."""
    session = make([("ticker", symbol) for symbol in "AB"])
    session.start(0.0)
    session.opened(0.0)
    sent(session)
    session.receive(answer(0, "subscribe", "ticker", ["A"]), 0.0)
    session.receive(pong(), 4.0)
    session.tick(5.0)
    assert [command["data"]["symbols"] for command in sent(session)] == [["B"]]


def test_an_operator_may_cut_the_wait_short_but_not_the_vendors(session_in) -> None:
    """Reconnect in backoff tries at once, unless the vendor asked for the wait."""
    session = session_in(State.BACKOFF)
    session.retry_at = 50.0
    session.reconnect(1.0)
    session.tick(1.0)
    assert session.state is State.CONNECTING
    session.refused(1.0, status=429, retry_after_s=30.0)
    session.reconnect(2.0)
    session.tick(2.0)
    assert session.state is State.BACKOFF


def test_a_symbol_that_trades_rarely_costs_no_connection(session_in) -> None:
    """Hours without a trade while its book comes: asked for again now and then, never reconnected."""
    session = session_in(State.LIVE)
    for second in range(1, 4 * 3600):
        session.receive(depth(), float(second))
        session.receive(answer(0), float(second))
        session.tick(float(second))
    assert session.connects == 1
    assert len(of(session, GapBegan)) == 1


def test_a_book_that_stays_away_alone_costs_a_connection_now_and_then() -> None:
    """One silent book among delivering ones is worth a reconnect each quarter of an hour, not more."""
    session = make([("depth", "A"), ("depth", "B")])
    session.start(0.0)
    now, opened = 0.0, 0
    while now < 3600.0:
        if session.state is State.CONNECTING:
            session.opened(now)
            session.receive(depth("A"), now)
            session.receive(depth("B"), now)
            opened += 1
        if session.state is State.CLOSING:
            session.lost(now, 1000, "closed")
        session.receive(depth("A"), now)
        session.receive(answer(0), now)
        session.receive(answer(0, "unsubscribe"), now)
        session.tick(now)
        now += 0.5
    assert 3 <= opened <= 6


def test_changing_what_is_desired_asks_for_the_difference_only() -> None:
    """A new symbol is subscribed, one that is gone is unsubscribed, the others are left alone."""
    session = make([("ticker", "A"), ("ticker", "B")])
    session.start(0.0)
    session.opened(0.0)
    session.receive(answer(0), 0.0)
    sent(session)
    session.desire([("ticker", "B"), ("ticker", "C")], 1.0)
    commands = sent(session)
    session.receive(answer(0), 1.0)
    commands += sent(session)
    assert [(command["cmd"], command["data"]["symbols"]) for command in commands] == [
        ("subscribe", ["C"]),
        ("unsubscribe", ["A"]),
    ]


def test_a_machine_that_stood_still_missed_what_it_did_not_see(session_in) -> None:
    """Where the wall clock went on without us, the stretch is a gap of everything, and our clock is right again."""
    session = session_in(State.LIVE)
    before = session.wall_ms(5.0)
    session.jumped(5.0, 7200.0)
    assert session.wall_ms(5.0) == before + 7_200_000.0
    stood = before / 1e3, before / 1e3 + 7200.0
    assert sorted(gaps_of(session)) == [(channel, "not running", *stood) for channel in ("depth", "trade")]
    assert session.link.clock.offset_ms is None  # measured against a clock that was wrong
    session.receive(pong(1_000.0), 5.0)
    session.lost(6.0, 1006, "cut")
    began = session.wall_ms(session.link.heartbeat.last_frame) / 1e3
    session.take_events()
    session.jumped(8.0, 3600.0)
    assert gaps_of(session) == []  # open already: it goes on from where it began
    topic = session.link.subscriptions.topics["trade", "BTCUSDT"]
    assert topic.gap_start is not None
    assert session.wall_ms(topic.gap_start) / 1e3 == began


def test_a_clock_that_is_set_back_tells_no_gap(session_in) -> None:
    """Nothing was missed where the wall clock only was wrong before."""
    session = session_in(State.LIVE)
    before = session.wall_ms(5.0)
    session.jumped(5.0, -60.0)
    assert (session.wall_ms(5.0), gaps_of(session)) == (before - 60_000.0, [])
