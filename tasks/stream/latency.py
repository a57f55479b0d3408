"""How late the market reaches us: the last few thousand delays and their percentiles."""

from __future__ import annotations

import math
from collections import deque


class Latency:
    """Delays in milliseconds between the venue's stamp and our reception, by the venue's clock.

    A delay below minus the error of the clock's offset is a fault of a clock, counted and never called fast.
    """

    def __init__(self, kept: int = 2_048) -> None:
        self._delays: deque[float] = deque(maxlen=kept)
        self.clock_faults = 0

    def add(self, delay_ms: float, error_ms: float) -> None:
        """Take one delay, measured with an offset that may be wrong by `error_ms`."""
        if delay_ms < -error_ms - 1.0:
            self.clock_faults += 1
            return
        self._delays.append(max(0.0, delay_ms))

    def percentile(self, share: float) -> float:
        """Return the delay that `share` of the last messages did not exceed; NaN without any."""
        if not self._delays:
            return math.nan
        ordered = sorted(self._delays)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
