"""Simulated spans as the two tables people look at: equity and trades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tasks.sweep.market import SweepBars
from tasks.sweep.metrics import chained, drawdowns
from tasks.sweep.result import EQUITY, TRADES

if TYPE_CHECKING:
    from tasks.sweep.run import Simulated


@dataclass(frozen=True)
class Span:
    """One simulated stretch of bars.

    Attributes:
        sample: ``in`` or ``out``.
        window: Walk-forward window, −1 for the in-sample span.
        index: Combination in the grid.
        segment: Rows of the bars.
        simulated: One column of VectorBT's account.
        hold: Returns a bar of buy and hold.
    """

    sample: str
    window: int
    index: int
    segment: slice
    simulated: Simulated
    hold: np.ndarray


def stitch(spans: list[Span], bars: SweepBars, initial_cash: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the equity and trades tables; the ``out`` spans compound into one curve that starts at 1.0."""
    curves = []
    for sample in ("in", "out"):
        parts = [span for span in spans if span.sample == sample]
        equity = np.cumprod(1 + chained(span.simulated.returns[:, 0] for span in parts))
        curves.append(
            pl.DataFrame(
                {
                    "timestamp": _stamps(np.concatenate([bars.timestamps[span.segment] for span in parts])),
                    "equity": equity,
                    "drawdown": drawdowns(equity),
                    "benchmark": np.cumprod(1 + np.concatenate([span.hold for span in parts])),
                    "sample": sample,
                    "window": np.repeat([s.window for s in parts], [len(s.simulated.returns) for s in parts]),
                },
                schema=EQUITY,
            )
        )
    return pl.concat(curves), pl.concat([_trades(span, bars) for span in spans])


def _trades(span: Span, bars: SweepBars) -> pl.DataFrame:
    """Return the trades at the market's own prices; profit and return are those of the joined ones."""
    trades, stamps = span.simulated.trades, bars.timestamps[span.segment]
    scale = (np.ones(len(bars)) if bars.scale is None else bars.scale)[span.segment]
    entered, left = scale[trades["entry_idx"]], scale[trades["exit_idx"]]
    return pl.DataFrame(
        {
            "entry_timestamp": _stamps(stamps[trades["entry_idx"]]),
            "exit_timestamp": _stamps(stamps[trades["exit_idx"]]),
            "side": np.where(trades["direction"] == 0, "long", "short"),
            "quantity": trades["size"] * entered,
            "entry_price": trades["entry_price"] / entered,
            "exit_price": trades["exit_price"] / left,
            "fees": trades["entry_fees"] + trades["exit_fees"],
            "pnl": trades["pnl"],
            "return": trades["return"],
            "sample": [span.sample] * len(trades),
            "window": [span.window] * len(trades),
        },
        schema=TRADES,
    )


def _stamps(moments: np.ndarray) -> pl.Series:
    return pl.Series(moments.astype("datetime64[us]")).dt.replace_time_zone("UTC")
