"""A sweep's question, prepared: everything that decides its answer, and a name made of exactly that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from tasks.sweep.costs import Costs
from tasks.sweep.grid import Grid
from tasks.sweep.market import SweepBars
from tasks.sweep.windows import Window, WindowPlan

#: Equal parts of the sample that the probability of backtest overfitting is estimated from: 252 splits in halves.
BLOCKS = 10
#: Changes whenever the engine's arithmetic does, so that no older checkpoint is mixed into a newer sweep.
ENGINE_VERSION = 5


@dataclass(frozen=True)
class Question:
    """The engines and the judge read this and nothing else."""

    symbol: str
    interval: str
    bars: SweepBars
    grid: Grid
    windows: tuple[Window, ...]
    plan: WindowPlan
    costs: Costs

    @property
    def in_sample(self) -> slice:
        """The span the winner is chosen on: the train part of the first window, before every test."""
        return slice(self.windows[0].train_start, self.windows[0].train_stop)

    @property
    def out_of_sample(self) -> slice:
        """Every test part, which lie side by side."""
        return slice(self.windows[0].test_start, self.windows[-1].test_stop)

    @property
    def trains(self) -> tuple[slice, ...]:
        """The train part of each window; the first is the in-sample span."""
        return tuple(slice(window.train_start, window.train_stop) for window in self.windows)

    @property
    def tests(self) -> tuple[slice, ...]:
        """The test part of each window."""
        return tuple(slice(window.test_start, window.test_stop) for window in self.windows)

    @property
    def blocks(self) -> tuple[slice, ...]:
        """The sample as equal blocks, each less the purge and embargo at its start (none where bars are few)."""
        first, stop = self.in_sample.start, self.out_of_sample.stop
        gap = self.windows[0].test_start - self.windows[0].train_stop
        if stop - first < 4 * BLOCKS:
            return ()
        borders = [first + (stop - first) * k // BLOCKS for k in range(BLOCKS + 1)]
        return tuple(slice(a + min(gap, (b - a) // 2), b) for a, b in pairwise(borders))

    @property
    def segments(self) -> tuple[slice, ...]:
        """Every span the grid is run over: train parts, the out-of-sample span, blocks."""
        return (*self.trains, self.out_of_sample, *self.blocks)

    @cached_property
    def key(self) -> str:
        """Name the question by its content: the same question has the same name on every machine."""
        strategy = self.grid.strategy
        told = [self.symbol, self.interval, strategy.name, strategy.code, ENGINE_VERSION, self.bars.periods_per_year]
        models = [params.model_dump() for params in self.grid.sets]
        text = json.dumps([told, models, self.costs.model_dump(), self.plan.model_dump()], sort_keys=True)
        arrays = (self.bars.timestamps, self.bars.matrix, self.bars.tradable)
        return hashlib.sha256(text.encode() + b"".join(array.tobytes() for array in arrays)).hexdigest()

    def signals(self, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return (combinations, bars) entries and exits of the chosen combinations, over all bars."""
        shape = (len(chosen), len(self.bars))
        entries, exits = np.empty(shape, dtype=bool), np.empty(shape, dtype=bool)
        write, grid = self.grid.strategy.signal, self.grid.pick(chosen)
        rows = grid.rows(self.bars.matrix)
        for k in range(len(chosen)):
            write(self.bars.matrix, rows, grid.use[k], grid.vectors[k], entries[k], exits[k])
        return entries, exits


def trial_key(params: Mapping[str, Any], costs: Mapping[str, Any], code: str) -> str:
    """Name one trial: the same parameters, costs and strategy code are the same trial, however often they are run."""
    return json.dumps([params, costs, code], sort_keys=True)
