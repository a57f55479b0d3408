"""The server's clock seen from here: offset and round trip, from pings and pongs."""

from __future__ import annotations

from collections import deque

#: A venue's clock further away than this is none: what it says is a fault.
MOST_MS = 86_400_000.0


class ClockOffset:
    """Estimates ``server − ours`` in milliseconds from the fastest round trip of the last minute.

    A sample is taken only when exactly one ping is on its way: with a pong lost, the next one would be matched with
    the wrong ping and be wrong by a second.
    """

    WINDOW_S = 60.0

    def __init__(self) -> None:
        self._sent: list[float] = []
        self._samples: deque[tuple[float, float, float]] = deque(maxlen=128)  # taken at, round trip ms, offset ms

    def ping_sent(self, now: float) -> None:
        """Note a ping on its way."""
        self._sent.append(now)
        if len(self._sent) > 2:
            del self._sent[0]

    def pong_received(self, now: float, ours_ms: float, server_ms: float) -> None:
        """Take a sample from a pong that arrived when our clock showed `ours_ms`."""
        outstanding, self._sent = self._sent, []
        if len(outstanding) != 1:
            return
        round_trip_ms = (now - outstanding[0]) * 1000.0
        self._samples.append((now, round_trip_ms, server_ms - (ours_ms - round_trip_ms / 2.0)))
        while now - self._samples[0][0] > self.WINDOW_S:
            self._samples.popleft()

    def restart(self) -> None:
        """Forget pings of a connection that is gone; its samples stay good."""
        self._sent = []

    @property
    def offset_ms(self) -> float | None:
        """Server time minus ours; None before the first pong."""
        return min(self._samples, key=lambda sample: sample[1])[2] if self._samples else None

    @property
    def round_trip_ms(self) -> float | None:
        """The fastest round trip of the last minute; half of it bounds the offset's error."""
        return min(sample[1] for sample in self._samples) if self._samples else None
