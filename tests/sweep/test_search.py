"""Random and Bayesian search: what they try, that they find, and that a killed one goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.strategies.registry import get
from tasks.sweep import propose as searching
from tasks.sweep.costs import Costs
from tasks.sweep.fused import run_grid
from tasks.sweep.grid import plan_grid
from tasks.sweep.market import prepare_bars
from tasks.sweep.propose import propose
from tasks.sweep.question import Question
from tasks.sweep.search import Search
from tasks.sweep.sweep import run_sweep
from tasks.sweep.windows import WindowPlan, plan_windows

VALUES = {"fast": range(2, 32), "slow": range(5, 65, 2)}


@pytest.fixture(scope="module")
def space(bars) -> Question:
    """A space of 695 crossovers."""
    plan = WindowPlan(count=2)
    grid = plan_grid(get("ma_crossover"), VALUES)
    return Question("AB", "1m", prepare_bars(bars(800), "1m"), grid, plan_windows(800, plan), plan, Costs())


def test_random_search_draws_as_asked_and_repeats_itself(space) -> None:
    """As many distinct combinations as asked, the same for the same seed, all of them where more are asked."""
    drawn = propose(space, Search(method="random", trials=40), seed=3)
    assert len(set(drawn)) == 40
    assert drawn == propose(space, Search(method="random", trials=40), seed=3)
    assert drawn != propose(space, Search(method="random", trials=40), seed=4)
    assert propose(space, Search(method="random", trials=9_999), seed=3) == list(range(len(space.grid)))


def test_bayesian_search_finds_better_than_random(space) -> None:
    """With 60 of 695 trials Optuna's best is among the best twentieth, and its trials are better than random ones."""
    sharpes = run_grid(space)[:, 0, 1]
    asked = propose(space, Search(method="bayesian", trials=60), seed=1)
    assert len(asked) == len(set(asked)) == 60
    drawn = propose(space, Search(method="random", trials=60), seed=1)
    assert np.nanmax(sharpes[asked]) >= np.nanquantile(sharpes, 0.95)
    assert np.nanmean(sharpes[asked]) > np.nanmean(sharpes[drawn])


def test_a_killed_search_goes_on_from_its_storage(space, tmp_path: Path, monkeypatch) -> None:
    """What was told before the kill is not computed again."""
    search = Search(method="bayesian", trials=40, batch=10, storage=str(tmp_path / "study.log"))
    honest, computed = searching._objective, []

    def failing(question: Question, chosen: list[int]) -> list[float]:
        if len(computed) >= 20:
            raise KeyboardInterrupt
        computed.extend(chosen)
        return honest(question, chosen)

    monkeypatch.setattr(searching, "_objective", failing)
    with pytest.raises(KeyboardInterrupt):
        propose(space, search, seed=1)
    before = set(computed)
    monkeypatch.setattr(searching, "_objective", lambda q, chosen: computed.extend(chosen) or honest(q, chosen))
    found = propose(space, search, seed=1)
    assert len(found) == 40
    assert before <= set(found)
    assert len(computed) == len(set(computed))


def test_a_searched_sweep_is_judged_like_a_grid(bars) -> None:
    """The result holds what was tried, counts it, and says how it was searched."""
    result = run_sweep(
        bars(800),
        symbol="AB",
        interval="1m",
        strategy="ma_crossover",
        grid=VALUES,
        search=Search(method="random", trials=25),
        robustness=False,
    )
    assert len(result.grid) == result.record["n_trials"] == 25
    assert result.record["search"]["method"] == "random"
