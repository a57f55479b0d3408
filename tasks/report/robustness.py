"""The same trading under other conditions, in words and tables: dearer costs, chance, neighbours, noise."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import polars as pl

from tasks.report.summary import is_winner
from tasks.report.tables import Column, Table
from tasks.report.words import Word, ratio, spell, word
from tasks.sweep.metrics import drawdowns
from tasks.sweep.result import SweepResult

COSTS, BANDS, FAN = "cost_sensitivity", "monte_carlo", "fan"
#: The tables of `SweepResult.extras` that have a section of their own; any other is shown as it is.
KNOWN = (COSTS, BANDS, FAN)

#: What each kind of chance does, and whose figure it is held against: the walk-forward's or the fixed winner's.
KINDS: dict[str, tuple[Word, str]] = {
    "bootstrap": (
        Word("Returns resampled", "text", "Bars' returns drawn anew in blocks, so that volatility clusters survive."),
        "walk-forward",
    ),
    "reshuffle": (
        Word(
            "Trades reordered",
            "text",
            "The same trades in another order: how deep the fall from trade to trade might have been.",
        ),
        "walk-forward",
    ),
    "jitter": (
        Word("Neighbouring parameters", "text", "The sets one step away from the winner in one parameter."),
        "fixed winner",
    ),
    "noise": (
        Word("Noisy prices", "text", "Every price moved by about a tenth of its bar's range, and traded again."),
        "fixed winner",
    ),
}
_QUANTILES = ("q05", "q25", "q50", "q75", "q95")


def costs_sentence(costs: pl.DataFrame) -> str:
    """Say at which multiple of the assumed costs the trading breaks even.

    Between two computed multiples the log of the account is taken as linear in costs, which proportional costs make
    nearly exact. Beyond the computed ones nothing is claimed.
    """
    rows = costs.sort("factor").filter(pl.col("total_return") > -1)
    if rows.is_empty():
        return ""
    factors, made = rows["factor"].to_list(), [math.log1p(value) for value in rows["total_return"]]
    if made[0] <= 0:
        return f"It loses out of sample even at {factors[0]:g} times the assumed costs."
    steps = list(zip(factors, made, strict=True))
    for (low, gain), (high, loss) in pairwise(steps):
        if loss <= 0:
            even = low + (high - low) * gain / (gain - loss)
            return f"It breaks even out of sample at about {ratio(even, 1)} times the assumed costs."
    return f"It still earns out of sample at {factors[-1]:g} times the assumed costs."


def chance_table(result: SweepResult) -> Table | None:
    """Return the bands of each kind of chance beside the figure that they vary; None where the run has none."""
    bands = result.extras.get(BANDS)
    if bands is None or bands.is_empty():
        return None
    fixed = _fixed_winner(result)
    heads = (
        Column("What was varied", "", numeric=False),
        Column("Figure", "", numeric=False),
        Column("5 %", "One draw in twenty is below."),
        Column("25 %"),
        Column("Median"),
        Column("75 %"),
        Column("95 %", "One draw in twenty is above."),
        Column("This run", "The figure that was varied: the walk-forward's, or the first winner's kept throughout."),
    )
    rows = []
    for row in bands.iter_rows(named=True):
        kind, base = KINDS.get(row["kind"], (word(row["kind"]), "walk-forward"))
        own = (fixed if base == "fixed winner" else result.metrics).get(row["figure"])
        if row["kind"] == "reshuffle":
            own = _trade_drawdown(result)
        values = (spell(row["figure"], row[name]) for name in _QUANTILES)
        rows.append((kind.title, word(row["figure"]).title, *values, spell(row["figure"], own)))
    return Table(heads, tuple(rows))


def chance_notes(result: SweepResult) -> list[tuple[Word, str]]:
    """Return what each kind of chance in the table does."""
    bands = result.extras.get(BANDS)
    kinds = [] if bands is None else bands["kind"].unique(maintain_order=True)
    return [(KINDS[kind][0], KINDS[kind][1]) for kind in kinds if kind in KINDS]


def _trade_drawdown(result: SweepResult) -> float | None:
    """Return the drawdown from trade to trade, as reordering measures it: what happens within a trade is not in it."""
    out = result.trades.filter(pl.col("sample") == "out").sort("entry_timestamp")
    return float(drawdowns(np.cumprod(1 + out["return"].to_numpy())).min()) if out.height else None


def _fixed_winner(result: SweepResult) -> dict[str, float]:
    """Return the out-of-sample figures of the first winner kept throughout: its row of the grid."""
    row = result.grid.filter(is_winner(result.param_names, result.params)).head(1).to_dicts()
    return (
        {name.removeprefix("oos_"): value for name, value in row[0].items() if name.startswith("oos_")} if row else {}
    )
