"""The report of a real sweep: no figure without its meaning, no table without its section."""

from __future__ import annotations

import polars as pl
import pytest

from tasks.report.page import render
from tasks.report.robustness import KINDS, KNOWN
from tasks.report.words import WORDS
from tasks.sweep.result import SweepResult
from tasks.sweep.sweep import run_sweep


@pytest.fixture(scope="module")
def real(sweep: tuple[SweepResult, pl.DataFrame]) -> SweepResult:
    """A small sweep that was really run."""
    grid = {"fast": [5, 10], "slow": [30, 60]}
    return run_sweep(sweep[1], symbol="BTC-PERP", interval="15m", strategy="ma_crossover", grid=grid)


def test_every_figure_of_a_sweep_has_a_meaning(real: SweepResult) -> None:
    """Whatever number the sweep hands over, the reader can hover over it and learn what it says."""
    named = {*real.metrics, *real.verdict_details}
    assert {name for name in named if name not in WORDS or not WORDS[name].meaning} == set()


def test_every_table_of_a_sweep_has_its_section(real: SweepResult) -> None:
    """The tables that the sweep makes are the ones that the report knows how to draw."""
    assert set(real.extras) == set(KNOWN)
    assert set(real.extras["monte_carlo"]["kind"]) == set(KINDS)


def test_a_real_sweep_makes_a_page(real: SweepResult, sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """The page tells the real verdict and has a chart of everything."""
    page = render(real, sweep[1], pl.DataFrame(), {})
    assert real.verdict.split(":")[0] in page
    for name in ("equity-out", "heat", "parallel", "scatter", "fan", "costs", "price", "returns"):
        assert f'data-chart="{name}"' in page
