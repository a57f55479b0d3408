"""What a sweep is asked to do, as a small value that travels between processes; the bars stay in the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from lake.calendar import TradingCalendar
from tasks.sweep.costs import Costs
from tasks.sweep.search import Search
from tasks.sweep.windows import WindowPlan


class SweepRequest(BaseModel):
    """One sweep of one strategy over one symbol.

    Attributes:
        symbol: In the vendor's spelling.
        interval: Length of a bar.
        strategy: Name in `tasks.strategies`.
        grid: Values a parameter; None for the strategy's own grid.
        costs: What trading costs.
        windows: How the sample is cut.
        start: First open, None for all there is.
        end: Exclusive last open, None for all there is.
        calendar: ``always_open``, or ``exchange:XNYS`` and the like, whose nights and holidays are no holes.
        periods_per_year: None for what the calendar gives.
        search: How the grid's values are searched.
        seed: Of everything random.
        lake_version: Version of the bars to read; None for the newest.
        chunk: Most combinations a chunk holds; None for the engine's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str
    interval: str
    strategy: str
    grid: Mapping[str, Sequence[Any]] | None = None
    costs: Costs = Costs()
    windows: WindowPlan = WindowPlan()
    start: datetime | None = None
    end: datetime | None = None
    calendar: str = str(TradingCalendar.always_open())
    periods_per_year: float | None = None
    search: Search = Search()
    seed: int = 0
    lake_version: int | None = None
    chunk: int | None = None
