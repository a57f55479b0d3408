"""Does choosing help? The probability of backtest overfitting, and whether the winner stands alone in its grid.

Source: Bailey, Borwein, López de Prado and Zhu, "The Probability of Backtest Overfitting" (2015): combinatorially
symmetric cross-validation, CSCV.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import polars as pl


def overfitting_logits(sums: np.ndarray, squares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return one logit a split of the blocks into two halves; at or below zero the chosen one was below the median.

    In each split the combination with the best Sharpe ratio on one half is ranked by its ratio on the other. Sums of
    returns are enough for that, so no matrix of returns is needed.

    Args:
        sums: (combinations, blocks) sums of returns.
        squares: (combinations, blocks) sums of squared returns.
        counts: (blocks,) returns a block.
    """
    blocks = len(counts)
    halves = np.zeros((math.comb(blocks, blocks // 2), blocks))
    for row, half in enumerate(combinations(range(blocks), blocks // 2)):
        halves[row, list(half)] = 1.0
    inside = _sharpes(sums, squares, counts, halves)
    outside = _sharpes(sums, squares, counts, 1.0 - halves)
    chosen = np.argmax(np.nan_to_num(inside, nan=-np.inf), axis=0)
    outside = np.nan_to_num(outside, nan=0.0)  # never traded there: neither gained nor lost
    reached = outside[chosen, np.arange(len(halves))]
    rank = (outside < reached).sum(axis=0) + ((outside == reached).sum(axis=0) + 1) / 2
    share = rank / (len(sums) + 1)
    return np.log(share / (1 - share))


def overfitting_probability(sums: np.ndarray, squares: np.ndarray, counts: np.ndarray) -> float:
    """Return the share of splits in which the in-sample best is no better than the median out of sample.

    NaN for fewer than two combinations or blocks, and where no combination ever traded.
    """
    if len(counts) < 2 or len(sums) < 2 or not squares.any():
        return math.nan
    return float(np.mean(overfitting_logits(sums, squares, counts) <= 0))


def combinatorial_sharpes(
    sums: np.ndarray, squares: np.ndarray, counts: np.ndarray, *, test_blocks: int = 2
) -> np.ndarray:
    """Return the out-of-sample Sharpe ratio, per period, of every way to hold out `test_blocks` blocks.

    Combinatorial purged cross-validation: the best combination on all other blocks, judged on those held out; a flat
    one counts as 0. The blocks come purged. Source: López de Prado, "Advances in Financial Machine Learning" (2018),
    chapter 12.
    """
    blocks = len(counts)
    if blocks <= test_blocks or len(sums) == 0:
        return np.empty(0)
    held = np.zeros((math.comb(blocks, test_blocks), blocks))
    for row, test in enumerate(combinations(range(blocks), test_blocks)):
        held[row, list(test)] = 1.0
    inside = _sharpes(sums, squares, counts, 1.0 - held)
    chosen = np.argmax(np.nan_to_num(inside, nan=-np.inf), axis=0)
    outside = _sharpes(sums, squares, counts, held)
    return np.nan_to_num(outside[chosen, np.arange(len(held))], nan=0.0)


def _sharpes(sums: np.ndarray, squares: np.ndarray, counts: np.ndarray, halves: np.ndarray) -> np.ndarray:
    total, square, count = sums @ halves.T, squares @ halves.T, counts @ halves.T
    variance = (square - total**2 / count) / (count - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, total / count / np.sqrt(variance), np.nan)


def neighbours(grid: pl.DataFrame, index: int) -> list[int]:
    """Return the combinations that differ from one by a single step of a single parameter.

    Args:
        grid: Parameter columns only, one row a combination.
        index: Row of the combination.
    """
    steps = np.column_stack([grid[name].rank("dense").cast(pl.Int64).to_numpy() for name in grid.columns])
    distance = np.abs(steps - steps[index]).sum(axis=1)
    return np.flatnonzero(distance == 1).tolist()


def plateau_score(grid: pl.DataFrame, sharpes: np.ndarray, index: int) -> float:
    """Return the median Sharpe ratio of the winner's neighbours over its own: near 1 on a plateau, low on a spike.

    NaN where it has no neighbours or is not positive.
    """
    around = sharpes[neighbours(grid, index)]
    if not len(around) or not sharpes[index] > 0:
        return math.nan
    return float(np.median(np.nan_to_num(around, nan=0.0)) / sharpes[index])
