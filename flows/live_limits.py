"""The account's risk limits: the defaults, or a TOML file whose every name is known."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from tasks.errors import ConfigurationError, InputError
from tasks.orders.account import Limits

#: A larger number limits nothing, and one such as 1e999999999 would take minutes to write out.
_MOST_DIGITS = 18


def read_limits(path: Path | None) -> Limits:
    """Return the limits of a file, one ``name = value`` a line; what it does not name stays at its default.

    Raises:
        ConfigurationError: The file cannot be read, or names a limit that does not exist or does not limit.
    """
    if path is None:
        return Limits()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError, InvalidOperation, RecursionError) as error:  # no TOML or UTF-8, endless, too deep
        raise ConfigurationError(f"limits {path}: expected a TOML file of risk limits, found {error}") from error
    known = {one.name: type(getattr(Limits(), one.name)) for one in fields(Limits)}
    unknown = sorted(found.keys() - known)
    if unknown:
        raise ConfigurationError(f"limits {path}: expected names out of {' '.join(known)}, found {unknown[0]!r}")
    try:
        return Limits(**{name: _exactly(value, known[name]) for name, value in found.items()})
    except (InputError, InvalidOperation, OverflowError, TypeError, ValueError) as error:
        raise ConfigurationError(f"limits {path}: {error}") from error


def _exactly(value: Any, kind: type[int] | type[Decimal]) -> Any:
    """Return a limit as its own kind; 2.5 orders a minute are refused, not cut to 2."""
    number = Decimal(value)
    if isinstance(value, bool) or number.adjusted() > _MOST_DIGITS or kind(number) != number:
        raise InputError(f"expected {'a whole number' if kind is int else 'a number'}, found {str(value)[:40]}")
    return kind(number)
