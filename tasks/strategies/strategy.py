"""What a strategy is made of, shared by the sweep, the walk-forward and the live flow.

A strategy decides at the **close** of bar t, from bars up to t, and whoever runs it fills at the **open** of t + 1.
Its signal function writes two boolean buffers: `entries` (the view turned bullish) and `exits` (it turned bearish).
Which orders follow from them is the runner's direction: ``long`` buys on entries and sells on exits, ``short`` sells
on exits and covers on entries, ``both`` reverses. A bar with both flags set is a contradiction and does nothing.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import boolean, float64, int64, njit, types
from pydantic import BaseModel, ConfigDict

#: Rows of the `bars` matrix a signal function gets.
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
COLUMNS = ("open", "high", "low", "close", "volume")

#: ``signal(bars, rows, use, params, entries, exits)``: `bars` is (5, bars); `rows` holds every shared indicator of
#: the sweep, and ``rows[use[k]]`` is this set's k-th one; `params` are its parameters as floats, in field order.
#: Each of `entries` and `exits` comes in with arbitrary content and every element must be written.
SIGNATURE = types.void(
    types.Array(float64, 2, "C"),
    types.Array(float64, 2, "C"),
    types.Array(int64, 1, "C"),
    types.Array(float64, 1, "C"),
    types.Array(boolean, 1, "C"),
    types.Array(boolean, 1, "C"),
)

#: Compiles a signal function for exactly `SIGNATURE`: once, cached on disk, and callable from any engine by pointer.
signal = njit([SIGNATURE], cache=True, nogil=True)


class Params(BaseModel):
    """Base of every parameter model: frozen, no unknown names, bounds as pydantic fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def vector(self) -> np.ndarray:
        """Return the values as float64 in field order, as the signal function reads them."""
        return np.array([float(getattr(self, name)) for name in type(self).model_fields], dtype=np.float64)


@dataclass(frozen=True)
class Indicator:
    """One indicator row, computed once and shared by every parameter set that asks for an equal one.

    Attributes:
        kernel: Takes the named columns and then `args`; returns a float64 array of one value a bar, NaN in warm-up,
            and never reads bar t + 1 for bar t.
        columns: Bar columns it reads.
        args: Its further arguments.
    """

    kernel: Callable[..., np.ndarray]
    columns: tuple[str, ...]
    args: tuple[float, ...]

    def compute(self, bars: np.ndarray) -> np.ndarray:
        """Return the row for a (5, bars) matrix."""
        return self.kernel(*(bars[COLUMNS.index(name)] for name in self.columns), *self.args)


@dataclass(frozen=True)
class Strategy:
    """One strategy: everything the engines need to know, defined once.

    Attributes:
        name: The file's name and the word used in tables.
        title: For people.
        description: What it bets on, in a sentence or two.
        params: The parameter model; its bounds and conditions decide which combinations exist.
        indicators: Parameter set → the indicators its signal function reads, in the order of `use`.
        signal: Compiled with `signal`.
        warm_up: Parameter set → bars before the first signal can be trusted (used as purge between train and test):
            from there on indicators no longer depend on where the data begins, exactly for windows, to better than
            1e-9 for Wilder's averages (`recursion_bars`).
        default_grid: Values a parameter for a first sweep.
        path_dependent: Whether a signal depends on the signals before it (in a trade or not), so that no number of bars
            makes it forget where the data begins, though its indicators do.
    """

    name: str
    title: str
    description: str
    params: type[Params]
    indicators: Callable[[Any], tuple[Indicator, ...]]
    signal: Callable[..., None]
    warm_up: Callable[[Any], int]
    default_grid: Mapping[str, Sequence[float]]
    path_dependent: bool = False

    @cached_property
    def code(self) -> str:
        """The name of what the strategy's file computes, see `code_of`."""
        return code_of(inspect.getsource(sys.modules[self.params.__module__]))


def code_of(source: str) -> str:
    """Name what a strategy's file computes: layout, comments, words and the default grid do not count."""
    return hashlib.sha256(ast.unparse(_Computed().visit(ast.parse(source))).encode()).hexdigest()[:16]


class _Computed(ast.NodeTransformer):
    """Leaves out of a strategy's file what changes no signal."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Leave out texts that stand alone."""
        return ast.Pass() if isinstance(node.value, ast.Constant) else node

    def visit_keyword(self, node: ast.keyword) -> ast.AST | None:
        """Leave out what is said about the strategy, and which values are tried first."""
        return None if node.arg in ("title", "description", "default_grid") else node


def bar_matrix(bars: Any) -> np.ndarray:
    """Return a polars frame of bars as the C-contiguous (5, bars) matrix signal functions read."""
    return np.ascontiguousarray(np.vstack([bars[name].to_numpy().astype(np.float64, copy=False) for name in COLUMNS]))
