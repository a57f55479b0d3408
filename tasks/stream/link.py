"""A connection while it is up: frames in, data out, with its subscriptions, its liveness and its gaps.

What a frame or a moment demands of the connection as a whole is returned as a `Demand`, and carried out by the session.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import ProtocolError
from tasks.stream import gaps
from tasks.stream.alarms import Alarms
from tasks.stream.clock import ClockOffset
from tasks.stream.codes import Cure, advice, cure_of
from tasks.stream.events import Command, Degraded, Event, GapEnded, GapReason, Refused, Send
from tasks.stream.liveness import Heartbeat, IsOpen, SilenceWatch
from tasks.stream.messages import PING, Answer, Channel, Depth, Message, Pong, Ticker, Trades, decode
from tasks.stream.policy import SessionPolicy
from tasks.stream.states import Fact
from tasks.stream.subscriptions import Standing, Subscriptions, Topic

_CHANNEL_OF: dict[type, Channel] = {Depth: "depth", Trades: "trade", Ticker: "ticker"}


@dataclass(frozen=True, slots=True)
class Demand:
    """What the connection as a whole must do: a code's cure, or be given up for `reason`."""

    cure: Cure
    code: int | str | None
    reason: str


class Link:
    """The open connection.

    Attributes:
        subscriptions: Desired topics and the server's verdict on each.
        clock: The server's clock seen from here.
        heartbeat: Pings, and the time of the last frame.
        unfilled: Symbols whose bars missed in a gap are still to be fetched.
        delivered: Whether data has arrived since the connection opened.
        changed: Set when a fact may have changed; cleared by whoever assesses the facts.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        policy: SessionPolicy,
        *,
        is_open: IsOpen,
        refilled: bool,
        epoch_ms: float,
        commands: list[Command],
        events: list[Event],
    ) -> None:
        self.subscriptions = subscriptions
        self.clock = ClockOffset()
        self.heartbeat = Heartbeat(policy)
        self.alarms = Alarms(policy)
        self.unfilled: set[str] = set()
        self.delivered = False
        self.changed = False
        self._policy = policy
        self._watch = SilenceWatch(policy, is_open)
        self._refilled = refilled
        self._epoch_ms = epoch_ms
        self._commands = commands
        self._events = events
        self._next_check = 0.0

    def opened(self, now: float) -> None:
        """Begin anew: replay every desired subscription."""
        self.heartbeat.restart(now)
        self.clock.restart()
        self.subscriptions.restart()
        self.delivered = False
        self._next_check = now + 1.0
        self.ask()

    def closed(self, *, wanted: bool) -> None:
        """Open a gap of everything that was whole, from the last frame on; an end that was asked for is none."""
        for topic in self.subscriptions.topics.values():
            if wanted:
                self._tell(gaps.begin(topic, GapReason.LOST, self.heartbeat.last_frame))
            topic.watched_from, topic.strikes = None, 0

    def ask(self) -> None:
        """Send the next subscription command that is due."""
        payload = self.subscriptions.next_command(self.heartbeat.now)
        if payload is not None:
            self._commands.append(Send(payload))

    def receive(self, payload: bytes | str, now: float) -> tuple[Topic, Message] | Demand | None:
        """Take one frame; return its topic and message when it is data that was asked for, or what it demands."""
        heartbeat = self.heartbeat
        heartbeat.last_frame = heartbeat.now = now
        try:
            message = decode(payload)
        except ProtocolError as error:
            self._tell(self.alarms.undecodable_frame(now, error))
            return None
        channel = _CHANNEL_OF.get(type(message))
        if channel is None:
            return self._control(message, now)
        topic = self.subscriptions.resolve(channel, message.symbol)  # type: ignore[union-attr]
        if topic is None:
            return None
        topic.messages += 1
        since = topic.watched_from
        if since is None or not self.delivered or topic.unsteady:
            self._flows_again(topic, now)
        else:
            topic.usual_s += 0.1 * (now - since - topic.usual_s)
        topic.seen = topic.watched_from = now
        return topic, message

    def tick(self, now: float) -> Demand | None:
        """Let time pass: ping when due, and say when the connection must be given up."""
        self.heartbeat.now = now
        if self.heartbeat.dead(now):
            return _give_up(f"no frame for {self._policy.dead_after_s:g} s")
        if self.heartbeat.ping_due(now):
            self.clock.ping_sent(now)
            self._commands.append(Send(PING))
        if self.subscriptions.overdue(now):
            return _give_up(f"no answer to {self._policy.ack_attempts} subscribe commands")
        if now >= self._next_check:
            self._next_check = now + 1.0
            if self._silent(now):
                return _give_up("subscriptions silent although asked for again")
        self.ask()
        return None

    def jumped(self, now: float, by_s: float) -> None:
        """Count by a wall clock that is `by_s` ahead of the one before; see `Session.jumped`."""
        self._epoch_ms += by_s * 1000.0
        self.clock = ClockOffset()
        for topic in self.subscriptions.topics.values():
            if topic.gap_start is not None:
                topic.gap_start -= by_s  # the same moment, by the new clock
            elif by_s > 0.0:
                self._tell(gaps.begin(topic, GapReason.NOT_RUNNING, now - by_s))
                self._ended(gaps.end(topic, now))

    def facts(self) -> set[Fact]:
        """Return what is true of this connection now."""
        subscriptions = self.subscriptions
        holds = {
            Fact.NOTHING_DESIRED: not subscriptions.topics,
            Fact.UNANSWERED: subscriptions.unanswered,
            Fact.SILENT: any(topic.strikes for topic in subscriptions.topics.values()),
            Fact.GAP_UNFILLED: bool(self.unfilled),
            Fact.REFUSED: bool(subscriptions.refused),
        }
        return {fact for fact, true in holds.items() if true}

    def _control(self, message: Message, now: float) -> Demand | None:
        if isinstance(message, Pong):
            self.clock.pong_received(now, self._epoch_ms + now * 1000.0, message.timestamp)
            self._tell(self.alarms.clock_measured(now, self.clock.offset_ms))
        elif isinstance(message, Answer):
            return self._answered(message, now)
        return None

    def _answered(self, answer: Answer, now: float) -> Demand | None:
        if answer.cmd not in ("subscribe", "unsubscribe"):
            return _demand(cure_of(answer.code), answer.code)
        self.changed = True
        verdict = self.subscriptions.answered(answer)
        for topic in verdict.confirmed:
            topic.watched_from = now if topic.watched_from is None else topic.watched_from
            self._ended(gaps.confirmed(topic, now))
        for topic in verdict.refused:
            self._tell(Refused(topic.channel, (topic.symbol,), answer.code, advice(answer.code)))
        if verdict.cure is Cure.FALL_BACK and verdict.refused:
            self._tell(Degraded(verdict.refused[0].channel, tuple(topic.symbol for topic in verdict.refused)))
        demand = _demand(verdict.cure, answer.code)
        if demand is None:
            self.ask()
        return demand

    def _silent(self, now: float) -> bool:
        """Note subscriptions gone silent and ask for them again; True when that has not helped."""
        topics = self.subscriptions.topics.values()
        silent = self._watch.newly_silent(topics, now)
        for topic in silent:
            self._tell(gaps.begin(topic, GapReason.SILENT, now if topic.seen is None else topic.seen))
        if silent and self._watch.hopeless(topics, now):
            return True
        self.subscriptions.ask(silent, again=True)
        return False

    def _flows_again(self, topic: Topic, now: float) -> None:
        """Take the first data of a topic on this connection, or its first after a silence."""
        topic.strikes = 0
        self.delivered = self.changed = True
        self._ended(gaps.end(topic, now))
        if topic.standing is not Standing.CONFIRMED:
            self.subscriptions.heard(topic)
            self.ask()

    def _ended(self, gap: GapEnded | None) -> None:
        if gap is not None:
            if self._refilled:
                self.unfilled.add(gap.symbol)
            self._tell(gap)

    def _tell(self, event: Event | None) -> None:
        if event is not None:
            self._events.append(event)


def _give_up(reason: str) -> Demand:
    return Demand(Cure.RETRY, None, reason)


def _demand(cure: Cure, code: int | str) -> Demand | None:
    """A cure that concerns one command alone demands nothing of the connection."""
    if cure in (Cure.NONE, Cure.DROP, Cure.SHRINK, Cure.FALL_BACK):
        return None
    return Demand(cure, code, advice(code))
