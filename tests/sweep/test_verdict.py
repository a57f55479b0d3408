"""The verdict: what it passes, what it does not, and what it says."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tasks.sweep.verdict import Verdict, judge

YEAR = 252


def verdict_on(in_sample: np.ndarray, out_of_sample: np.ndarray, sharpes: np.ndarray, **other) -> Verdict:
    """Judge with everything else unsuspicious."""
    told = {"trades": 50, "total_return": 0.2, "benchmark_return": 0.1, "periods_per_year": YEAR, **other}
    return judge(in_sample, out_of_sample, sharpes, **told)


def choose_the_best(seed: int, edge: float = 0.0, trials: int = 1_000, bars: int = 100) -> Verdict:
    """Make `trials` return series, the first with an edge (in deviations a bar), choose in sample, and judge."""
    rng = np.random.default_rng(seed)
    inside = 0.01 * rng.standard_normal((trials, bars), dtype=np.float32)
    inside[0] += 0.01 * edge
    sharpes = inside.mean(axis=1) / inside.std(axis=1, ddof=1)
    best = int(np.argmax(sharpes))
    outside = 0.01 * (rng.standard_normal(bars) + (edge if best == 0 else 0.0))
    return verdict_on(inside[best].astype(np.float64), outside, sharpes.astype(np.float64))


def test_noise_passes_at_most_one_time_in_twenty() -> None:
    """The best of 1,000 skill-less trials, 200 times over: at most 5 % pass (measured: none)."""
    assert sum(choose_the_best(seed).passed for seed in range(200)) <= 10


def test_a_real_edge_passes_four_times_in_five() -> None:
    """One trial of 1,000 with a true ratio of 0.6 a bar over 100 bars each side, t = 6: at least 80 % pass."""
    assert sum(choose_the_best(seed, 0.6).passed for seed in range(100)) >= 80


def test_more_trials_ask_for_more() -> None:
    """The same winner out of ten passes and out of a million does not: the count is what the verdict knows of luck."""
    rng = np.random.default_rng(4)
    inside = rng.normal(0.0021, 0.01, 250)
    outside = rng.normal(0.003, 0.01, 250)
    spread = np.random.default_rng(0).normal(0, 1 / math.sqrt(250), 1_000_000)
    few, many = verdict_on(inside, outside, spread[:10]), verdict_on(inside, outside, spread)
    assert few.passed
    assert "over 50 trades, is above zero with more than 99.9 % confidence" in few.sentence
    assert "survives:" in few.sentence
    assert not many.passed
    assert "the best of 1,000,000 trials by luck alone" in many.sentence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trades": 3}, "3 trades out of sample are too few"),
        ({"overfitting": 0.7}, "in 70 % of all splits"),
    ],
)
def test_each_doubt_is_said(change, words) -> None:
    """Anything that speaks against the winner is in the sentence."""
    rng = np.random.default_rng(4)
    inside, outside = rng.normal(0.003, 0.01, (2, 250))
    assert verdict_on(inside, outside, np.zeros(3)).passed
    found = verdict_on(inside, outside, np.zeros(3), **change)
    assert not found.passed
    assert found.sentence.startswith("Nothing survives")
    assert words in found.sentence


def test_losing_and_short_records_are_told_apart() -> None:
    """A loss is a loss; a gain too short to tell names the record it would need."""
    rng = np.random.default_rng(4)
    inside = rng.normal(0.003, 0.01, 250)
    noise = rng.normal(0, 0.01, 250)
    losing = verdict_on(inside, noise - noise.mean() - 0.001, np.zeros(3))
    short = verdict_on(inside, noise - noise.mean() + 0.0002, np.zeros(3))
    assert "it loses out of sample" in losing.sentence
    assert "bars to be told from zero" in short.sentence
    assert "(Sharpe −" in losing.sentence
    assert re.search(r"would need \d{1,3}(,\d{3})+ bars", short.sentence)
    assert short.details["minimum_track_record_bars"] > 250


def test_an_account_that_was_lost_never_passes() -> None:
    """A short that loses more than all and then comes back has the best of ratios, and no account any more."""
    rng = np.random.default_rng(4)
    good = rng.normal(0.003, 0.01, 250)
    ruined = good.copy()
    ruined[100:102] = -1.2, 9.0
    assert ruined.mean() / ruined.std() > 0.04
    assert verdict_on(good, good, np.zeros(3)).passed
    for inside, outside, words in ((good, ruined, "out of sample"), (ruined, good, "in sample")):
        found = verdict_on(inside, outside, np.zeros(3))
        assert found.sentence.startswith(f"Nothing survives: the whole account was lost {words}")
        assert not found.passed
    assert math.isnan(verdict_on(good, ruined, np.zeros(3)).details["out_of_sample_sharpe"])


def test_what_never_trades_never_passes() -> None:
    """Flat returns have no ratio; the verdict says too few trades."""
    found = verdict_on(np.zeros(100), np.zeros(100), np.full(5, np.nan), trades=0, total_return=0.0)
    assert not found.passed
    assert "0 trades" in found.sentence
