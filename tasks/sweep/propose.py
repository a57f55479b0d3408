"""Which combinations of a parameter space to try: all, some at random, or those that Optuna asks for.

A search only proposes. Whatever it proposes is then swept, certified, counted and judged like any grid; its objective
is the in-sample Sharpe ratio, so that it never sees what the verdict is made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks.sweep import fused
from tasks.sweep.question import Question
from tasks.sweep.result import FIGURES
from tasks.sweep.search import Search

if TYPE_CHECKING:
    import optuna

_SHARPE = FIGURES.index("sharpe")


def propose(space: Question, search: Search, seed: int) -> list[int]:
    """Return the combinations of `space` to sweep, in the order of its grid; at least one.

    Args:
        space: The question over every allowed combination.
        search: How to search.
        seed: Of the draw, or of Optuna's sampler.
    """
    count = len(space.grid)
    if search.method == "grid" or search.trials >= count:
        return list(range(count))
    if search.method == "random":
        drawn = np.random.default_rng(seed).choice(count, size=search.trials, replace=False)
        return sorted(drawn.tolist())
    return sorted(_ask_optuna(space, search, seed))


def _ask_optuna(space: Question, search: Search, seed: int) -> set[int]:
    """Ask and tell in batches until as many distinct combinations are known as wanted (or no new ones come)."""
    study, axes = _study(space, search, seed), _axes(space)
    places = {tuple(params.model_dump().values()): k for k, params in enumerate(space.grid.sets)}
    known = {trial.user_attrs["index"]: trial.value for trial in study.trials if trial.value is not None}
    asked = 0
    while len(known) < search.trials and asked < 20 * search.trials:
        wanted = min(search.batch, search.trials - len(known))
        trials = [study.ask() for _ in range(wanted)]
        asked += len(trials)
        found = {trial.number: places.get(_suggest(trial, axes)) for trial in trials}
        fresh = sorted({index for index in found.values() if index is not None and index not in known})
        known |= dict(zip(fresh, _objective(space, fresh), strict=True))
        for trial in trials:
            _tell(study, trial, found[trial.number], known)
    return set(known)


def _study(space: Question, search: Search, seed: int) -> optuna.Study:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(JournalFileBackend(search.storage)) if search.storage else None
    return optuna.create_study(
        study_name=space.key,
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
    )


def _axes(space: Question) -> dict[str, list[float]]:
    sets = [params.model_dump() for params in space.grid.sets]
    return {name: sorted({params[name] for params in sets}) for name in space.grid.names}


def _suggest(trial: optuna.Trial, axes: dict[str, list[float]]) -> tuple[float, ...]:
    """Return the values a trial asks for; steps on an axis, so that neighbours are neighbours whatever the values."""
    return tuple(axis[trial.suggest_int(name, 0, len(axis) - 1)] for name, axis in axes.items())


def _tell(study: optuna.Study, trial: optuna.Trial, index: int | None, known: dict[int, float]) -> None:
    """Report the objective; a combination that the model forbids failed."""
    from optuna.trial import TrialState

    if index is None:
        study.tell(trial, state=TrialState.FAIL)
        return
    trial.set_user_attr("index", index)
    study.tell(trial, known[index])


def _objective(space: Question, chosen: list[int]) -> list[float]:
    """Return the in-sample Sharpe ratio of each combination; one that never trades is worse than any loss."""
    if not chosen:
        return []
    grid = space.grid.pick(chosen)
    segment = np.array([[space.in_sample.start, space.in_sample.stop]])
    figures = fused.run_sets(grid, space, segment)
    return np.nan_to_num(figures[:, 0, _SHARPE], nan=-1e6).tolist()
