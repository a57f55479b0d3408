"""Kernels keep their promises about rounding, NaN and inputs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from tasks.errors import InputError
from tasks.features import kernels


def exact_mean(window: np.ndarray) -> float:
    """Return the mean in rational arithmetic, rounded once."""
    return float(sum(map(Fraction, window.tolist())) / len(window))


@pytest.mark.parametrize("window", [1, 3, 7, 20, 49, 200])
def test_a_rolling_mean_is_the_exact_mean_rounded_once(window: int) -> None:
    """Prices on a tick grid, with a flat stretch and a spike, give the rational mean's nearest double everywhere."""
    prices = np.random.default_rng(1).integers(1, 2000, 800) * 0.01
    prices[300:550] = 7.77
    prices[600] = 1e12
    means = kernels.rolling_mean(prices, window)
    expected = [exact_mean(prices[i - window + 1 : i + 1]) for i in range(window - 1, prices.size)]
    np.testing.assert_array_equal(means[window - 1 :], expected)


def test_equal_windows_have_equal_means_whatever_came_before() -> None:
    """Permuted windows, and means of 5 and 20 bars that are equal numbers, are equal bits: no random crossings."""
    rng = np.random.default_rng(2)
    block = rng.normal(100, 1, 20)
    series = np.concatenate([rng.normal(1e6, 1e3, 500), block, rng.normal(0, 1e-3, 300), rng.permutation(block)])
    means = kernels.rolling_mean(series, 20)
    assert means[519] == means[-1]
    ties = np.tile(rng.normal(50, 5, 5), 40)
    np.testing.assert_array_equal(kernels.rolling_mean(ties, 5)[19:], kernels.rolling_mean(ties, 20)[19:])


def test_a_rolling_std_keeps_its_digits() -> None:
    """On 1e9 + N(0, 0.01), also after a 1e12 spike, the worst relative error stays below 2e-11."""
    values = 1e9 + np.random.default_rng(3).normal(0, 0.01, 20_000)
    values[5_000] = 1e12
    windows = np.lib.stride_tricks.sliding_window_view(values, 20).astype(np.longdouble)
    centred = windows - windows.mean(axis=1, keepdims=True)
    expected = np.sqrt((centred**2).sum(axis=1) / 19)
    found = kernels.rolling_std(values, 20)[19:]
    assert np.max(np.abs(found - expected) / expected) < 2e-11


def test_a_flat_window_has_no_deviation() -> None:
    """Flat windows have a standard deviation of exactly 0, right after a noisy stretch too."""
    values = np.concatenate([np.random.default_rng(4).normal(1e6, 1, 1000), np.full(500, 123.456)])
    assert np.all(kernels.rolling_std(values, 50)[1049:] == 0.0)


def test_a_window_below_one_is_refused() -> None:
    """A window of 0 bars is an input error, not an empty average."""
    for kernel in (kernels.rolling_mean, kernels.rolling_std, kernels.rolling_max, kernels.ewma_mean):
        with pytest.raises(InputError, match="at least 1 bar"):
            kernel(np.ones(5), 0)


@pytest.mark.parametrize(("window", "fraction"), [(1, 0.5), (2, 0.5), (7, 0.3), (20, 0.5), (100, 0.9), (100, 1.0)])
def test_a_quantile_of_tied_values_equals_pandas(window: int, fraction: float) -> None:
    """Ranks stay right among equal values, negative zeros and holes."""
    values = np.random.default_rng(5).integers(-2, 3, 1500) * 1.0
    values[values == 0] *= -1.0
    values[[300, 700, 701]], values[900:1050] = np.nan, np.inf
    expected = pd.Series(np.where(np.isfinite(values), values, np.nan)).rolling(window).quantile(fraction)
    np.testing.assert_allclose(kernels.rolling_quantile(values, window, fraction), expected, atol=1e-12)
