"""Where a running sweep stands is what its grid will say, whichever chunks are in."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tasks.sweep.ask import ask
from tasks.sweep.fused import run_grid
from tasks.sweep.standings import BEST, Standings, standings_of
from tasks.sweep.sweep import run_sweep
from tests.sweep.conftest import make_bars

RUN = {"symbol": "AB", "interval": "1m", "strategy": "ma_crossover", "grid": {"fast": [3, 5, 8], "slow": [8, 13, 21]}}


def standings(frame: pl.DataFrame, chunk: int, **told) -> Standings:
    """Run the grid in chunks and add up what each of them found."""
    question, found = ask(frame, **{**RUN, **told}), []
    run_grid(question, chunk=chunk, heard=lambda part, figures: found.append(standings_of(question, part, figures)))
    total = Standings(total=0)
    for one in found:
        total = total.merged(one)
    return total


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_the_best_and_the_map_are_those_of_the_grid(chunk) -> None:
    """However a sweep is cut, its standings at the end are the ranking and the cells of its finished grid."""
    frame = make_bars(600)
    found, grid = standings(frame, chunk), run_sweep(frame, robustness=False, **RUN).grid
    ranked = grid.sort("is_sharpe", descending=True, nulls_last=True).head(BEST)
    assert found.done == found.total == grid.height
    assert [row["sharpe"] for row in found.best] == ranked["is_sharpe"].to_list()
    assert [(row["fast"], row["slow"]) for row in found.best] == ranked.select("fast", "slow").rows()
    assert set(found.axes) == {"fast", "slow"}
    cells = {tuple(row[name] for name in found.axes): row["is_sharpe"] for row in grid.iter_rows(named=True)}
    assert found.cells == cells


def test_a_place_that_never_traded_is_unknown_and_never_best() -> None:
    """In a market that stands still nothing is ranked, and the map has places without a value."""
    still = make_bars(300).with_columns(pl.lit(100.0).alias(name) for name in ("open", "high", "low", "close"))
    found = standings(still, 2)
    assert found.best == ()
    assert len(found.cells) == found.total
    assert np.isnan(list(found.cells.values())).all()


def test_what_does_not_vary_is_no_axis() -> None:
    """One varied parameter makes a row of cells, none makes no map."""
    frame = make_bars(300)
    assert standings(frame, 9, grid={"fast": [3, 5], "slow": [21]}).axes == ("fast",)
    alone = standings(frame, 9, grid={"fast": [3], "slow": [21]})
    assert (alone.axes, alone.cells, alone.done) == ((), {}, 1)
