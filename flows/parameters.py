"""Parameter types that several flows share, so that the same field is the same form everywhere."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import Field

from lake.timeline import interval as interval_named
from lake.timeline import utc
from tasks.errors import InputError
from tasks.strategies.registry import names as strategy_names

DEFAULT_START = date(2024, 1, 1)
Symbol = Annotated[str, Field(min_length=1, max_length=40, description="Symbol in the vendor's spelling.")]
Symbols = Annotated[list[Symbol], Field(min_length=1, description="Symbols in the vendor's spelling.")]
IntervalName = Literal["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "1d", "1w", "1mo"]
StartDay = Annotated[date, Field(description="First UTC day.")]
EndDay = Annotated[
    date | None, Field(description="First UTC day no longer wanted; empty: up to the newest closed bar.")
]
StrategyName = Annotated[
    str, Field(description="Strategy to search.", json_schema_extra={"enum": list(strategy_names())})
]
#: Not optional but empty by default: Prefect has no field to type a dictionary into that may be None as well.
Grid = Annotated[dict[str, list[float]], Field(description="Values to try for each parameter.")]
Source = Annotated[
    str,
    Field(
        pattern=r"^(tickdb|ccxt:[a-z0-9]+)$",
        description="Where bars come from.",
        json_schema_extra={"examples": ["tickdb", "ccxt:binance"]},
    ),
]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="Seed of everything random, kept in the record.")]
LakeVersion = Annotated[int | None, Field(ge=0, description="Version of the bars to read; empty for the newest.")]
BlockName = Annotated[str, Field(pattern=r"^[a-z0-9-]+/.+$", description="Prefect block as <type>/<name>.")]
AtOnce = Annotated[int, Field(ge=1, le=32, description="Partitions worked on at the same time.")]


def check_strategy(name: str) -> None:
    """Refuse an unknown strategy before anything is fetched or compiled.

    Raises:
        InputError: There is no strategy of that name; the message lists those there are.
    """
    if name not in strategy_names():
        raise InputError(f"strategy: expected one of {' '.join(strategy_names())}, found {name!r}")


def span(interval: str, start: date, end: date | None, *, now: datetime | None = None) -> tuple[datetime, datetime]:
    """Return the days as a half-open range of opens whose bars are closed at `now` (this moment by default).

    Raises:
        InputError: The range is empty.
    """
    closed = interval_named(interval).closed_end(now or datetime.now(UTC))
    first, last = utc(start), closed if end is None else min(utc(end), closed)
    if first >= last:
        raise InputError(
            f"range: expected start before end and before the newest closed {interval} bar, "
            f"found {first:%Y-%m-%d} to {last:%Y-%m-%d %H:%M}"
        )
    return first, last
