"""VectorBT, the engine of record: its simulator called directly, a chunk of columns at a time.

Indicators and signals are ours (exact on ties, shared between combinations); orders, cash, trades and returns are
VectorBT's. Its Rust engine is named in every call: the Numba one compiles for 20 s in each process. The only module
that imports vectorbt besides `events`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from vectorbt.portfolio import dispatch as portfolio
from vectorbt.records import dispatch as records
from vectorbt.returns import dispatch as returns_of

from tasks.sweep.costs import Costs
from tasks.sweep.events import follow_signals
from tasks.sweep.market import SweepBars
from tasks.sweep.metrics import RUIN

_ENGINE = "rust"
# vectorbt.portfolio.enums: OppositeEntryMode.Reverse, StopEntryPrice.FillPrice, StopExitPrice.StopMarket, SizeType
_REVERSE, _FILL_PRICE, _STOP_MARKET, _AMOUNT, _PERCENT = 3, 2, 1, 0, 2
#: Bars × combinations held at once: about 60 bytes a cell, so 60 MB.
CELLS_PER_CHUNK = 1_000_000


@dataclass(frozen=True)
class Simulated:
    """What VectorBT says about some columns of signals over one segment.

    Attributes:
        figures: (columns, 5) in the order of `result.FIGURES`.
        values: (bars, columns) portfolio value at each close, in the quote asset.
        returns: (bars, columns) simple returns of `values`, the first against the initial cash.
        trades: Structured array of VectorBT's exit trades, all columns.
        exposure: (columns,) share of bars that end with a position.
    """

    figures: np.ndarray
    values: np.ndarray
    returns: np.ndarray
    trades: np.ndarray
    exposure: np.ndarray


def chunks(columns: int, bars: int, cells: int = CELLS_PER_CHUNK) -> Iterator[slice]:
    """Cut combinations into column chunks that hold at most `cells` cells (one column at the least)."""
    width = max(1, cells // max(1, bars))
    for first in range(0, columns, width):
        yield slice(first, min(first + width, columns))


def views(entries: np.ndarray, exits: np.ndarray, tradable: np.ndarray) -> np.ndarray:
    """Return (bars, columns) int8: the view each bar's open is filled on, 1 bullish, -1 bearish, 0 none."""
    turned = np.zeros(entries.shape[::-1], dtype=np.int8)
    turned[1:] = (entries.view(np.int8) - exits.view(np.int8))[:, :-1].T * tradable[1:, None]
    return turned


def fills(
    entries: np.ndarray, exits: np.ndarray, tradable: np.ndarray, direction: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Turn signals at closes into orders at opens: (long entries, long exits, short entries, short exits).

    All are (bars, columns). Each signal moves one bar on and is dropped where that bar is not tradable; a bar with
    both flags does nothing; at the last tradable bar everything is closed and nothing opened, so a run ends flat.
    """
    turned = views(entries, exits, tradable)
    bullish, bearish = turned > 0, turned < 0
    if not tradable[1:].any():
        return bullish, bearish, np.zeros_like(bullish), np.zeros_like(bullish)
    last = int(np.flatnonzero(tradable[1:])[-1]) + 1
    bullish[last:], bearish[last:] = False, False
    none = np.zeros_like(bullish)
    closing = none.copy()
    closing[last] = True
    if direction == "long":
        return bullish, bearish | closing, none, none
    if direction == "short":
        return none, none, bearish, bullish | closing
    return bullish, closing, bearish, closing


def simulate(bars: SweepBars, entries: np.ndarray, exits: np.ndarray, costs: Costs, segment: slice) -> Simulated:
    """Run (columns, bars) boolean signals over the bars of `segment`, each column from `costs.initial_cash`."""
    entries, exits = entries[:, segment], exits[:, segment]
    columns = len(entries)
    tradable = bars.tradable[segment].copy()
    tradable[0] = False
    if costs.worked:
        orders = follow_signals(views(entries, exits, tradable), bars, segment, tradable, costs)
    else:
        told = _orders_with_stops if costs.stopped else _orders
        orders = told(fills(entries, exits, tradable, costs.direction), bars, segment, tradable, costs)
    return account(orders, bars, costs, segment, columns)


_Signals = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _orders(signals: _Signals, bars: SweepBars, segment: slice, tradable: np.ndarray, costs: Costs) -> np.ndarray:
    opens = bars.opens[segment][:, None]
    return _simulate(
        signals,
        costs,
        bars.slippage(costs)[segment],
        bars.sizes(costs)[segment],
        price=opens,
        val_price=opens,
        use_stops=False,
    )


def _orders_with_stops(
    signals: _Signals, bars: SweepBars, segment: slice, tradable: np.ndarray, costs: Costs
) -> np.ndarray:
    """Give VectorBT two rows a bar: the open, where signals fill, and the rest of the bar, where its stops look.

    With one row a bar it would not look at stops on the bar of the entry, which flatters. A row of NaN prices never
    meets a stop: the first row of each bar, and the second of a bar that is not tradable.
    """
    rows = 2 * len(tradable)
    wide = np.zeros((4, rows, signals[0].shape[1]), dtype=bool)
    wide[:, ::2] = signals
    looked = {}
    for name, values in zip(("open", "high", "low", "close"), bars.matrix[:4], strict=True):
        column = np.full((rows, 1), np.nan)
        column[1::2, 0] = np.where(tradable, values[segment], np.nan)
        looked[name] = column
    price = np.repeat(bars.opens[segment], 2)[:, None]
    orders = _simulate(
        (wide[0], wide[1], wide[2], wide[3]),
        costs,
        np.repeat(bars.slippage(costs)[segment], 2),
        np.repeat(bars.sizes(costs)[segment], 2),
        price=price,
        val_price=price,
        sl_stop=np.asarray(np.nan if costs.stop_loss is None else costs.stop_loss),
        tp_stop=np.asarray(np.nan if costs.take_profit is None else costs.take_profit),
        stop_entry_price=np.asarray(_FILL_PRICE),
        stop_exit_price=np.asarray(_STOP_MARKET),
        use_stops=True,
        **looked,
    )
    orders["idx"] //= 2
    return orders


def _simulate(signals: _Signals, costs: Costs, slippage: np.ndarray, sizes: np.ndarray, **told: Any) -> np.ndarray:
    """Call VectorBT's simulator and return its order records."""
    shape = signals[0].shape
    long_entries, long_exits, short_entries, short_exits = signals
    orders, _ = portfolio.simulate_from_signals(
        shape,
        np.ones(shape[1], dtype=np.int64),
        np.full(shape[1], costs.initial_cash),
        np.zeros(shape, dtype=np.int64),
        long_entries=long_entries,
        long_exits=long_exits,
        short_entries=short_entries,
        short_exits=short_exits,
        fees=np.asarray(costs.fee_bps / 1e4),
        fixed_fees=np.asarray(costs.fixed_fee),
        slippage=slippage[:, None],
        size=sizes[:, None] if costs.sized else np.asarray(np.inf),
        size_type=np.asarray(_PERCENT if costs.sized else _AMOUNT),
        upon_opposite_entry=np.asarray(_REVERSE),
        max_orders=2 * int(sum(flags.sum() for flags in signals)) + 1,
        engine=_ENGINE,
        **told,
    )
    return orders


def account(orders: np.ndarray, bars: SweepBars, costs: Costs, segment: slice, columns: int) -> Simulated:
    """Value accounts by their order records: whatever made them, each column starts from `costs.initial_cash`."""
    closes, rows = bars.closes[segment], segment.stop - segment.start
    shape, cash = (rows, columns), np.full(columns, costs.initial_cash)
    by_column = records.col_map(np.ascontiguousarray(orders["col"]), columns, engine=_ENGINE)
    grid = np.ascontiguousarray(np.broadcast_to(closes[:, None], shape))
    trades = portfolio.get_exit_trades(orders, grid, by_column, engine=_ENGINE)
    assets = portfolio.assets(portfolio.asset_flow(shape, orders, by_column, 2, engine=_ENGINE), engine=_ENGINE)
    exposure = (assets != 0).mean(axis=0)
    held = portfolio.asset_value(grid, assets, engine=_ENGINE)
    flow = portfolio.cash_flow(shape, orders, by_column, False, engine=_ENGINE)
    values = portfolio.value(portfolio.cash(flow, cash, engine=_ENGINE), held, engine=_ENGINE)
    changes = returns_of.returns(values, cash, engine=_ENGINE)
    figures = np.empty((columns, 5))
    figures[:, 0] = values[-1] / costs.initial_cash - 1
    figures[:, 1] = _sharpe(changes, bars.periods_per_year)
    figures[:, 2] = np.minimum(returns_of.max_drawdown(changes, engine=_ENGINE), 0.0)
    figures[~(figures[:, 2] > RUIN), 1] = np.nan
    figures[:, 3] = np.bincount(trades["col"], minlength=columns)
    wins = np.bincount(trades["col"], weights=trades["pnl"] > 0, minlength=columns)
    figures[:, 4] = np.divide(wins, figures[:, 3], out=np.full(columns, np.nan), where=figures[:, 3] > 0)
    return Simulated(figures, values, changes, trades, exposure)


def _sharpe(changes: np.ndarray, periods_per_year: float) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column that never trades divides 0 by 0; NaN is our word
        sharpe = returns_of.sharpe_ratio(changes, periods_per_year, 0.0, engine=_ENGINE)
    return np.where(np.ptp(changes, axis=0) == 0, np.nan, sharpe)
