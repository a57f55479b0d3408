"""The desired subscriptions: the only truth, replayed at every open, one command at a time, each answer checked.

One command is on its way at any time: the vendor's answers need not say what they answer, and with two on their way a
refusal could be pinned on the wrong symbols.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from tasks.stream.codes import Cure, cure_of
from tasks.stream.messages import Answer, Channel, encode_command
from tasks.stream.policy import SessionPolicy

Key = tuple[Channel, str]

#: The reason of a refusal that is ours: more is desired than the plan allows, and the last ones are left out.
BEYOND_PLAN = "plan"


class Standing(StrEnum):
    """What the server said of a subscription on this connection."""

    DESIRED = "desired"  # not asked, or asked and not answered
    CONFIRMED = "confirmed"  # answered with code 0, or data arrived
    REFUSED = "refused"  # answered with another code, or beyond the plan


class Topic:
    """One desired (channel, symbol) and what is known of it."""

    __slots__ = (
        "channel",
        "gap_reason",
        "gap_start",
        "messages",
        "refusal",
        "seen",
        "standing",
        "strikes",
        "symbol",
        "usual_s",
        "watched_from",
    )

    def __init__(self, channel: Channel, symbol: str) -> None:
        self.channel: Channel = channel
        self.symbol = symbol
        self.standing = Standing.DESIRED
        self.refusal: int | str | None = None
        self.messages = 0
        self.seen: float | None = None  # last data, over all connections
        self.usual_s = 0.0  # smoothed time between messages
        self.watched_from: float | None = None  # silence counts from here; None while nothing is expected
        self.strikes = 0
        self.gap_start: float | None = None
        self.gap_reason = ""

    @property
    def unsteady(self) -> bool:
        """Whether the next data changes more than counters: it ends a gap or a silence, or confirms."""
        return self.gap_start is not None or self.strikes > 0 or self.standing is not Standing.CONFIRMED


@dataclass(slots=True)
class _Chunk:
    cmd: Literal["subscribe", "unsubscribe"]
    channel: Channel
    symbols: tuple[str, ...]
    attempts: int = 0
    deadline: float = 0.0
    by_symbol: bool = False  # the server has answered for some of its symbols, so it names what it means


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer decided: topics confirmed, topics refused, and the cure of its code."""

    confirmed: tuple[Topic, ...]
    refused: tuple[Topic, ...]
    cure: Cure


class Subscriptions:
    """Desired topics in order of priority, and the commands that bring them about."""

    def __init__(self, desired: Iterable[Key], policy: SessionPolicy) -> None:
        self._policy = policy
        self.topics: dict[Key, Topic] = {}
        self._pushed: dict[Key, Topic | None] = {}
        self._queue: deque[_Chunk] = deque()
        self._flying: _Chunk | None = None
        self._overtaken = 0  # commands whose data came before their answers, which are still to come
        self._limit_reached = False
        self._held_until = 0.0
        for channel, symbol in desired:
            self._add(channel, symbol)

    def restart(self) -> None:
        """Forget every answer: a new connection knows none of our subscriptions."""
        self._queue.clear()
        self._flying, self._overtaken = None, 0
        self._limit_reached = False
        self._held_until = 0.0
        for topic in self.topics.values():
            if topic.refusal != BEYOND_PLAN:
                topic.standing, topic.refusal = Standing.DESIRED, None
        self.ask(topic for topic in self.topics.values() if topic.standing is Standing.DESIRED)

    def ask(self, topics: Iterable[Topic], *, again: bool = False) -> None:
        """Queue subscribe commands for `topics`, unsubscribing first where they are asked for `again`."""
        wanted = list(topics)
        for channel in dict.fromkeys(topic.channel for topic in wanted):
            symbols = tuple(topic.symbol for topic in wanted if topic.channel == channel)
            for first in range(0, len(symbols), self._policy.symbols_per_command):
                chunk = symbols[first : first + self._policy.symbols_per_command]
                if again:
                    self._queue.append(_Chunk("unsubscribe", channel, chunk))
                self._queue.append(_Chunk("subscribe", channel, chunk))

    def replace(self, desired: Iterable[Key]) -> tuple[list[Topic], list[Topic]]:
        """Make `desired` the truth; return the topics that are new and those that are gone."""
        before, self.topics = self.topics, {}
        self._pushed.clear()
        new = []
        for channel, symbol in desired:
            known = before.pop((channel, symbol), None)
            asked = known is not None and known.refusal != BEYOND_PLAN
            topic = self._add(channel, symbol, known)
            if topic.standing is Standing.DESIRED and not asked:
                new.append(topic)
        return new, list(before.values())

    def give_up(self, topics: Iterable[Topic]) -> None:
        """Queue unsubscribe commands for topics that are no longer desired."""
        for topic in topics:
            self._queue.append(_Chunk("unsubscribe", topic.channel, (topic.symbol,)))

    def hold(self, until: float) -> None:
        """Send no command before `until`; the one on its way is sent again then."""
        self._held_until = until
        self._requeue()

    def next_command(self, now: float) -> bytes | None:
        """Return the next command to send, or None while one is on its way or none is due."""
        if self._flying is not None or not self._queue or now < self._held_until:
            return None
        chunk = self._flying = self._queue.popleft()
        chunk.attempts += 1
        chunk.deadline = now + self._policy.ack_timeout_s
        return encode_command(chunk.cmd, chunk.channel, chunk.symbols)

    def overdue(self, now: float) -> bool:
        """Queue an unanswered command again; True when its attempts are used up."""
        chunk = self._flying
        if chunk is None or now < chunk.deadline:
            return False
        if chunk.cmd == "unsubscribe" or chunk.attempts >= self._policy.ack_attempts:
            self._flying = None
            return chunk.cmd == "subscribe" and any(self._waiting(chunk))
        self._requeue()
        return False

    def answered(self, answer: Answer) -> Verdict:
        """Apply the answer to the command on its way; an answer to nothing decides nothing."""
        chunk, cure = self._flying, cure_of(answer.code)
        if self._overtaken and answer.cmd == "subscribe" and cure is Cure.NONE and not answer.symbols:
            self._overtaken -= 1  # it may be the earlier command's; were it not, this one is asked again
            return Verdict((), (), Cure.NONE)
        if chunk is None or answer.cmd != chunk.cmd or (answer.channel not in (None, chunk.channel)):
            return Verdict((), (), Cure.NONE)
        named = [symbol for symbol in chunk.symbols if not answer.symbols or symbol in answer.symbols]
        if not named:
            return Verdict((), (), Cure.NONE)
        if chunk.cmd == "unsubscribe":
            self._flying = None
            return Verdict((), (), Cure.NONE)
        return self._subscribed(chunk, answer, named, cure)

    def heard(self, topic: Topic) -> None:
        """Confirm a topic by its data; a command all of whose topics deliver needs no answer any more."""
        topic.standing, topic.refusal = Standing.CONFIRMED, None
        chunk = self._flying
        if chunk is not None and chunk.cmd == "subscribe" and not any(self._waiting(chunk)):
            self._flying = None
            self._overtaken += 1

    def resolve(self, channel: Channel, pushed: str) -> Topic | None:
        """Return the topic a pushed symbol means, None where unknown or ambiguous; NVDA may stand for NVDA.US."""
        try:
            return self._pushed[channel, pushed]
        except KeyError:
            pass
        topic = self.topics.get((channel, pushed))
        if topic is None:
            stem = f"{pushed}."
            matches = [one for one in self.topics.values() if one.channel == channel and one.symbol.startswith(stem)]
            topic = matches[0] if len(matches) == 1 else None
        if topic is not None or len(self._pushed) < 2 * len(self.topics) + 100:
            self._pushed[channel, pushed] = topic
        return topic

    @property
    def unanswered(self) -> bool:
        """Whether any topic still waits for its first answer or data."""
        return any(topic.standing is Standing.DESIRED for topic in self.topics.values())

    @property
    def refused(self) -> list[Topic]:
        """Topics the server or the plan refused."""
        return [topic for topic in self.topics.values() if topic.standing is Standing.REFUSED]

    def _add(self, channel: Channel, symbol: str, known: Topic | None = None) -> Topic:
        topic = self.topics[channel, symbol] = known or Topic(channel, symbol)
        if len(self.topics) > self._policy.plan_subscriptions:
            topic.standing, topic.refusal = Standing.REFUSED, BEYOND_PLAN
        elif topic.refusal == BEYOND_PLAN:
            topic.standing, topic.refusal = Standing.DESIRED, None
        return topic

    def _subscribed(self, chunk: _Chunk, answer: Answer, named: list[str], cure: Cure) -> Verdict:
        if cure in (Cure.PENALTY, Cure.QUOTA, Cure.RETRY, Cure.DENY, Cure.REAP):
            self._requeue()
            return Verdict((), (), cure)
        self._answered_for(chunk, named)
        topics = tuple(self.topics[chunk.channel, symbol] for symbol in named if (chunk.channel, symbol) in self.topics)
        if cure is Cure.NONE:
            for topic in topics:
                topic.standing = Standing.CONFIRMED
            return Verdict(topics, (), cure)
        if len(named) > 1 and cure in (Cure.DROP, Cure.SHRINK) and not chunk.by_symbol:
            self._halve(chunk.channel, named)
            return Verdict((), (), Cure.NONE)
        self._limit_reached = self._limit_reached or cure is Cure.SHRINK
        return Verdict((), self._refuse(topics, answer.code), cure)

    def _refuse(self, topics: tuple[Topic, ...], code: int | str) -> tuple[Topic, ...]:
        """Refuse `topics`, and at the plan's limit whatever is still to be asked."""
        refused = list(topics)
        if self._limit_reached:
            refused += [
                self.topics[chunk.channel, symbol]
                for chunk in self._queue
                if chunk.cmd == "subscribe"
                for symbol in chunk.symbols
                if (chunk.channel, symbol) in self.topics
            ]
            self._queue.clear()
        for topic in refused:
            topic.standing, topic.refusal = Standing.REFUSED, code
        return tuple(refused)

    def _halve(self, channel: Channel, symbols: list[str]) -> None:
        """Ask again in halves, so that one bad symbol, or a small plan, does not refuse its neighbours."""
        middle = len(symbols) // 2
        self._queue.appendleft(_Chunk("subscribe", channel, tuple(symbols[middle:])))
        self._queue.appendleft(_Chunk("subscribe", channel, tuple(symbols[:middle])))

    def _answered_for(self, chunk: _Chunk, named: list[str]) -> None:
        """Take the symbols of an answer off the command on its way; the rest still waits for its own."""
        chunk.by_symbol = chunk.by_symbol or len(named) < len(chunk.symbols)
        chunk.symbols = tuple(symbol for symbol in chunk.symbols if symbol not in named)
        if not chunk.symbols:
            self._flying = None

    def _requeue(self) -> None:
        if self._flying is not None:
            self._queue.appendleft(self._flying)
            self._flying = None

    def _waiting(self, chunk: _Chunk) -> Iterable[bool]:
        for symbol in chunk.symbols:
            topic = self.topics.get((chunk.channel, symbol))
            yield topic is not None and topic.standing is Standing.DESIRED
