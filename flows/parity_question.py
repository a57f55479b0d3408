"""What a comparison of paths is asked: a small value that names its run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from tasks.strategies.book_gate import BookGate
from tasks.sweep.costs import Costs


class Conditions(BaseModel):
    """What the replayed market and account do otherwise than the sweep assumes; by default nothing."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True, extra="forbid")

    latency_s: float = Field(0.0, ge=0)
    """How long an order takes to arrive."""

    fee_bps: float | None = Field(None, ge=0)
    """What the broker charges; None for what was assumed."""

    max_volume_share: float | None = Field(None, gt=0, le=1)
    """Largest share of a bar's volume that an order gets; None for no bound."""

    history_bars: int | None = Field(None, ge=0)
    """Bars the driver knows before the period; None for all that research has."""

    max_order_fraction: float | None = Field(None, gt=0)
    """Largest order risk lets pass, as a share of equity; None for no bound."""

    max_position_fraction: float | None = Field(None, gt=0)
    """Largest position, likewise."""

    quantity_step: float = Field(1e-12, gt=0)
    """Smallest step of a quantity."""

    min_notional: float = Field(0.0, ge=0)
    """Smallest value of an order."""

    book_gate: BookGate = BookGate()
    """What the recorded order book must say before a position is opened; by default nothing."""

    as_first_seen: bool = True
    """Bars as they were known then, corrections as they came; False for the newest values only."""


class ParityQuestion(BaseModel):
    """One strategy over one period.

    Attributes:
        symbol: In the vendor's spelling.
        interval: Length of a bar.
        start: First open.
        end: Exclusive last open.
        strategy: Name in `tasks.strategies`.
        params: Its parameters; the strategy's defaults for those left out.
        costs: What trading is assumed to cost.
        conditions: What the replay does otherwise.
        calendar: ``always_open``, or ``exchange:XNYS`` and the like.
        lake_version: Version of the bars that research knows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str
    interval: str
    start: datetime
    end: datetime
    strategy: str
    params: Mapping[str, float] = {}
    costs: Costs = Costs()
    conditions: Conditions = Conditions()
    calendar: str = "always_open"
    lake_version: int | None = None

    @property
    def run_id(self) -> str:
        """Name the run: the same question on the same bars has the same name."""
        return "parity-" + hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class ParitySummary:
    """What a comparison came to; the lake has the rest under `run_id`.

    Attributes:
        run_id: The same question has the same.
        decisions: Bars that were decided on.
        decisions_equal: Those on which live decided as research did.
        fills: Fills of the sweep.
        fills_equal: Those that both other paths made too, to 1e-9.
        causes: How many differences have which cause; those that only follow from others are left out.
        unexplained: Differences without a cause.
        journal: The replay's journal, for ``python -m tasks.journal``.
        page: The page.
        seconds: How long it took.
    """

    run_id: str
    decisions: int
    decisions_equal: int
    fills: int
    fills_equal: int
    causes: str
    unexplained: int
    journal: str
    page: str
    seconds: float
