"""What counts as too much, per market: settings that travel with every verdict they led to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from lake.timeline import interval as interval_named
from tasks.errors import InputError


class Thresholds(BaseModel):
    """The limits a market's bars must keep. The defaults suit a liquid market that never closes.

    Moves are fractions: 0.1 means a tenth up, or back down by the same ratio (divided by 1.1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_missing_fraction: float = Field(0.0, ge=0, le=1, description="Share of the expected bars that may be absent")
    max_gap_bars: int = Field(0, ge=0, description="Longest run of expected bars that may be absent")
    max_stale_bars: int = Field(0, ge=0, description="Longest run of absent bars at the end of the partition")
    min_price: float | None = Field(0.0, description="Prices must lie above; None where they may be negative (oil)")
    price_tolerance: float = Field(1e-9, ge=0, description="Relative rounding allowed between the prices of a bar")
    max_jump: float = Field(0.1, gt=0, description="Move from one close to the next bar's open")
    max_jump_after_break: float = Field(0.5, gt=0, description="The same across a break (night, weekend, gap)")
    max_spike: float = Field(0.1, gt=0, description="Close away from the bar before and back at the next open")
    max_wick: float = Field(0.2, gt=0, description="High above, or low below, both open and close")
    max_repeated_bars: int = Field(10, ge=2, description="Identical bars with volume in a row: a feed that is stuck")
    max_frozen_bars: int = Field(30, ge=2, description="Traded bars in a row whose close does not change")
    max_zero_volume_bars: int = Field(60, ge=2, description="Bars in a row without any volume")
    quote_volume_tolerance: float | None = Field(
        0.01, ge=0, description="How far quote_volume / volume may leave [low, high]; None where units differ"
    )
    resample_tolerance: float = Field(1e-6, ge=0, description="Relative difference of prices to the finer bars")
    resample_volume_tolerance: float = Field(1e-3, ge=0, description="The same of volumes, which vendors round")
    max_outlier_score: float = Field(10.0, gt=0, description="Robust score of a change in volatility its peers lack")

    @property
    def version(self) -> str:
        """Return a short hash of every limit, the same on every machine."""
        text = json.dumps(self.model_dump(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


#: What differs from the defaults, per kind of market. `equity` and `futures` vendors leave out minutes without a trade.
MARKETS: dict[str, dict[str, float]] = {
    "crypto": {},
    "futures": {"max_missing_fraction": 0.05, "max_gap_bars": 30, "max_stale_bars": 30},
    "equity": {"max_missing_fraction": 0.10, "max_gap_bars": 60, "max_stale_bars": 60},
}

#: Longer bars move further: every move's limit is raised to at least this much from that length on.
_MOVES: tuple[tuple[timedelta, float], ...] = ((timedelta(days=1), 0.5), (timedelta(hours=1), 0.2))


def for_market(market: str, interval: str, overrides: Mapping[str, float | None] | None = None) -> Thresholds:
    """Return the limits of a kind of market (`crypto`, `futures`, `equity`) for bars of that interval.

    From one day on no bar may be absent, and a run of ten bars is long.

    Args:
        market: Kind of market.
        interval: Interval of the bars.
        overrides: Limits by name that a setting puts in place of these.

    Raises:
        InputError: The market is not one of ours; the message lists them.
    """
    if market not in MARKETS:
        raise InputError(f"market: expected one of {' '.join(MARKETS)}, found {market!r}")
    limits = dict(MARKETS[market])
    step = interval_named(interval).step or timedelta(days=30)
    for length, move in _MOVES:
        if step >= length:
            limits |= {"max_jump": move, "max_spike": move, "max_wick": move}
            break
    if step >= timedelta(days=1):
        limits |= {"max_missing_fraction": 0.0, "max_gap_bars": 0, "max_stale_bars": 0}
        limits |= {"max_frozen_bars": 10, "max_zero_volume_bars": 10}
    return Thresholds.model_validate({**limits, **(overrides or {})})
