"""Strategies that ship see no future; one that peeks is stopped."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.store import Lake
from tasks.errors import LookAheadError
from tasks.features.prover import check
from tasks.strategies.registry import STRATEGIES, get, names
from tasks.strategies.strategy import CLOSE, bar_matrix, signal
from tasks.sweep.causality import prove_strategy, strategy_subject
from tasks.sweep.task import sweep_symbol


@pytest.fixture(scope="module")
def minutes() -> pl.DataFrame:
    """6,000 minutes of a random walk on a tick, with quiet minutes."""
    rng, size = np.random.default_rng(11), 6_000
    close = np.round(30_000 * np.exp(np.cumsum(rng.normal(0, 1e-3, size))), 1)
    opens = np.concatenate([[30_000.0], close[:-1]])
    start = datetime(2024, 3, 4, tzinfo=UTC)
    return pl.DataFrame(
        {
            "timestamp": pl.datetime_range(
                start, start + timedelta(minutes=size - 1), "1m", time_unit="us", eager=True
            ),
            "open": opens,
            "high": np.maximum(opens, close) + 1.0,
            "low": np.minimum(opens, close) - 1.0,
            "close": close,
            "volume": np.round(rng.lognormal(0, 1, size), 3) * (rng.random(size) > 0.02),
        }
    )


@pytest.mark.parametrize("name", names())
def test_a_strategy_sees_no_future(name: str, minutes: pl.DataFrame) -> None:
    """With its default parameters every strategy gives the same signals whatever comes later."""
    strategy = STRATEGIES[name]
    assert check(strategy_subject(strategy, strategy.params(), "1m", minutes.height), minutes).leaks == ()


def test_indicators_do_not_depend_on_where_the_data_begins(minutes: pl.DataFrame) -> None:
    """After a strategy's warm-up its indicators are those of a later start, Wilder's averages among them."""
    start = 1_234
    whole, later = bar_matrix(minutes), bar_matrix(minutes[start:])
    for strategy in STRATEGIES.values():
        params = strategy.params()
        warm = strategy.warm_up(params)
        for item in strategy.indicators(params):
            expected = item.compute(whole)[start + warm :]
            np.testing.assert_allclose(item.compute(later)[warm:], expected, rtol=1e-9, err_msg=strategy.name)


def test_a_warm_up_that_is_too_short_is_found(minutes: pl.DataFrame) -> None:
    """Fifteen bars are not enough for Wilder's average of fourteen: signals differ from those of a later start."""
    hasty = dataclasses.replace(get("rsi_reversion"), warm_up=lambda p: p.lookback + 1)
    leaks = check(strategy_subject(hasty, hasty.params(), "1m", minutes.height), minutes).leaks
    assert {leak.check for leak in leaks} == {"warm_up"}


def test_few_bars_are_proven_without_a_later_start(minutes: pl.DataFrame) -> None:
    """A sweep on a few hundred bars is still proven not to see the future, though none is left to warm up twice."""
    few, strategy = minutes[:500], get("rsi_reversion")
    subject = strategy_subject(strategy, strategy.params(), "1m", few.height)
    assert not subject.converges
    assert check(subject, few).leaks == ()


@signal
def peeking_signal(bars, rows, use, params, entries, exits):
    """Enter before a rise, exit before a fall."""
    close = bars[CLOSE]
    entries[-1] = exits[-1] = False
    for t in range(close.size - 1):
        entries[t] = close[t + 1] > close[t]
        exits[t] = close[t + 1] < close[t]


def test_a_peeking_strategy_is_stopped(tmp_path: Path, minutes: pl.DataFrame) -> None:
    """A signal that reads the next bar raises with the column, the bar and both values, every time."""
    peeking = dataclasses.replace(get("ma_crossover"), name="peeking", signal=peeking_signal)
    for _ in range(2):
        with pytest.raises(LookAheadError, match=r"peeking .*entries at bar 2024-03-0\d .* is [01], but [01] with"):
            prove_strategy(Lake(tmp_path), peeking, {"fast": 5, "slow": 20}, minutes, "1m")


def test_a_proven_strategy_is_looked_up(tmp_path: Path, minutes: pl.DataFrame) -> None:
    """The second sweep on the same bars and code looks the proof up; other parameters are proven."""
    lake, strategy = Lake(tmp_path), get("ma_crossover")
    runs = [
        prove_strategy(lake, strategy, {"fast": fast, "slow": 20}, minutes[:2000], "1m").cached for fast in (5, 5, 6)
    ]
    assert runs == [False, True, False]


def test_a_sweep_of_a_peeking_strategy_is_stopped(
    tmp_path: Path, minutes: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The door proves the strategy first: nothing is swept, stored or counted."""
    peeking = dataclasses.replace(get("ma_crossover"), signal=peeking_signal)
    monkeypatch.setattr("tasks.sweep.causality.get", lambda name: peeking)
    lake = Lake(tmp_path)
    end = minutes["timestamp"][-1] + timedelta(minutes=1)
    lake.write_bars(
        minutes.with_columns(quote_volume=pl.lit(None, pl.Float64)),
        symbol="BTCUSDT",
        interval="1m",
        start=minutes["timestamp"][0],
        end=end,
    )
    with pytest.raises(LookAheadError, match="entries"):
        sweep_symbol.fn(str(tmp_path), "BTCUSDT", "1m", "ma_crossover", grid={"fast": [5], "slow": [20, 40]})
    assert not lake.exists("sweeps/runs")
    assert not lake.exists("sweeps/trials")
