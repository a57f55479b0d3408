"""What a portfolio hands over: one value that the store keeps and the report draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from lake.schema import TIMESTAMP

#: Columns of `PortfolioResult.weights`; `timestamp` names the bar at whose close was decided, `target` is what was
#: wanted and `held` the share after the fills on the next row.
WEIGHTS: dict[str, pl.DataType] = {
    "method": pl.String(),
    "timestamp": TIMESTAMP,
    "filled_at": TIMESTAMP,
    "member": pl.String(),
    "target": pl.Float64(),
    "held": pl.Float64(),
}

#: Columns of `PortfolioResult.equity`: growth of 1 from the first decision, after costs; `drawdown` ≤ 0; `turnover` is
#: the value traded on the row over the account's worth before it.
EQUITY: dict[str, pl.DataType] = {
    "method": pl.String(),
    "timestamp": TIMESTAMP,
    "equity": pl.Float64(),
    "drawdown": pl.Float64(),
    "turnover": pl.Float64(),
}


@dataclass(frozen=True)
class PortfolioResult:
    """Several methods over the same members, out of sample.

    Attributes:
        run_id: Names the run in the lake; the same inputs give the same name.
        kind: ``symbols`` or ``runs``.
        interval: Length of a bar.
        members: Symbols or run ids.
        labels: What each member is called on a page, in the order of `members`.
        methods: In the order of the tables, equal weight first.
        weights: `WEIGHTS`.
        equity: `EQUITY`.
        metrics: Method → figures; see `tasks.sweep.portfolio.study`.
        verdict: One sentence: what beats equal weight, or that nothing does.
        passed: Whether anything does.
        record: Everything that decides the result, and where it came from.
    """

    run_id: str
    kind: str
    interval: str
    members: tuple[str, ...]
    labels: tuple[str, ...]
    methods: tuple[str, ...]
    weights: pl.DataFrame
    equity: pl.DataFrame
    metrics: dict[str, dict[str, float]]
    verdict: str
    passed: bool
    record: dict[str, Any]
