"""Overfitting and chance: against brute force, and what they say of noise and of a real edge."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from tasks.sweep.chance import bootstrap_paths, quantiles, random_entry_growth, reshuffled_drawdowns
from tasks.sweep.costs import Costs
from tasks.sweep.overfitting import (
    combinatorial_sharpes,
    neighbours,
    overfitting_logits,
    overfitting_probability,
    plateau_score,
)


def by_definition(returns: np.ndarray, blocks: int) -> list[float]:
    """Return the CSCV logits from the matrix of returns itself, split by split, in plain loops."""
    parts = np.split(returns, blocks, axis=1)
    logits = []
    for half in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[k] for k in half], axis=1)
        outside = np.concatenate([parts[k] for k in range(blocks) if k not in half], axis=1)
        ratios = [row.mean() / row.std(ddof=1) for row in inside]
        judged = [row.mean() / row.std(ddof=1) for row in outside]
        reached = judged[int(np.argmax(ratios))]
        share = sum(other <= reached for other in judged) / (len(judged) + 1)
        logits.append(math.log(share / (1 - share)))
    return logits


def block_sums(returns: np.ndarray, blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the engine hands over: sums, sums of squares, counts."""
    parts = np.split(returns, blocks, axis=1)
    sums, squares = (np.column_stack([(part**power).sum(axis=1) for part in parts]) for power in (1, 2))
    return sums, squares, np.array([float(part.shape[1]) for part in parts])


@pytest.mark.parametrize("blocks", [2, 4, 6])
def test_logits_equal_brute_force(blocks) -> None:
    """Sums of returns a block give the same logits as the returns themselves."""
    returns = np.random.default_rng(blocks).normal(0.0002, 0.01, (17, 240))
    np.testing.assert_allclose(overfitting_logits(*block_sums(returns, blocks)), by_definition(returns, blocks))


def test_held_out_ratios_equal_brute_force() -> None:
    """Each pair of blocks held out: the best of the other blocks, judged on the pair."""
    returns = np.random.default_rng(8).normal(0.0002, 0.01, (9, 60))
    parts = np.split(returns, 5, axis=1)
    expected = []
    for test in combinations(range(5), 2):
        inside = np.concatenate([parts[k] for k in range(5) if k not in test], axis=1)
        outside = np.concatenate([parts[k] for k in test], axis=1)
        best = int(np.argmax(inside.mean(axis=1) / inside.std(axis=1, ddof=1)))
        expected.append(outside[best].mean() / outside[best].std(ddof=1))
    np.testing.assert_allclose(combinatorial_sharpes(*block_sums(returns, 5)), expected)
    assert len(combinatorial_sharpes(np.zeros((5, 0)), np.zeros((5, 0)), np.zeros(0))) == 0


def test_noise_is_overfitted_half_of_the_time_and_an_edge_is_not() -> None:
    """Choosing among skill-less combinations is a coin toss; one with an edge is found again."""
    rng = np.random.default_rng(5)
    noise = [overfitting_probability(*block_sums(rng.normal(0, 0.01, (60, 500)), 10)) for _ in range(40)]
    assert 0.4 < np.mean(noise) < 0.6
    skilled = rng.normal(0, 0.01, (60, 500))
    skilled[7] += 0.004
    assert overfitting_probability(*block_sums(skilled, 10)) == 0.0


def test_too_little_to_split_gives_no_probability() -> None:
    """One combination, no blocks, or no trade at all: NaN, neither a pass nor a doubt."""
    assert math.isnan(overfitting_probability(np.zeros((5, 10)), np.zeros((5, 10)), np.full(10, 5.0)))
    assert math.isnan(overfitting_probability(np.zeros((1, 10)), np.ones((1, 10)), np.full(10, 5.0)))
    assert math.isnan(overfitting_probability(np.zeros((5, 0)), np.ones((5, 0)), np.zeros(0)))


def test_a_spike_has_a_low_plateau_score() -> None:
    """Neighbours are one step away in one parameter; their median over the winner is the score."""
    grid = pl.DataFrame([{"fast": f, "slow": s} for f in (5, 10, 20) for s in (30, 60, 90)])
    assert sorted(neighbours(grid, 4)) == [1, 3, 5, 7]
    assert sorted(neighbours(grid, 0)) == [1, 3]
    spike, plain = np.full(9, 0.1), np.full(9, 1.8)
    spike[4] = plain[4] = 2.0
    assert plateau_score(grid, spike, 4) == pytest.approx(0.05)
    assert plateau_score(grid, plain, 4) == pytest.approx(0.9)
    assert math.isnan(plateau_score(grid, -spike, 4))


def test_random_entries_trade_as_much_and_know_nothing() -> None:
    """On a trend, trades placed on its rises beat nearly all random ones; costs are in both."""
    rng = np.random.default_rng(2)
    steps = np.where(np.arange(2_000) % 100 < 30, 0.002, -0.001) + rng.normal(0, 0.001, 2_000)
    opens = 100 * np.exp(np.concatenate([[0], np.cumsum(steps)]))
    trades = np.array([[first, first + 30, 1] for first in range(100, 1_900, 100)])
    own, others = random_entry_growth(trades, opens, Costs(), rng, 200)
    assert (others < own).mean() > 0.99
    free, _ = random_entry_growth(trades, opens, Costs(fee_bps=0, slippage_bps=0), rng, 1)
    assert free == pytest.approx(np.log(opens[trades[:, 1]] / opens[trades[:, 0]]).sum())
    assert free > own
    short, _ = random_entry_growth(trades * [1, 1, -1], opens, Costs(fee_bps=0, slippage_bps=0), rng, 1)
    assert short == pytest.approx(np.log(2 - opens[trades[:, 1]] / opens[trades[:, 0]]).sum())


def test_the_bootstrap_keeps_neighbours_together() -> None:
    """Blocks have the mean length asked for, and every value comes from the sample."""
    rng = np.random.default_rng(3)
    sample = np.arange(1_000, dtype=float)
    paths = bootstrap_paths(sample, 50, rng, mean_block=10)
    breaks = (np.diff(paths, axis=1) % 1_000 != 1).mean()
    assert breaks == pytest.approx(0.1, rel=0.1)
    assert paths.mean() == pytest.approx(499.5, rel=0.05)
    again = bootstrap_paths(sample, 50, np.random.default_rng(3), mean_block=10)
    assert np.array_equal(paths, again)


def test_reshuffling_changes_the_path_but_not_the_end() -> None:
    """Drawdowns differ by order; winners alone have none."""
    trades = np.array([0.1, -0.2, 0.05, -0.1, 0.3])
    worst = reshuffled_drawdowns(trades, np.random.default_rng(0), 200)
    assert worst.min() == pytest.approx(0.8 * 0.9 - 1)
    assert len(set(worst.round(6))) == 4
    assert not reshuffled_drawdowns(np.array([0.1, 0.2]), np.random.default_rng(0)).any()
    assert not reshuffled_drawdowns(np.empty(0), np.random.default_rng(0)).any()


def test_bands_of_nothing_are_nan() -> None:
    """No finite value, no quantile."""
    assert all(math.isnan(value) for value in quantiles(np.array([np.nan])).values())
