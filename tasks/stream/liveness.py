"""Detectors of a link that is dead, and of subscriptions that are silent on a link that is not.

They are independent: an answered ping says nothing of the data (peers stay connected and silent for hours), and data
says nothing of the pings. The third detector is the kernel's, set in `tasks.stream.socket`: bytes that nobody
acknowledges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tasks.stream.policy import SessionPolicy
from tasks.stream.subscriptions import Standing, Topic

IsOpen = Callable[[str], bool]  #: symbol → whether its market trades now, so that data is to be expected


class Heartbeat:
    """When to ping, and whether the link still lives: any frame at all proves it.

    Attributes:
        last_frame: When the last frame of this connection arrived.
        now: The latest time the connection was told.
        pings: Pings of this connection so far.
    """

    def __init__(self, policy: SessionPolicy) -> None:
        self._policy = policy
        self._next_ping = 0.0
        self.last_frame = 0.0
        self.now = 0.0
        self.pings = 0

    def restart(self, now: float) -> None:
        """Begin anew for a connection that has just opened."""
        self.pings = 0
        self._next_ping = self.last_frame = self.now = now

    def ping_due(self, now: float) -> bool:
        """Say whether a ping is due, on a schedule that does not drift; missed ones are not made up for."""
        if now < self._next_ping:
            return False
        behind = (now - self._next_ping) // self._policy.ping_every_s
        self._next_ping += (behind + 1) * self._policy.ping_every_s
        self.pings += 1
        return True

    def dead(self, now: float) -> bool:
        """Say whether neither pong nor any other frame has come for too long."""
        return now - self.last_frame >= self._policy.dead_after_s


class SilenceWatch:
    """Which subscriptions have been silent for longer than they usually are. Pongs do not feed it."""

    def __init__(self, policy: SessionPolicy, is_open: IsOpen) -> None:
        self._policy = policy
        self._is_open = is_open
        self._recycled_at: float | None = None

    def limit_s(self, topic: Topic) -> float:
        """Return how much silence of this topic is too much: twenty usual gaps, within the channel's bounds."""
        policy = self._policy
        usual = policy.silence_factor * topic.usual_s
        return min(max(policy.silence_floor_s[topic.channel], usual), policy.silence_cap_s)

    def newly_silent(self, topics: Iterable[Topic], now: float) -> list[Topic]:
        """Return topics whose silence has reached its limit once more, each with a strike added."""
        found = []
        for topic in topics:
            if topic.standing is not Standing.CONFIRMED:
                continue
            if not self._is_open(topic.symbol):
                topic.watched_from, topic.strikes = None, 0
            elif topic.watched_from is None:
                topic.watched_from = now
            elif now - topic.watched_from >= self.limit_s(topic) * 2**topic.strikes:
                topic.strikes += 1
                topic.watched_from = now
                found.append(topic)
        return found

    def hopeless(self, topics: Iterable[Topic], now: float) -> bool:
        """Say whether asking again has not helped, so that a new connection must.

        When every watched topic is silent, at once; when others deliver, at most once in `recycle_every_s`. Trades that
        do not come while the same symbol's book does are no reason: the symbol is merely quiet.
        """
        watched = [topic for topic in topics if topic.watched_from is not None]
        lively = {topic.symbol for topic in watched if topic.channel != "trade" and topic.strikes == 0}
        silent = [
            topic
            for topic in watched
            if topic.strikes >= 2 and not (topic.channel == "trade" and topic.symbol in lively)
        ]
        if not silent:
            return False
        if len(silent) < len(watched):
            if self._recycled_at is not None and now - self._recycled_at < self._policy.recycle_every_s:
                return False
            self._recycled_at = now
        return True
