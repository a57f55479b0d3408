"""The live connection as a state machine with no I/O: bytes and times in, commands and events out.

The driver (`tasks.stream.socket`) calls one method for everything that happens, with the monotonic clock's time, then
carries out `take_commands()` and hands on `take_events()`. Nothing here reads a clock, opens a socket or sleeps, so
that every (state, input) pair can be tested as a function call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from tasks.stream import gaps
from tasks.stream.backoff import Backoff
from tasks.stream.codes import TOO_BIG, Cure, advice, cure_of_refusal
from tasks.stream.events import Abort, Alarm, AlarmKind, Close, Command, Connect, Event, Reap, StateChanged
from tasks.stream.link import Demand, Link
from tasks.stream.liveness import IsOpen
from tasks.stream.messages import Message
from tasks.stream.policy import SessionPolicy
from tasks.stream.states import CONNECTED, FLOWING, State, Trigger, health, step
from tasks.stream.subscriptions import Key, Subscriptions, Topic


def _always(symbol: str) -> bool:
    return True


class Session:
    """One market-data connection and the truth about it.

    Attributes:
        state: Where the connection stands.
        link: The connection while it is up, with its subscriptions, liveness and clock.
        backoff: Failures in a row and the waits they cost.
        retry_at: When the next attempt is due, while in backoff.
        connects: Attempts since the start.
    """

    def __init__(
        self,
        desired: Iterable[Key],
        *,
        policy: SessionPolicy,
        rng: Random,
        epoch_ms: float,
        is_open: IsOpen = _always,
        refilled: bool = False,
    ) -> None:
        """Prepare a session that is idle.

        Args:
            desired: Subscriptions in order of priority.
            policy: Every wait and limit.
            rng: Source of the backoff's jitter.
            epoch_ms: Wall-clock milliseconds when the monotonic clock shows 0; jumps of the wall clock touch no timer,
                and count from when they are told by `jumped`.
            is_open: Whether a symbol's market trades now; a closed market is not silent.
            refilled: Whether somebody fetches the bars missed in gaps and calls `resynced`.
        """
        self.state = State.IDLE
        self.policy = policy
        self.epoch_ms = epoch_ms
        self.backoff = Backoff(policy, rng)
        self.retry_at = 0.0
        self.connects = 0
        self._commands: list[Command] = []
        self._events: list[Event] = []
        self.link = Link(
            Subscriptions(desired, policy),
            policy,
            is_open=is_open,
            refilled=refilled,
            epoch_ms=epoch_ms,
            commands=self._commands,
            events=self._events,
        )
        self._wanted = False
        self._deadline = 0.0  # of the handshake or the close
        self._floor_s = 0.0  # least wait before the next attempt
        self._lockout = False
        self._oversized = 0

    # What the flow and its operator want

    def start(self, now: float) -> None:
        """Want the connection up: from rest, or after a person has cured a refusal."""
        self._wanted = True
        self._move(Trigger.START, now, "start")

    def stop(self, now: float) -> None:
        """Want the connection down, cleanly and for good."""
        self._wanted = False
        self._move(Trigger.STOP, now, "stop")

    def reconnect(self, now: float) -> None:
        """Give this connection up for a new one, or cut the wait short, as an operator may ask.

        A wait that the vendor asked for is kept.
        """
        if self.state is State.BACKOFF and self._floor_s == 0.0:
            self.retry_at = now
        self._move(Trigger.GIVEN_UP, now, "reconnect asked for")

    def desire(self, desired: Iterable[Key], now: float) -> None:
        """Replace the desired subscriptions; what changed is asked for at once when connected."""
        new, gone = self.link.subscriptions.replace(desired)
        self._events += [ended for topic in gone if (ended := gaps.end(topic, now)) is not None]
        if self.state in CONNECTED:
            self.link.subscriptions.ask(new)
            self.link.subscriptions.give_up(gone)
            self.link.ask()
            self._assess(now)

    def resynced(self, now: float, symbols: Iterable[str]) -> None:
        """The bars missed by `symbols` have been fetched."""
        self.link.unfilled.difference_update(symbols)
        self._assess(now)

    def jumped(self, now: float, by_s: float) -> None:
        """The wall clock has left the monotonic one behind by so much: it was set, or the machine stood still.

        From here on the new one counts. What it went ahead by may be missing; set back, it was only wrong before.
        """
        self.epoch_ms += by_s * 1000.0
        self.link.jumped(now, by_s)

    def resume(self, last: Mapping[Key, float]) -> None:
        """Continue an earlier run: what it recorded last, on our monotonic clock, is where each gap begins."""
        for key, topic in self.link.subscriptions.topics.items():
            if key in last:
                gaps.resume(topic, last[key])

    # What the driver saw

    def opened(self, now: float) -> None:
        """The handshake succeeded."""
        if self.state is State.CONNECTING:
            self._move(Trigger.OPENED, now, "handshake done")
            self._assess(now)

    def refused(
        self, now: float, *, status: int | None, code: int | str | None = None, retry_after_s: float | None = None
    ) -> None:
        """The server answered the handshake with something other than an upgrade."""
        if self.state is State.CONNECTING:
            reason = advice(code, status)
            self._cure(Demand(cure_of_refusal(status, code), code, reason), now, retry_after_s)
            self.lost(now, None, reason)

    def lost(self, now: float, close_code: int | None, reason: str) -> None:
        """The connection, or the attempt, has ended: for whatever reason, in whatever state."""
        self._oversized += close_code == TOO_BIG and self.state in CONNECTED
        if self._oversized >= self.policy.oversize_limit:
            self._oversized = 0
            self._deny(now, f"{self.policy.oversize_limit} connections in a row ended with an oversized frame")
            return
        detail = reason if close_code is None else f"{reason}, close code {close_code}"
        self._move(Trigger.LOST if self._wanted else Trigger.RESTED, now, detail)

    def reaped(self, now: float, closed: int) -> None:
        """Dead connections of ours were closed at the vendor, so the lockout should be over."""
        if closed > 0 and self.state is State.BACKOFF:
            self.retry_at = min(self.retry_at, self.backoff.next_attempt(now))

    def receive(self, payload: bytes | str, now: float) -> tuple[Topic, Message] | None:
        """Take one frame; return its topic and message when it is data that was asked for."""
        if self.state not in CONNECTED:
            return None
        result = self.link.receive(payload, now)
        if isinstance(result, Demand):
            self._cure(result, now)
            return None
        if self.link.changed:
            self._assess(now)
        return result

    def tick(self, now: float) -> None:
        """Let time pass: pings, deadlines, detectors, the next attempt."""
        if self.state in CONNECTED:
            self._tick_connected(now)
        elif self.state is State.CONNECTING and now >= self._deadline:
            self._move(Trigger.GIVEN_UP, now, "no handshake in time")
        elif self.state is State.CLOSING and now >= self._deadline:
            self._deadline = now + self.policy.close_timeout_s
            self._commands.append(Abort())
        elif self.state is State.BACKOFF and now >= self.retry_at:
            self._move(Trigger.RETRY, now, "wait over")
        down = self._wanted and self.state not in FLOWING and self.state is not State.OPEN
        self._alarm(self.link.alarms.outage_lasts(now, down=down))

    # What follows

    def take_commands(self) -> list[Command]:
        """Return, once, what the driver is to do."""
        commands = self._commands.copy()
        self._commands.clear()
        return commands

    def take_events(self) -> list[Event]:
        """Return, once, what happened."""
        events = self._events.copy()
        self._events.clear()
        return events

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return bool(self._commands or self._events)

    def wall_ms(self, now: float) -> float:
        """Return wall-clock milliseconds at monotonic `now`."""
        return self.epoch_ms + now * 1000.0

    def _tick_connected(self, now: float) -> None:
        demand = self.link.tick(now)
        if demand is not None:
            self._cure(demand, now)
            return
        self._assess(now)
        self.backoff.flowing(now, self.state in FLOWING and self.link.delivered)
        if self.backoff.failures == 0:
            self._oversized = 0
        if self.state in FLOWING:
            self.link.alarms.flowing()

    def _cure(self, demand: Demand, now: float, retry_after_s: float | None = None) -> None:
        """Do what a code asks for, wherever it was said."""
        cure, connected, policy = demand.cure, self.state in CONNECTED, self.policy
        if cure is Cure.DENY:
            self._deny(now, demand.reason)
        elif cure is Cure.PENALTY and connected:
            self.link.subscriptions.hold(now + policy.penalty_wait_s)
        elif cure is Cure.PENALTY:
            self._floor_s = retry_after_s or policy.penalty_wait_s
        elif cure is Cure.REAP:
            self._floor_s, self._lockout = policy.lockout_wait_s, True
            self._alarm(self.link.alarms.refused(now, AlarmKind.LOCKED_OUT, demand.reason))
        elif cure is Cure.QUOTA:
            self._floor_s = retry_after_s or policy.quota_wait_s
            self._alarm(self.link.alarms.refused(now, AlarmKind.QUOTA, demand.reason))
        if connected and cure in (Cure.REAP, Cure.QUOTA, Cure.RETRY):
            self._move(Trigger.GIVEN_UP, now, demand.reason)

    def _deny(self, now: float, detail: str) -> None:
        if self.state in CONNECTED:
            self._commands.append(Close())
        self._events.append(Alarm(now, AlarmKind.DENIED, detail))
        self._move(Trigger.DENIED, now, detail)

    def _alarm(self, alarm: Alarm | None) -> None:
        if alarm is not None:
            self._events.append(alarm)

    def _assess(self, now: float) -> None:
        self.link.changed = False
        if self.state in CONNECTED:
            facts = self.link.facts()
            self._enter(health(facts), now, "; ".join(facts) or "everything desired flows")

    def _move(self, trigger: Trigger, now: float, reason: str) -> None:
        self._enter(step(self.state, trigger), now, reason)

    def _enter(self, after: State, now: float, reason: str) -> None:
        before = self.state
        if after is before:
            return
        self.state = after
        self._events.append(StateChanged(now, before, after, reason))
        if before in CONNECTED and after not in CONNECTED:
            self.backoff.flowing(now, False)
            self.link.closed(wanted=self._wanted)
        if after is State.CONNECTING:
            self._begin_attempt(now)
        elif before is State.CONNECTING and after in CONNECTED:
            self.link.opened(now)
        elif after is State.CLOSING:
            self._deadline = now + self.policy.close_timeout_s
            answers = before in CONNECTED and not self.link.heartbeat.dead(now)
            self._commands.append(Close() if answers else Abort())
        elif after is State.BACKOFF:
            self._begin_wait(now)

    def _begin_attempt(self, now: float) -> None:
        self._deadline = now + self.policy.connect_timeout_s
        self._floor_s, self._lockout = 0.0, False
        self.backoff.attempted(now)
        self.connects += 1
        self._commands.append(Connect())

    def _begin_wait(self, now: float) -> None:
        self.retry_at = self.backoff.next_attempt(now, self._floor_s)
        if self._lockout:
            self._commands.append(Reap())
