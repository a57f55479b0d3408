"""The luck statistics against the examples printed in their papers, and against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tasks.sweep.statistics import (
    Moments,
    deflated_sharpe,
    expected_maximum_sharpe,
    minimum_track_record,
    moments,
    probabilistic_sharpe,
)

YEAR = math.sqrt(250)


def test_probabilistic_sharpe_equals_the_published_example() -> None:
    """Bailey and López de Prado 2012: 24 months at 0.458: 0.982 if normal, 0.913 with its skewness and fat tails."""
    assert probabilistic_sharpe(Moments(24, 0.458, 0.0, 3.0)) == pytest.approx(0.982, abs=5e-4)
    assert probabilistic_sharpe(Moments(24, 0.458, -2.448, 10.164)) == pytest.approx(0.913, abs=5e-4)


def test_deflated_sharpe_equals_the_published_example() -> None:
    """Bailey and López de Prado 2014: Sharpe 2.5 over 1,250 days, 100 trials of variance 1/2: 0.1132 and 0.9004."""
    found = Moments(1250, 2.5 / YEAR, -3.0, 10.0)
    assert expected_maximum_sharpe(100, 0.5 / 250) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(found, 100, 0.5 / 250) == pytest.approx(0.9004, abs=5e-5)
    assert deflated_sharpe(found, 46, 0.5 / 250) == pytest.approx(0.9505, abs=5e-5)
    assert deflated_sharpe(Moments(1250, 2.5 / YEAR, 0.0, 3.0), 88, 0.5 / 250) == pytest.approx(0.9505, abs=5e-5)


def test_the_expected_maximum_is_what_simulation_gives() -> None:
    """The best of N normal draws, drawn ten thousand times, has the mean the formula promises (within 3 %)."""
    rng = np.random.default_rng(0)
    for trials in (10, 100, 1_000):
        drawn = rng.normal(0, 0.1, (10_000, trials)).max(axis=1).mean()
        assert expected_maximum_sharpe(trials, 0.01) == pytest.approx(drawn, rel=0.03)
    assert expected_maximum_sharpe(1, 0.01) == 0.0


def test_minimum_track_record_is_where_the_probability_reaches_its_confidence() -> None:
    """A record exactly that long gives exactly that confidence; more trials need more of it."""
    for skewness, kurtosis in ((0.0, 3.0), (-2.448, 10.164)):
        found = Moments(24, 0.458, skewness, kurtosis)
        length = minimum_track_record(found)
        assert probabilistic_sharpe(Moments(length, 0.458, skewness, kurtosis)) == pytest.approx(0.95)  # type: ignore[arg-type]
        assert minimum_track_record(found, benchmark=0.1) > length
    assert minimum_track_record(Moments(24, -0.1, 0.0, 3.0)) == math.inf


def test_moments_are_the_textbook_ones() -> None:
    """Skewness and kurtosis are SciPy's, the ratio NumPy's."""
    drawn = np.random.default_rng(1).standard_t(4, 5_000) / 100
    found = moments(drawn)
    assert found.count == 5_000
    assert found.sharpe == pytest.approx(drawn.mean() / drawn.std(ddof=1))
    assert found.skewness == pytest.approx(stats.skew(drawn))
    assert found.kurtosis == pytest.approx(stats.kurtosis(drawn, fisher=False))


def test_returns_that_never_vary_have_no_ratio() -> None:
    """Zero deviation gives NaN all the way, never infinity and never a pass."""
    flat = moments(np.zeros(100))
    assert math.isnan(flat.sharpe)
    assert math.isnan(probabilistic_sharpe(flat))
    assert math.isnan(deflated_sharpe(flat, 100, 0.1))
    assert math.isnan(minimum_track_record(flat))
