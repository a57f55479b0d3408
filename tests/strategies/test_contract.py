"""What every strategy promises, checked for each file of the folder."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tasks.errors import InputError
from tasks.strategies.registry import STRATEGIES, get, names
from tasks.strategies.strategy import Strategy

ROWS = 1_500
#: Columns that result tables have beside the parameters.
RESERVED = {"window", "sample", "params", "row", "run_id", "train_start", "train_end", "test_start", "test_end"}


def matrix(rows: int = ROWS, seed: int = 11) -> np.ndarray:
    """Return a (5, rows) matrix of bars that rise and fall enough for any strategy to trade."""
    rng = np.random.default_rng(seed)
    close = 100 + np.cumsum(rng.normal(0, 0.5, rows)) + 5 * np.sin(np.arange(rows) / 60)
    opened = np.concatenate([[close[0]], close[:-1]])
    high, low = np.maximum(opened, close) + rng.random(rows), np.minimum(opened, close) - rng.random(rows)
    return np.ascontiguousarray([opened, high, low, close, rng.integers(0, 99, rows).astype(float)])


def signals(strategy: Strategy, bars: np.ndarray, fill: bool = False) -> np.ndarray:
    """Return (2, bars) entries and exits of the default parameters, written into buffers that start as `fill`."""
    params = strategy.params()
    specs = strategy.indicators(params)
    rows = np.ascontiguousarray([spec.compute(bars) for spec in specs])
    flags = np.full((2, bars.shape[1]), fill)
    strategy.signal(bars, rows, np.arange(len(specs)), params.vector(), flags[0], flags[1])
    return flags


@pytest.mark.parametrize("name", names())
class TestStrategy:
    """The contract; a new file in the folder is checked without a line here."""

    def test_is_named_after_its_file(self, name: str) -> None:
        """The registry finds it under the name it carries."""
        assert get(name).name == name == STRATEGIES[name].name

    def test_parameters_leave_the_result_columns_alone(self, name: str) -> None:
        """No parameter is called like a column of the result tables."""
        fields = set(get(name).params.model_fields)
        assert fields
        assert not fields & RESERVED
        assert set(get(name).default_grid) <= fields

    def test_trades_both_ways_with_its_defaults(self, name: str) -> None:
        """The default parameters give entries and exits, never both on one bar."""
        entries, exits = signals(get(name), matrix())
        assert entries.any()
        assert exits.any()
        assert not (entries & exits).any()

    def test_writes_every_element_of_its_buffers(self, name: str) -> None:
        """What the buffers held before does not matter."""
        assert np.array_equal(signals(get(name), matrix()), signals(get(name), matrix(), fill=True))

    def test_leaves_its_inputs_alone(self, name: str) -> None:
        """Bars are read, never written."""
        bars = matrix()
        before = bars.copy()
        signals(get(name), bars)
        assert np.array_equal(bars, before)

    def test_never_reads_the_future(self, name: str) -> None:
        """Changing everything after bar t changes no signal up to t."""
        bars, strategy = matrix(), get(name)
        known = signals(strategy, bars)
        for t in (200, 700, 1_200):
            other = bars.copy()
            other[:, t + 1 :] = matrix(seed=t)[:, t + 1 :] * 1.5
            assert np.array_equal(signals(strategy, other)[:, : t + 1], known[:, : t + 1])

    def test_survives_bars_that_fill_no_window(self, name: str) -> None:
        """Fewer bars than its indicators need for a first value give no signal and no error."""
        strategy, bars = get(name), matrix()
        firsts = [np.isfinite(item.compute(bars)).argmax() for item in strategy.indicators(strategy.params())]
        assert not signals(strategy, bars[:, : max(firsts)].copy()).any()


def test_an_unknown_strategy_is_named_with_the_known_ones() -> None:
    """A misspelt name tells which names there are."""
    with pytest.raises(InputError, match=r"ma_crossover.*found 'ma_crosover'"):
        get("ma_crosover")
    assert "ma_crosover" not in STRATEGIES


def test_listing_strategies_compiles_nothing() -> None:
    """Flows can offer the names in a form without loading Numba."""
    code = "import sys; from tasks.strategies.registry import names; assert names(); assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
