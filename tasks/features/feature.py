"""What a feature is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from tasks.errors import InputError


@dataclass(frozen=True, slots=True)
class Feature:
    """One column that can be computed from bars, by a Numba kernel or a Polars expression.

    Attributes:
        name: The column's name.
        unit: ``price``, ``fraction``, ``log``, ``volume``, ``deviations``, ``0..100``, ``1`` (a pure number) …
        warm_up: Bars before the first value. From there on a value no longer depends on where the data begins: exactly
            for windows, to better than 1e-9 for recursive averages.
        inputs: Columns of the frame, or names of `tasks.features.series.SERIES`, in the kernel's order.
        formula: The definition in one line.
        source: Who defined it.
        kernel: Called with the input arrays and `arguments`; None for an expression.
        arguments: What the kernel takes after the arrays.
        output: Which of the kernel's arrays, None where it returns one.
        expression: The Polars definition; None for a kernel.
        days: Calendar days it looks back besides, for features of the time of day.
    """

    name: str
    unit: str
    warm_up: int
    inputs: tuple[str, ...]
    formula: str
    source: str
    kernel: Callable[..., np.ndarray | tuple[np.ndarray, ...]] | None = None
    arguments: tuple[float, ...] = ()
    output: int | None = None
    expression: pl.Expr | None = None
    days: int = 0

    def __post_init__(self) -> None:
        if (self.kernel is None) == (self.expression is None):
            raise InputError(f"feature {self.name}: expected a kernel or an expression, found both or neither")
        if self.warm_up < 0:
            raise InputError(f"feature {self.name}: expected a warm-up of 0 bars or more, found {self.warm_up}")
