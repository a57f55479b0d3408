"""Other conditions in words, tables and charts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tasks.report.charts.chance import costs_figure, fan_figure
from tasks.report.page import render
from tasks.report.robustness import chance_notes, chance_table, costs_sentence
from tasks.report.words import percent
from tasks.sweep.result import SweepResult


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        ([0.3, 0.2, 0.1, 0.05], "still earns out of sample at 4 times"),
        ([-0.01, -0.02, -0.1, -0.2], "loses out of sample even at 0.5 times"),
        ([0.1, 0.05, -0.05, -0.2], "breaks even out of sample at about 1.5 times"),
        ([0.1, 0.05, -1.0, -1.0], "still earns out of sample at 1 times"),
        ([-1.0] * 4, ""),
    ],
)
def test_break_even_is_told_within_what_was_computed(returns: list[float], said: str) -> None:
    """The multiple of costs that eats the gain is interpolated between two computed ones, never extrapolated."""
    sentence = costs_sentence(pl.DataFrame({"factor": [0.5, 1.0, 2.0, 4.0], "total_return": returns}))
    assert said in sentence
    assert bool(sentence) == bool(said)


def test_break_even_of_proportional_costs_is_exact() -> None:
    """Where the log of the account falls linearly with costs, the true break-even is found."""
    factors = np.array([0.5, 1.0, 2.0, 4.0])
    sentence = costs_sentence(pl.DataFrame({"factor": factors, "total_return": np.expm1(0.3 - 0.1 * factors)}))
    assert "about 3.0 times" in sentence


def test_bands_stand_beside_the_figure_they_vary(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Resampled figures are held against the walk-forward, neighbouring sets against the winner kept throughout."""
    result = sweep[0]
    table = chance_table(result)
    assert table is not None
    rows = {(row[0], row[1]): row for row in table.rows}
    assert rows["Returns resampled", "Sharpe"][-1] == "−0.62"
    assert rows["Returns resampled", "Total return"][2] == "−90.00 %"
    out = result.trades.filter(pl.col("sample") == "out").sort("entry_timestamp")["return"]
    steps = np.cumprod(1 + out.to_numpy())
    fall = (steps / np.maximum.accumulate(np.maximum(steps, 1.0)) - 1).min()  # from trade to trade, as drawn
    assert rows["Trades reordered", "Max drawdown"][-1] == percent(fall)
    winner = result.grid.filter(pl.col("fast") == 20, pl.col("slow") == 120, pl.col("band") == 0.5)
    assert rows["Neighbouring parameters", "Sharpe"][-1] == f"{winner['oos_sharpe'][0]:.2f}".replace("-", "−")
    assert [base for _, base in chance_notes(result)] == ["walk-forward", "walk-forward", "fixed winner"]


def test_the_fan_lies_on_its_dates(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """The fan's bars are places in the out-of-sample rows: it starts and ends with the curve that happened."""
    result = sweep[0]
    figure = fan_figure(result.extras["fan"], result.equity)
    assert figure is not None
    happened = figure.data[-1]
    assert figure.data[0].x[0] == happened.x[0]
    assert figure.data[0].x[-1] == happened.x[-1]
    assert np.all(figure.data[0].y <= figure.data[1].y)
    assert fan_figure(result.extras["fan"].clear(), result.equity) is None
    assert costs_figure(result.extras["cost_sensitivity"].clear()) is None


def test_a_run_without_them_has_no_section(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """No costs and no chance computed means no heading without content."""
    result, bars = sweep
    assert 'id="chance"' in render(result, bars, pl.DataFrame(), {})
    bare = replace(result, extras={})
    assert 'id="chance"' not in render(bare, bars, pl.DataFrame(), {})
    assert chance_table(bare) is None
    assert chance_notes(bare) == []
