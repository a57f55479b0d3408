"""Every kernel equals its slow twin, leaves its inputs alone and has a twin at all."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from tasks.features import kernels, reference

SIZE = 700


@np.errstate(all="ignore")
def ohlcv(seed: int) -> dict[str, np.ndarray]:
    """Return arrays with what breaks kernels: holes, infinities, flat stretches, quiet bars, a spike."""
    rng = np.random.default_rng(seed)
    close = 100 + np.cumsum(rng.normal(0, 0.5, SIZE))
    close[200:280] = close[200]
    opens = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opens, close) + rng.exponential(0.2, SIZE)
    low = np.minimum(opens, close) - rng.exponential(0.2, SIZE)
    high[200:280] = low[200:280] = close[200]
    volume = rng.lognormal(0, 1, SIZE) * (rng.random(SIZE) > 0.05)
    volume[330:360] = 0.0
    close[400], volume[430], high[460], close[470], close[520] = np.nan, np.nan, np.nan, np.inf, 1e7
    high[520] = 1e7
    returns = np.diff(np.log(close), prepend=np.nan)
    returns[600] = np.inf
    timestamps = np.arange(SIZE, dtype=np.int64) * 3_600_000_000
    timestamps[300:] += 7 * 3_600_000_000
    timestamps[500:] += 12_345_678
    return {
        "opens": opens, "high": high, "low": low, "close": close, "volume": volume, "values": close, "x": returns,
        "y": rng.normal(0, 1, SIZE), "returns": returns, "benchmark": rng.normal(0, 1, SIZE),
        "log_price": np.log(close), "timestamps": timestamps, "log_range": np.log(high / low),
        "log_body": np.log(close / opens), "log_up": np.log(high / opens), "log_down": np.log(low / opens),
        "log_jump": np.log(opens / np.concatenate([[np.nan], close[:-1]])),
    }  # fmt: skip


ARGUMENTS = {
    "rolling_quantile": [(1, 0.5), (30, 0.9), (30, 0.0), (7, 1.0)],
    "autocorrelation": [(30, 1), (10, 5)],
    "hurst": [(40,)],
    "bollinger": [(20, 2.0)],
    "stochastic": [(14, 3), (5, 1)],
    "smooth": [(5, 0.3)],
    "ewma_volatility": [(0.94,)],
    "macd": [(12, 26, 9)],
    "time_of_day": [()],
    "true_range": [()],
    "obv": [()],
    "usual_at_this_time": [(3,)],
    "seasonal_ratio": [(3,)],
    "rolling_std": [(20,), (20, 0), (1, 0), (2,), (SIZE,), (SIZE + 1,)],
    "rolling_mean": [(20,), (1,), (SIZE,), (SIZE + 1,)],
    "rolling_max": [(20,), (1,), (SIZE + 1,)],
    "rolling_min": [(20,), (7,)],
}
CASES = [(name, arguments) for name in kernels.__all__ for arguments in ARGUMENTS.get(name, [(20,), (5,)])]

#: Windows right after a spike of 1e7 lose digits in the twin itself (third powers, roots of differences).
LOOSE = {"rolling_skew": 1e-6, "hurst": 1e-6, "zscore": 1e-8, "bollinger": 1e-7}


def inputs_of(name: str, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the arrays that the kernel's first parameters name."""
    return [
        arrays[parameter] for parameter in inspect.signature(getattr(reference, name)).parameters if parameter in arrays
    ]


def columns(result: np.ndarray | tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Return a kernel's arrays as a tuple."""
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_a_kernel_equals_its_slow_twin(name: str, arguments: tuple[float, ...]) -> None:
    """Values and NaN alike, on holes, infinities, flat stretches, quiet bars and after a spike."""
    given = inputs_of(name, ohlcv(seed=5))
    with np.errstate(all="ignore"):
        expected = columns(getattr(reference, name)(*given, *arguments))
    found = columns(getattr(kernels, name)(*given, *arguments))
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=LOOSE.get(name, 1e-9), atol=1e-9, err_msg=name)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_a_kernel_never_writes_into_its_inputs(name: str, arguments: tuple[float, ...]) -> None:
    """The inputs are the same bits afterwards, and the output is an array of its own."""
    given = inputs_of(name, ohlcv(seed=6))
    before = [array.copy() for array in given]
    found = columns(getattr(kernels, name)(*given, *arguments))
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not any(np.shares_memory(array, output) for output in found)


@pytest.mark.parametrize("name", kernels.__all__)
def test_an_empty_series_gives_an_empty_column(name: str) -> None:
    """No bar, no value, no error: a symbol may have no bars yet."""
    empty = [array[:0] for array in inputs_of(name, ohlcv(seed=6))]
    for column in columns(getattr(kernels, name)(*empty, *ARGUMENTS.get(name, [(20,)])[0])):
        assert column.size == 0


@pytest.mark.parametrize("name", kernels.__all__)
def test_a_kernel_has_the_signature_of_its_twin(name: str) -> None:
    """Arguments of kernel and twin have the same names in the same order."""
    fast, slow = inspect.signature(getattr(kernels, name).py_func), inspect.signature(getattr(reference, name))
    assert list(fast.parameters) == list(slow.parameters)
