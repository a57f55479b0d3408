"""What a person should hear of, each thing once: never a flood, never a secret."""

from __future__ import annotations

from tasks.errors import ProtocolError
from tasks.stream.events import Alarm, AlarmKind
from tasks.stream.policy import SessionPolicy

#: An outage this long is worth an alarm, each length once.
LASTING_S = (60.0, 300.0, 900.0)


class Alarms:
    """Remembers what has been told, so that it is told once."""

    def __init__(self, policy: SessionPolicy) -> None:
        self._policy = policy
        self._skewed = False
        self._refused: set[AlarmKind] = set()
        self._down_since: float | None = None
        self._lasting = 0
        self.undecodable = 0

    def undecodable_frame(self, now: float, error: ProtocolError) -> Alarm | None:
        """Count a frame that could not be read; told at the 1st, 2nd, 4th, 8th and so on."""
        self.undecodable += 1
        if self.undecodable & (self.undecodable - 1):
            return None
        return Alarm(now, AlarmKind.UNDECODABLE, f"{error} ({self.undecodable} so far)")

    def refused(self, now: float, kind: AlarmKind, detail: str) -> Alarm | None:
        """Tell what keeps the connection from opening, once until data has flowed."""
        if kind in self._refused:
            return None
        self._refused.add(kind)
        return Alarm(now, kind, detail)

    def flowing(self) -> None:
        """Let a refusal be news again: data flows."""
        self._refused.clear()

    def clock_measured(self, now: float, offset_ms: float | None) -> Alarm | None:
        """Tell when the server's clock has moved away from ours, once until it is back within half of what is told."""
        before, limit_ms = self._skewed, self._policy.skew_alarm_ms
        self._skewed = offset_ms is not None and abs(offset_ms) > (limit_ms / 2.0 if before else limit_ms)
        if before or not self._skewed:
            return None
        return Alarm(now, AlarmKind.SKEWED, f"the server's clock is {offset_ms:+.0f} ms from ours")

    def outage_lasts(self, now: float, *, down: bool) -> Alarm | None:
        """Tell after one, five and fifteen minutes without data that somebody wants."""
        if not down:
            self._down_since, self._lasting = None, 0
            return None
        self._down_since = now if self._down_since is None else self._down_since
        if self._lasting == len(LASTING_S) or now - self._down_since < LASTING_S[self._lasting]:
            return None
        self._lasting += 1
        return Alarm(now, AlarmKind.LASTING, f"no data for {LASTING_S[self._lasting - 1]:g} s")
