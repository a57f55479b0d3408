"""Finds strategies by file name, and compiles none before it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import InputError

if TYPE_CHECKING:
    from tasks.strategies.strategy import Strategy

_NOT_STRATEGIES = {"__init__", "book_gate", "registry", "strategy"}


def names() -> tuple[str, ...]:
    """Return the name of every strategy: the files of this folder, without importing them."""
    return tuple(sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - _NOT_STRATEGIES))


def get(name: str) -> Strategy:
    """Return the strategy of that name; loads (and the first time compiles) its file only.

    Raises:
        InputError: No file of that name; the message lists those there are.
    """
    if name not in names():
        raise InputError(f"strategy: expected one of {' '.join(names())}, found {name!r}")
    return import_module(f"tasks.strategies.{name}").STRATEGY


class _Strategies(Mapping[str, "Strategy"]):
    """Every strategy by name, each loaded when it is looked up."""

    def __getitem__(self, name: str) -> Strategy:
        if name not in names():
            raise KeyError(name)
        return get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(names())

    def __len__(self) -> int:
        return len(names())


STRATEGIES: Mapping[str, Strategy] = _Strategies()
