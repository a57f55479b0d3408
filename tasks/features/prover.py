"""Prove that columns do not see the future: a feature's, or a strategy's signals and fills.

A column is causal if hiding or changing what comes after a bar never changes its value at that bar. That is tried, not
read out of the code: the computation runs on the whole, on beginnings of it, and with the future changed, and the
values must agree. Four checks:

- ``prefix``: the bars up to a cut alone give the same values, at random cuts, in the warm-up, around events, and on
  bars with holes (where a backfill shows).
- ``future``: bars after the cut changed, up and down, change nothing before it. A column that claims to be known at its
  bar's *open* (a fill, a position) must not change with that bar's own high, low, close or volume either.
- ``availability``: bars of longer intervals that have not closed yet change nothing.
- ``warm_up``: computed from a later start, the values agree from the declared warm-up on.

It is evidence, not a theorem: a leak that acts on one bar in thousands and on none of the events can hide from the
cuts. What it reports is always real.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from tasks.errors import InputError, LookAheadError
from tasks.features.probes import Scene, change_future, change_unclosed, eventful_cuts, tear_holes

#: Relative to a value and to the column's usual size: above rounding, far below any effect of the changes made.
TOLERANCE = 1e-9
_FACTORS = (1.7, 0.6)
_MARGIN = 64

Compute = Callable[..., pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Subject:
    """A computation and what it claims.

    Attributes:
        name: For messages and the cache.
        compute: Bars → ``timestamp`` and columns, one row a bar. Where `longer` is given it is the second argument.
        warm_up: Bars before the first value; from there on it must not depend on where the data begins.
        days: Calendar days it looks back besides.
        interval: Of the bars; needed with `longer`.
        longer: Interval → its bars, for computations that join them.
        known_at_open: Columns that are known when their bar opens; the others are known at its close.
        holes: Whether it takes null values and missing bars.
        converges: False where independence of the beginning is not claimed: sums since then, averages slow to forget.
    """

    name: str
    compute: Compute
    warm_up: int
    days: int = 0
    interval: str | None = None
    longer: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    known_at_open: frozenset[str] = frozenset()
    holes: bool = True
    converges: bool = True


@dataclass(frozen=True, slots=True)
class Leak:
    """One value that changed though it should not have.

    Attributes:
        column: Which.
        check: ``prefix``, ``future``, ``availability`` or ``warm_up``.
        timestamp: The bar.
        value: Computed with everything there is.
        honest: Computed without (or with another) future; for ``warm_up`` from a later start.
        known_until: The last bar that was left as it is; for ``warm_up`` the start.
    """

    column: str
    check: str
    timestamp: datetime
    value: float
    honest: float
    known_until: datetime

    def __str__(self) -> str:
        known = f"{self.known_until:%Y-%m-%d %H:%M}"
        reason = {
            "prefix": f"with the bars after {known} hidden",
            "future": f"with the bars after {known} changed",
            "availability": f"with longer bars changed that close after that of {known}",
            "warm_up": f"from data that begins at {known}",
        }[self.check]
        bar = f"{self.column} at bar {self.timestamp:%Y-%m-%d %H:%M}"
        return f"{bar} is {self.value:.12g}, but {self.honest:.12g} {reason} ({self.check})"


@dataclass(frozen=True, slots=True)
class Proof:
    """What a run of the prover came to.

    Attributes:
        name: Of the subject.
        leaks: One a column and check, empty where all is well.
        bars: Bars it ran on.
        runs: How often the subject was computed.
        seconds: How long that took.
        cached: Whether it was looked up instead.
    """

    name: str
    leaks: tuple[Leak, ...]
    bars: int
    runs: int
    seconds: float
    cached: bool = False


def most_warm_up(bars: int) -> int:
    """Return the longest warm-up that can be tried on so many bars; negative where none can."""
    return bars // 2 - _MARGIN


def check(subject: Subject, bars: pl.DataFrame, *, seed: int = 0) -> Proof:
    """Run every check and return what was found.

    Args:
        subject: What to try.
        bars: Real bars; a hundred thousand take about a second.
        seed: Draws cuts and changes.

    Raises:
        InputError: There are too few bars for the subject's warm-up, or its rows are not those of the bars.
    """
    least = 2 * subject.warm_up + 2 * _MARGIN
    if subject.warm_up > most_warm_up(bars.height):
        raise InputError(f"prover: {subject.name}: expected at least {least} bars, found {bars.height}; take more bars")
    began, trial = time.perf_counter(), _Trial(subject, Scene(bars, subject.longer), np.random.default_rng(seed))
    found: dict[tuple[str, str], Leak] = {}
    for leak in trial.leaks():
        found.setdefault((leak.column, leak.check), leak)
    return Proof(subject.name, tuple(found.values()), bars.height, trial.runs, time.perf_counter() - began)


def prove(subject: Subject, bars: pl.DataFrame, *, seed: int = 0) -> Proof:
    """Run every check and return the proof.

    Raises:
        LookAheadError: A column saw the future; the message names it, the bar and both values. Whatever was going to
            use it must stop.
        InputError: As `check`.
    """
    proof = check(subject, bars, seed=seed)
    if proof.leaks:
        raise LookAheadError(f"{subject.name}: " + "; ".join(map(str, proof.leaks)))
    return proof


class _Trial:
    """One subject on one scene: the whole result, and everything that must agree with it."""

    def __init__(self, subject: Subject, scene: Scene, rng: np.random.Generator) -> None:
        self.subject, self.scene, self.rng, self.runs = subject, scene, rng, 0

    def leaks(self) -> Iterator[Leak]:
        size, warm_up = self.scene.bars.height, self.subject.warm_up
        whole = self.compute(self.scene)
        early = {1, 2, warm_up // 2, warm_up, warm_up + 1}
        inner = self.rng.integers(size // 10, size, 4)
        yield from self.cut(self.scene, whole, sorted({int(cut) for cut in (*early, *inner) if 0 < cut < size}))
        yield from self.changed(self.scene, whole, inner[:2])
        if self.subject.holes:
            yield from self.holes()
        yield from self.local()
        if self.subject.converges:
            yield from self.later_starts(whole)
        if self.subject.longer:
            yield from self.unclosed(whole)

    def compute(self, scene: Scene) -> pl.DataFrame:
        self.runs += 1
        subject = self.subject
        result = subject.compute(scene.bars, scene.longer) if subject.longer else subject.compute(scene.bars)
        if not result["timestamp"].equals(scene.bars["timestamp"]):
            raise InputError(
                f"prover: {subject.name}: expected one row a bar, found {result.height} of {scene.bars.height}"
            )
        return result

    def cut(self, scene: Scene, whole: pl.DataFrame, cuts: list[int]) -> Iterator[Leak]:
        for cut in cuts:
            shorter = self.compute(scene.before(cut, self.subject.interval))
            yield from self.differences("prefix", whole[:cut], shorter, scene.bars["timestamp"][cut - 1])

    def changed(
        self, scene: Scene, whole: pl.DataFrame, cuts: np.ndarray, factors: tuple[float, ...] = _FACTORS
    ) -> Iterator[Leak]:
        opens = self.subject.known_at_open
        for cut in map(int, cuts):
            known = scene.bars["timestamp"][max(cut - 1, 0)]
            for factor in factors:
                other = self.compute(change_future(scene, cut, factor, self.rng, keep_open=bool(opens)))
                yield from self.differences("future", whole[:cut], other[:cut], known)
                if opens and cut < whole.height:
                    at_open = (frame[cut : cut + 1].select("timestamp", *sorted(opens)) for frame in (whole, other))
                    yield from self.differences("future", next(at_open), next(at_open), known)

    def holes(self) -> Iterator[Leak]:
        scene, after = tear_holes(self.scene, self.rng)
        whole = self.compute(scene)
        yield from self.cut(scene, whole, self.rng.permutation(after)[:3].tolist())
        yield from self.slices(scene, self.rng.permutation(after)[:8])

    def local(self) -> Iterator[Leak]:
        """Try many cuts on short stretches, where a run costs little: random ones and around events."""
        count = int(np.clip(1_000_000 // self.reach(self.scene.bars.height - 1), 8, 48))
        events = self.rng.permutation(eventful_cuts(self.scene.bars, 8))[:count]
        yield from self.slices(
            self.scene, np.concatenate([events, self.rng.integers(1, self.scene.bars.height, count)])
        )

    def slices(self, scene: Scene, cuts: np.ndarray) -> Iterator[Leak]:
        for number, cut in enumerate(map(int, cuts)):
            start = max(cut - self.reach(cut, scene), 0)
            part = scene.part(start, cut + _MARGIN)
            whole = self.compute(part)
            if cut > start:
                yield from self.cut(part, whole, [cut - start])
            factor = _FACTORS[number % len(_FACTORS)]
            yield from self.changed(part, whole, np.array([cut - start]), (factor,))

    def reach(self, row: int, scene: Scene | None = None) -> int:
        """Return how many bars before `row` a slice must hold for the subject to be warm at its end."""
        timestamps = (scene or self.scene).bars["timestamp"]
        row = min(row, len(timestamps) - 1)
        first = timestamps.search_sorted(timestamps[row] - timedelta(days=self.subject.days))
        return max(self.subject.warm_up, row - int(first)) + _MARGIN

    def later_starts(self, whole: pl.DataFrame) -> Iterator[Leak]:
        timestamps, size = self.scene.bars["timestamp"], self.scene.bars.height
        warm_up = self.subject.warm_up
        for start in map(int, self.rng.integers(1, size // 2 - warm_up, 3)):
            days = timestamps.search_sorted(timestamps[start] + timedelta(days=self.subject.days))
            first = max(start + warm_up, int(days))
            later = self.compute(self.scene.part(start, size))
            yield from self.differences("warm_up", whole[first:], later[first - start :], timestamps[start])

    def unclosed(self, whole: pl.DataFrame) -> Iterator[Leak]:
        interval = self.subject.interval
        if interval is None:
            raise InputError(f"prover: {self.subject.name}: expected the interval of the bars beside longer ones")
        for cut in map(int, self.rng.integers(1, self.scene.bars.height, 8)):
            for factor in _FACTORS:
                other = self.compute(change_unclosed(self.scene, cut, interval, factor, self.rng))
                known = self.scene.bars["timestamp"][cut - 1]
                yield from self.differences("availability", whole[:cut], other[:cut], known)

    def differences(self, name: str, whole: pl.DataFrame, other: pl.DataFrame, known: datetime) -> Iterator[Leak]:
        """Yield for each column the last row where both differ."""
        for column in whole.columns:
            if column == "timestamp":
                continue
            value, honest = (frame[column].cast(pl.Float64).to_numpy() for frame in (whole, other))
            rows = np.flatnonzero(_differ(value, honest))
            if rows.size:
                row = int(rows[-1])
                yield Leak(column, name, whole["timestamp"][row], float(value[row]), float(honest[row]), known)


def _differ(value: np.ndarray, honest: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        sizes = np.abs(value[np.isfinite(value)])
        usual = float(np.median(sizes)) if sizes.size else 0.0
        apart = ~(np.abs(value - honest) <= TOLERANCE * (np.maximum(np.abs(value), np.abs(honest)) + usual))
    return apart & ~(np.isnan(value) & np.isnan(honest)) & (value != honest)
