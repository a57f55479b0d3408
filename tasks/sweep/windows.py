"""Walk-forward windows over a sample of bars, with purge and embargo, as half-open row ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import InputError


class WindowPlan(BaseModel):
    """How a sample is cut into train and test."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True, extra="forbid")

    count: int = Field(4, ge=1, le=500)
    """Walk-forward windows."""

    train_fraction: float = Field(0.5, gt=0, lt=1)
    """Share of the sample before the first test."""

    scheme: Literal["rolling", "anchored"] = "rolling"
    """``rolling`` keeps the length of the train part, ``anchored`` keeps its start."""

    purge: int | None = Field(None, ge=0)
    """Bars cut from the end of each train part, None for the longest warm-up of the grid (within a tenth of the train
    part), so that no train figure knows a price that a test indicator is made of.
    """

    embargo: int = Field(0, ge=0)
    """Bars left out between train and test, on top of the purge."""


@dataclass(frozen=True, slots=True)
class Window:
    """Rows of one window: train ``[train_start, train_stop)``, test ``[test_start, test_stop)``."""

    index: int
    train_start: int
    train_stop: int
    test_start: int
    test_stop: int


def plan_windows(rows: int, plan: WindowPlan, *, warm_up: int = 0) -> tuple[Window, ...]:
    """Cut `rows` bars into windows whose test parts are adjacent, disjoint, and reach the end of the sample.

    Raises:
        InputError: A train or test part would hold fewer than 2 bars.
    """
    first = int(rows * plan.train_fraction)
    borders = [first + (rows - first) * k // plan.count for k in range(plan.count + 1)]
    purge = min(warm_up, first // 10) if plan.purge is None else plan.purge
    windows = tuple(
        Window(
            index=k,
            train_start=borders[k] - first if plan.scheme == "rolling" else 0,
            train_stop=borders[k] - purge - plan.embargo,
            test_start=borders[k],
            test_stop=borders[k + 1],
        )
        for k in range(plan.count)
    )
    for window in windows:
        if window.train_stop - window.train_start < 2 or window.test_stop - window.test_start < 2:
            raise InputError(
                f"windows: expected at least 2 bars to train and to test on in each of {plan.count}, found {window} "
                f"for {rows} bars; ask for fewer windows, less purge, or more bars"
            )
    return windows
