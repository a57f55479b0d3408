"""Which parameter sets exist, and the indicator rows they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from tasks.errors import InputError
from tasks.strategies.strategy import Indicator, Params, Strategy

#: A combination takes some 2 kB from its model to its figures: with more, a sweep would outgrow a machine.
MOST_COMBINATIONS = 1_000_000


@dataclass(frozen=True)
class Grid:
    """The parameter sets of one sweep.

    Attributes:
        strategy: Whose parameters they are.
        sets: One validated model a combination, in the order every table keeps.
    """

    strategy: Strategy
    sets: tuple[Params, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in field order."""
        return tuple(self.strategy.params.model_fields)

    @cached_property
    def vectors(self) -> np.ndarray:
        """Parameters as (combinations, parameters) float64."""
        return np.ascontiguousarray(np.vstack([params.vector() for params in self.sets]))

    @cached_property
    def indicators(self) -> tuple[Indicator, ...]:
        """Every distinct indicator the sets read, once: one moving average a window, not one a pair."""
        return tuple(dict.fromkeys(spec for params in self.sets for spec in self.strategy.indicators(params)))

    @cached_property
    def use(self) -> np.ndarray:
        """Which rows each combination reads: (combinations, indicators a set) int64 into `indicators`."""
        row = {spec: k for k, spec in enumerate(self.indicators)}
        return np.array([[row[s] for s in self.strategy.indicators(params)] for params in self.sets], dtype=np.int64)

    @property
    def warm_up(self) -> int:
        """The longest warm-up of any set, in bars."""
        return max(self.strategy.warm_up(params) for params in self.sets)

    def rows(self, bars: np.ndarray) -> np.ndarray:
        """Compute every shared indicator over a (5, bars) matrix: (indicators, bars)."""
        rows = np.empty((len(self.indicators), bars.shape[1]))
        for k, spec in enumerate(self.indicators):
            rows[k] = spec.compute(bars)
        return rows

    def pick(self, chosen: Sequence[int]) -> Grid:
        """Return the grid of the chosen combinations alone, with only the rows they read."""
        if list(chosen) == list(range(len(self))):
            return self
        index = np.asarray(chosen, dtype=np.int64)
        picked = Grid(self.strategy, tuple(self.sets[k] for k in chosen))
        kept, use = np.unique(self.use[index], return_inverse=True)
        known = {
            "vectors": self.vectors[index],
            "use": np.ascontiguousarray(use.reshape(len(index), -1), dtype=np.int64),
            "indicators": tuple(self.indicators[k] for k in kept),
        }
        picked.__dict__.update(known)  # what its cached properties would work out again, slowly
        return picked

    def frame(self) -> pl.DataFrame:
        """Return the sets as a table, one column a parameter."""
        return pl.DataFrame([params.model_dump() for params in self.sets])

    def __len__(self) -> int:
        return len(self.sets)


def plan_grid(strategy: Strategy, values: Mapping[str, Sequence[Any]] | None = None) -> Grid:
    """Cross the values of every parameter, leaving out combinations the model's conditions forbid (fast ≥ slow).

    Args:
        strategy: Whose parameters.
        values: Values a parameter; a parameter left out keeps its default. None means the strategy's own grid.

    Raises:
        InputError: An unknown parameter, a value outside its bounds, more combinations than `MOST_COMBINATIONS` (those
            that conditions forbid included), or none left.
    """
    values = dict(strategy.default_grid if values is None else values)
    unknown = sorted(set(values) - set(strategy.params.model_fields))
    if unknown or any(len(axis) == 0 for axis in values.values()):
        raise InputError(
            f"grid of {strategy.name}: expected one or more values for {list(strategy.params.model_fields)}, "
            f"found unknown {unknown} in {values}"
        )
    count = math.prod(len(axis) for axis in values.values())
    if count > MOST_COMBINATIONS:
        raise InputError(
            f"grid of {strategy.name}: expected at most {MOST_COMBINATIONS:,} combinations, found {count:,}; give "
            "fewer values a parameter (a random or bayesian search holds the whole grid too)"
        )
    combinations = (dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))
    sets = [made for chosen in combinations if (made := _make(strategy, chosen)) is not None]
    if not sets:
        raise InputError(f"grid of {strategy.name}: expected at least one allowed combination, found none in {values}")
    return Grid(strategy, tuple(dict.fromkeys(sets)))


def _make(strategy: Strategy, chosen: dict[str, Any]) -> Params | None:
    """Return the parameter set, None where only a condition between parameters forbids it."""
    try:
        return strategy.params.model_validate(chosen)
    except ValidationError as error:
        bounds = [found for found in error.errors() if found["loc"]]
        if not bounds:
            return None
        text = "; ".join(f"{found['loc'][0]}={found['input']!r}: {found['msg']}" for found in bounds)
        raise InputError(f"grid of {strategy.name}: expected values within their bounds, found {text}") from error
