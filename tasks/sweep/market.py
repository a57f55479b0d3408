"""The bars of one sweep as arrays, and which of them a fill may happen on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import polars as pl

from lake.timeline import interval as interval_named
from tasks.errors import InputError
from tasks.features.kernels import rolling_std
from tasks.strategies.strategy import CLOSE, HIGH, LOW, OPEN, VOLUME, bar_matrix
from tasks.sweep.costs import Costs

YEAR = timedelta(days=365)


@dataclass(frozen=True)
class SweepBars:
    """One symbol's bars, ready for engines.

    Attributes:
        timestamps: datetime64[us] opens.
        matrix: (5, bars) float64: open, high, low, close, volume.
        tradable: Whether a fill may happen at this bar's open: False where the bar before it is missing, since the
            signal would be older than one bar. A signal whose fill bar is not tradable is dropped.
        periods_per_year: Bars a year, for annualising; crypto and exchange sessions differ.
        scale: (bars,) by which the prices of `matrix` were multiplied; None where they are the market's own.
    """

    timestamps: np.ndarray
    matrix: np.ndarray
    tradable: np.ndarray
    periods_per_year: float
    scale: np.ndarray | None = None

    @property
    def opens(self) -> np.ndarray:
        """Open prices."""
        return self.matrix[OPEN]

    @property
    def closes(self) -> np.ndarray:
        """Close prices."""
        return self.matrix[CLOSE]

    @property
    def volumes(self) -> np.ndarray:
        """Volume in the units that quantities are counted in: where prices were multiplied, it is divided."""
        return self.matrix[VOLUME] if self.scale is None else self.matrix[VOLUME] / self.scale

    def check_volumes(self) -> None:
        """Check that every bar's volume is known, for costs that take a share of it.

        Raises:
            InputError: A volume is null, NaN, infinite or negative; a share of it would cap nothing.
        """
        wrong = ~(np.isfinite(self.matrix[VOLUME]) & (self.matrix[VOLUME] >= 0))
        if wrong.any():
            raise InputError(
                f"volume_share: expected a volume of every bar, found {wrong.sum()} unknown or negative, the first at "
                f"{self.timestamps[wrong.argmax()]}; mend these bars or leave volume_share out"
            )

    def slippage(self, costs: Costs) -> np.ndarray:
        """Return the slippage of a fill on each bar, as a fraction; made of the bars before it only."""
        slippage = np.full(len(self), costs.slippage_bps / 1e4)
        if costs.slippage_range:
            before = (self.matrix[HIGH] - self.matrix[LOW])[:-1] / self.closes[:-1]
            slippage[1:] = np.minimum(slippage[1:] + costs.slippage_range * before, 0.5)
        return slippage

    def sizes(self, costs: Costs) -> np.ndarray:
        """Return the share of cash that an entry on each bar uses, from the bars before it; 0 while unknown."""
        sizes = np.full(len(self), costs.fraction)
        if costs.target_volatility is not None:
            moves = np.zeros(len(self))
            moves[1:] = np.log(self.closes[1:] / self.closes[:-1])
            realised = np.full(len(self), np.nan)
            realised[1:] = rolling_std(moves, costs.volatility_lookback)[:-1] * np.sqrt(self.periods_per_year)
            with np.errstate(divide="ignore"):
                sizes = np.nan_to_num(np.minimum(sizes, costs.target_volatility / realised), nan=0.0)
        return sizes

    def joined(self) -> SweepBars:
        """Return the same bars with the jumps across holes taken out, so that nobody gains, loses or decides by them.

        Prices after a hole are multiplied until its first open is the last close before it; what came before keeps its
        prices, so that no bar depends on a later one. Volume stays as traded; a cap on it counts `volumes`.
        """
        holes = np.flatnonzero(~self.tradable[1:]) + 1
        if not holes.size:
            return self
        jumps = np.ones(len(self))
        jumps[holes] = self.closes[holes - 1] / self.opens[holes]
        scale, matrix = np.cumprod(jumps), self.matrix.copy()
        matrix[[OPEN, HIGH, LOW, CLOSE]] *= scale
        return replace(self, matrix=matrix, scale=scale)

    def jittered(self, rng: np.random.Generator, scale: float) -> SweepBars:
        """Return the same bars with every open and close moved by a normal share of the bar's range."""
        moved = self.matrix.copy()
        reach = scale * (self.matrix[HIGH] - self.matrix[LOW])
        for row in (OPEN, CLOSE):
            moved[row] = np.maximum(moved[row] + rng.normal(size=len(self)) * reach, self.matrix[LOW] / 2)
        moved[HIGH] = moved[[OPEN, HIGH, CLOSE]].max(axis=0)
        moved[LOW] = moved[[OPEN, LOW, CLOSE]].min(axis=0)
        return replace(self, matrix=moved)

    def __len__(self) -> int:
        return self.matrix.shape[1]


def prepare_bars(
    bars: pl.DataFrame, interval: str, *, expected: pl.Series | None = None, periods_per_year: float | None = None
) -> SweepBars:
    """Turn a frame of bars into engine arrays.

    Args:
        bars: `BARS` columns, sorted, one row a timestamp.
        interval: Their length.
        expected: Every open the calendar promises over the span; None for a market that never closes.
        periods_per_year: None for what the calendar gives: 365 days of bars where `expected` is None, otherwise the
            promised bars of the span over its years.

    Raises:
        InputError: Fewer than 4 bars, unsorted timestamps, or prices that are not positive and finite.
    """
    timestamps = bars["timestamp"].dt.replace_time_zone(None).to_numpy()
    matrix = bar_matrix(bars)
    if len(bars) < 4 or (np.diff(timestamps.astype(np.int64)) <= 0).any():
        raise InputError(f"sweep: expected at least 4 bars in order of time, found {len(bars)} or some out of order")
    if not (np.isfinite(matrix[:4]).all() and (matrix[:4] > 0).all()):
        raise InputError("sweep: expected positive finite prices, found others; run the quality flow on these bars")
    per_year = _periods_per_year(interval, expected) if periods_per_year is None else periods_per_year
    return SweepBars(timestamps, matrix, find_tradable(timestamps, interval, expected), per_year)


def find_tradable(timestamps: np.ndarray, interval: str, expected: pl.Series | None = None) -> np.ndarray:
    """Return which bars directly follow their predecessor on the calendar; the first bar never does.

    A night or weekend is no hole where `expected` leaves it out. Bars outside the calendar are not tradable.
    """
    tradable = np.zeros(len(timestamps), dtype=bool)
    if expected is None:
        step = interval_named(interval).step
        gaps = np.diff(timestamps)
        month = np.diff(timestamps.astype("datetime64[M]").astype(np.int64))
        tradable[1:] = month == 1 if step is None else gaps == np.timedelta64(step)
        return tradable
    promised = expected.dt.replace_time_zone(None).to_numpy().astype(timestamps.dtype)
    place = np.searchsorted(promised, timestamps)
    known = (place < len(promised)) & (promised[np.minimum(place, len(promised) - 1)] == timestamps)
    tradable[1:] = known[1:] & known[:-1] & (np.diff(place) == 1)
    return tradable


def _periods_per_year(interval: str, expected: pl.Series | None) -> float:
    step = interval_named(interval).step
    if expected is None:
        return 12.0 if step is None else YEAR / step
    span: timedelta = expected.max() - expected.min()  # type: ignore[operator]
    return (len(expected) - 1) * (YEAR / span) if span else float("nan")
