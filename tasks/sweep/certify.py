"""Two engines, one truth: part of every sweep is run again in VectorBT and must agree, or the sweep fails."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tasks.errors import DisagreementError
from tasks.sweep import engine, run
from tasks.sweep.question import Question
from tasks.sweep.result import FIGURES

#: Relative to the figure, or absolute below 1.
TOLERANCE = 1e-9
#: Combinations drawn at random, besides the winners.
SAMPLE = 8


def certify(question: Question, figures: np.ndarray, winners: Iterable[int], *, seed: int = 0) -> list[int]:
    """Rerun winners and a random sample in VectorBT over every segment and compare all five figures.

    Returns:
        The combinations that were compared.

    Raises:
        DisagreementError: A figure differs by more than `TOLERANCE`; the message shows the first differing trade.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(question.grid), size=min(SAMPLE, len(question.grid)), replace=False)
    chosen = sorted({*winners, *drawn.tolist()})
    for part in run.chunks(len(chosen), len(question.bars)):
        picks = chosen[part]
        entries, exits = question.signals(picks)
        for s, segment in enumerate(question.segments):
            simulated = run.simulate(question.bars, entries, exits, question.costs, segment)
            _compare(question, picks, figures[picks, s, : len(FIGURES)], simulated, segment)
    return chosen


def _compare(question: Question, picks: list[int], found: np.ndarray, simulated: run.Simulated, segment: slice) -> None:
    expected = simulated.figures
    near = np.abs(found - expected) <= TOLERANCE * np.maximum(1.0, np.abs(expected))
    near |= np.isnan(found) & np.isnan(expected)
    if near.all():
        return
    k, f = (int(place[0]) for place in np.nonzero(~near))
    params = question.grid.sets[picks[k]].model_dump()
    raise DisagreementError(
        f"sweep of {question.symbol} {question.grid.strategy.name} {params}, bars {segment.start} to {segment.stop}: "
        f"expected VectorBT's {FIGURES[f]} {expected[k, f]!r}, the fused engine found {found[k, f]!r}; "
        f"{_first_difference(question, picks[k], simulated.trades[simulated.trades['col'] == k], segment)}. "
        f"The result is withheld; please report it with these bars and parameters."
    )


def _first_difference(question: Question, index: int, theirs: np.ndarray, segment: slice) -> str:
    """Return the first trade that only one engine made, or made otherwise, in words."""
    grid = question.grid.pick([index])
    rows = grid.rows(question.bars.matrix)
    ours = engine.trade_set(
        grid.strategy.signal, question.bars, rows, grid.use[0], grid.vectors[0], question.costs, segment
    )
    names = ("entry_idx", "exit_idx", "size", "entry_price", "exit_price", "pnl")
    listed = np.column_stack([theirs[name] for name in names]) if len(theirs) else np.empty((0, len(names)))
    mine = ours[:, [0, 1, 3, 4, 5, 7]]
    for k in range(max(len(mine), len(listed))):
        a = mine[k] if k < len(mine) else None
        b = listed[k] if k < len(listed) else None
        if a is None or b is None or not np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE):
            return f"the first differing trade is number {k}, {names}: fused {_told(a)}, VectorBT {_told(b)}"
    return "every trade is equal, so the difference is in how the figures are made"


def _told(trade: np.ndarray | None) -> str:
    return "has none" if trade is None else str([float(value) for value in trade])
