"""What the compiled loops hand each other: named tuples, which Numba keeps in registers.

Numba's cache knows the file of the loops alone: whoever changes the order of fields here touches `loops.py` as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.sweep.costs import Costs
from tasks.sweep.market import SweepBars


class Rules(NamedTuple):
    """`Costs` as numbers: fractions instead of basis points, NaN for a stop or maker rate there is none of."""

    fee: float
    fixed: float
    initial: float
    long: float
    short: float
    stop: float
    profit: float
    minimum: float
    maker: float
    share: float
    impact: float
    worth: float
    worked: float


class Market(NamedTuple):
    """The bars and what is known of each before it opens; `slippage` and `sizes` may be one value for all bars."""

    bars: np.ndarray
    tradable: np.ndarray
    volumes: np.ndarray
    slippage: np.ndarray
    sizes: np.ndarray


class Account(NamedTuple):
    """What the account holds; entry price, fees paid and first bar are those of the open position."""

    cash: float
    position: float
    entry: float
    paid: float
    since: int
    trades: int
    wins: int


class Curve(NamedTuple):
    """The equity curve so far, folded into what the figures need."""

    value: float
    growth: float
    peak: float
    trough: float
    worst: float
    total: float
    squares: float


def rules_of(costs: Costs) -> Rules:
    """Return costs and sides as the simulator reads them."""
    return Rules(
        fee=costs.fee_bps / 1e4,
        fixed=costs.fixed_fee,
        initial=costs.initial_cash,
        long=float(costs.direction in ("long", "both")),
        short=float(costs.direction in ("short", "both")),
        stop=_or(costs.stop_loss, np.nan),
        profit=_or(costs.take_profit, np.nan),
        minimum=costs.min_fee,
        maker=np.nan if costs.maker_fee_bps is None else costs.maker_fee_bps / 1e4,
        share=_or(costs.volume_share, np.inf),
        impact=costs.volume_impact,
        worth=_or(costs.entry_value, np.inf),
        worked=float(costs.worked or costs.stopped),
    )


def market_of(bars: SweepBars, costs: Costs) -> Market:
    """Return the bars with slippage and sizes; what is the same on every bar is one value, which spares memory."""
    ranged, aimed = costs.slippage_range > 0, costs.target_volatility is not None
    slippage = bars.slippage(costs) if ranged else np.array([costs.slippage_bps / 1e4])
    sizes = bars.sizes(costs) if aimed else np.array([costs.fraction])
    return Market(bars.matrix, bars.tradable, bars.volumes, slippage, sizes)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
