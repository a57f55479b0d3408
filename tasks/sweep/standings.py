"""Where a running sweep stands: the best combinations so far and the map of the rest, in bounded memory.

In sample, before anything is certified or judged: something to watch while the chunks come in, never a result.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tasks.sweep.result import FIGURES

if TYPE_CHECKING:
    from tasks.sweep.grid import Grid
    from tasks.sweep.question import Question

#: How many combinations the table shows.
BEST = 10
_SHARPE = FIGURES.index("sharpe")


@dataclass(frozen=True)
class Standings:
    """What some chunks of a sweep have found; standings of other chunks of the same sweep add up with `merged`.

    Attributes:
        total: Combinations of the whole sweep.
        done: Combinations these figures come from.
        best: Up to `BEST` combinations by in-sample Sharpe ratio, best first: parameters, then `FIGURES`.
        axes: The one or two parameters with the most values; none where nothing varies.
        cells: A value of each axis → the best in-sample Sharpe ratio there; NaN where nothing traded.
    """

    total: int
    done: int = 0
    best: tuple[dict[str, float], ...] = ()
    axes: tuple[str, ...] = ()
    cells: Mapping[tuple[float, ...], float] = field(default_factory=dict)

    def merged(self, other: Standings) -> Standings:
        """Return the standings of both sets of chunks together."""
        cells = dict(self.cells)
        for place, sharpe in other.cells.items():
            cells[place] = float(np.fmax(cells.get(place, np.nan), sharpe))
        best = heapq.nlargest(BEST, (*self.best, *other.best), key=lambda row: row["sharpe"])
        return Standings(other.total, self.done + other.done, tuple(best), other.axes, cells)


def standings_of(question: Question, part: slice, figures: np.ndarray) -> Standings:
    """Return the standings of one chunk.

    Args:
        question: The sweep.
        part: The chunk's combinations.
        figures: What they came to, (combinations, segments, `engine.WIDTH`); the first segment is in sample.
    """
    grid, sharpe = question.grid, figures[:, 0, _SHARPE]
    traded = np.flatnonzero(~np.isnan(sharpe))
    order = traded[np.argsort(-sharpe[traded], kind="stable")][:BEST]
    axes = _axes(grid)
    places = grid.vectors[part][:, [grid.names.index(name) for name in axes]]
    return Standings(
        total=len(grid),
        done=part.stop - part.start,
        best=tuple(_row(grid, part.start + k, figures[k, 0]) for k in order.tolist()),
        axes=axes,
        cells=_highest(places, sharpe) if axes else {},
    )


def _axes(grid: Grid) -> tuple[str, ...]:
    levels = {name: len(np.unique(grid.vectors[:, k])) for k, name in enumerate(grid.names)}
    varied = sorted((name for name in grid.names if levels[name] > 1), key=lambda name: -levels[name])
    return tuple(varied[:2])


def _row(grid: Grid, index: int, figures: np.ndarray) -> dict[str, float]:
    return grid.sets[index].model_dump() | {name: float(figures[f]) for f, name in enumerate(FIGURES)}


def _highest(places: np.ndarray, sharpe: np.ndarray) -> dict[tuple[float, ...], float]:
    """Return the highest Sharpe ratio at each place, NaN only where there is no other."""
    distinct, code = np.unique(places, axis=0, return_inverse=True)
    highest = np.full(len(distinct), np.nan)
    np.fmax.at(highest, code.ravel(), sharpe)
    return dict(zip(map(tuple, distinct.tolist()), highest.tolist(), strict=True))
