"""The room's door to Prefect: bring a symbol's feature table up to date. Numba loads only when the task runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE

from lake.store import Lake

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FeatureReceipt:
    """What a build of features came to.

    Attributes:
        symbol: Whose bars.
        interval: Of which interval.
        rows: Rows computed and written; 0 where nothing was new.
        columns: Feature columns in them.
        incremental: Whether earlier rows were kept.
        seconds: How long it took.
    """

    symbol: str
    interval: str
    rows: int
    columns: int
    incremental: bool
    seconds: float


@task(
    name="build_features",
    task_run_name="features {symbol} {interval}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def build_features(
    lake_root: str,
    symbol: str,
    interval: str,
    names: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    benchmark: str | None = None,
) -> FeatureReceipt:
    """Bring ``features/<interval>`` of a symbol up to date with its bars; arguments and errors are those of `build`."""
    from tasks.features.build import build

    began = time.perf_counter()
    built = build(Lake(lake_root), symbol, interval, names, start, end, benchmark)
    seconds = time.perf_counter() - began
    _log.info("features.built", symbol=symbol, interval=interval, rows=built.rows, seconds=round(seconds, 3))
    return FeatureReceipt(symbol, interval, built.rows, built.columns, built.incremental, seconds)
