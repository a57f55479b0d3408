"""A whole grid through the fused engine: in chunks that fit a memory budget, each kept as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from tasks.sweep import engine
from tasks.sweep.grid import Grid
from tasks.sweep.question import Question

#: What the indicator rows of one chunk may take. The rest of a sweep is some rows of bars a thread.
MEMORY_MB = 128
#: Most combinations a chunk holds, so that a killed sweep loses little.
CHUNK = 5_000


#: Told of every chunk as soon as it is done: its combinations and their figures.
Heard = Callable[[slice, np.ndarray], None]


class Checkpoints(Protocol):
    """Where finished chunks are kept until their sweep is whole."""

    def read(self, key: str) -> dict[int, np.ndarray]:
        """Return the chunks kept for a question: first combination → figures."""
        ...

    def keep(self, key: str, first: int, figures: np.ndarray) -> None:
        """Keep one chunk, atomically."""
        ...


def plan_chunks(grid: Grid, bars: int, memory_mb: float = MEMORY_MB, most: int = CHUNK) -> Iterator[slice]:
    """Cut a grid into runs of combinations whose distinct indicator rows fit the budget (at least one a run).

    The cut depends on nothing but its arguments, so that a resumed sweep meets the same chunks.
    """
    capacity = max(1, int(memory_mb * 2**20 / (8 * bars)))
    first, seen = 0, set[int]()
    for k, reads in enumerate(grid.use.tolist()):
        if k > first and (len(seen.union(reads)) > capacity or k - first >= most):
            yield slice(first, k)
            first, seen = k, set()
        seen.update(reads)
    yield slice(first, len(grid))


def run_grid(
    question: Question,
    *,
    checkpoints: Checkpoints | None = None,
    heard: Heard | None = None,
    memory_mb: float = MEMORY_MB,
    chunk: int = CHUNK,
    threads: int | None = None,
) -> np.ndarray:
    """Return (combinations, segments, `engine.WIDTH`) figures; chunks already kept are heard of, but not run again."""
    segments = np.array([[part.start, part.stop] for part in question.segments], dtype=np.int64)
    done = checkpoints.read(question.key) if checkpoints else {}
    parts = []
    for part in plan_chunks(question.grid, len(question.bars), memory_mb, chunk):
        figures = done.get(part.start)
        if figures is None or len(figures) != part.stop - part.start:  # kept under another plan
            figures = run_chunk(question, part, segments, threads=threads)
            if checkpoints:
                checkpoints.keep(question.key, part.start, figures)
        if heard:
            heard(part, figures)
        parts.append(figures)
    return np.concatenate(parts)


def run_chunk(question: Question, chunk: slice, segments: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """Run the combinations of one chunk with rows of their own."""
    return run_sets(question.grid.pick(range(chunk.start, chunk.stop)), question, segments, threads=threads)


def run_sets(grid: Grid, question: Question, segments: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """Run every combination of `grid` over the bars and costs of `question`."""
    bars, rows, signal = question.bars, grid.rows(question.bars.matrix), grid.strategy.signal
    return engine.run_sets(signal, bars, rows, grid.use, grid.vectors, question.costs, segments, threads=threads)
