"""The account's risk limits: the defaults, or a TOML file whose every name is known."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from pathlib import Path

from tasks.errors import ConfigurationError, InputError
from tasks.orders.account import Limits


def read_limits(path: Path | None) -> Limits:
    """Return the limits of a file, one ``name = value`` a line; what it does not name stays at its default.

    Raises:
        ConfigurationError: The file cannot be read, or names a limit that does not exist or does not limit.
    """
    if path is None:
        return Limits()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"limits {path}: expected a TOML file of risk limits, found {error}") from error
    known = {one.name: type(getattr(Limits(), one.name)) for one in fields(Limits)}
    unknown = sorted(found.keys() - known)
    if unknown:
        raise ConfigurationError(f"limits {path}: expected names out of {' '.join(known)}, found {unknown[0]!r}")
    try:
        return Limits(**{name: known[name](value) for name, value in found.items()})
    except (InputError, InvalidOperation, TypeError, ValueError) as error:
        raise ConfigurationError(f"limits {path}: {error}") from error
