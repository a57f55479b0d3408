"""Other event-driven engines on given signals, for `make bench-sweep`: decide at a close, fill at the next open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tasks.strategies.strategy import COLUMNS
from tasks.sweep.costs import Costs
from tasks.sweep.market import SweepBars


def frame_of(bars: SweepBars, entries: np.ndarray, exits: np.ndarray) -> pd.DataFrame:
    """Return bars and signals as the pandas frame these engines take."""
    table = pd.DataFrame(dict(zip(COLUMNS, bars.matrix, strict=True)), index=pd.DatetimeIndex(bars.timestamps))
    return table.assign(entries=entries, exits=exits)


def run_backtrader(table: pd.DataFrame) -> int:
    """Run backtrader with market orders at the next open; return the fills."""
    import backtrader as bt

    class Feed(bt.feeds.PandasData):
        lines = ("entries", "exits")
        params = (("entries", -1), ("exits", -1))  # type: ignore[bad-override]  # backtrader merges these

    class Follow(bt.Strategy):
        fills = 0

        def next(self) -> None:
            if self.position and self.data.exits[0]:
                self.close()
            elif not self.position and self.data.entries[0]:
                self.buy(size=1)

        def notify_order(self, order: bt.Order) -> None:
            self.fills += order.status == order.Completed

    cerebro = bt.Cerebro(stdstats=False)  # type: ignore[unexpected-keyword]
    cerebro.adddata(Feed(dataname=table))  # type: ignore[unexpected-keyword]
    cerebro.addstrategy(Follow)
    return cerebro.run()[0].fills


def run_backtesting(table: pd.DataFrame) -> int:
    """Run backtesting.py with market orders at the next open; return the trades."""
    from backtesting import Backtest, Strategy

    class Follow(Strategy):
        def init(self) -> None:
            self.entries, self.exits = self.data.entries, self.data.exits

        def next(self) -> None:
            if self.position and self.data.exits[-1]:
                self.position.close()
            elif not self.position and self.data.entries[-1]:
                self.buy(size=1)

    named = table.rename(columns={name: name.capitalize() for name in COLUMNS})
    return len(Backtest(named, Follow, cash=1e9, commission=5e-6).run()["_trades"])


def prepare_from_signals(table: pd.DataFrame, pressure: np.ndarray, entry: float, leave: float):
    """Return a call of VectorBT's `from_signals`, from the indicator to the final value.

    The value comes as an array: the runner takes a float for seconds.
    """
    import vectorbt as vbt

    series = pd.Series(pressure, index=table.index)
    told = {"price": table["open"], "fees": 5e-6, "freq": "5min"}

    def call() -> np.ndarray:
        before = series.shift(1)
        entries = ((series > entry) & (before <= entry)).shift(1, fill_value=False)
        exits = ((series < leave) & (before >= leave)).shift(1, fill_value=False)
        return np.array(vbt.Portfolio.from_signals(table["close"], entries, exits, **told).final_value())

    return call


def prepare_from_order_func(table: pd.DataFrame):
    """Return a call of VectorBT's `from_order_func` that decides from the state of its account.

    As in `tasks.sweep.events` it is called where a signal waits: a call costs 0.8 µs, whatever it decides.
    """
    import vectorbt as vbt
    from numba import njit
    from vectorbt.portfolio.enums import Direction, SizeType
    from vectorbt.portfolio.nb import order_nb, order_nothing_nb

    @njit
    def follow(context, entries, exits, opens, fee):
        t = context.i
        if t > 0 and context.position_now == 0 and entries[t - 1]:
            return order_nb(np.inf, opens[t], SizeType.Amount, Direction.LongOnly, fee)
        if t > 0 and context.position_now > 0 and exits[t - 1]:
            return order_nb(-np.inf, opens[t], SizeType.Amount, Direction.LongOnly, fee)
        return order_nothing_nb()

    entries, exits = table["entries"].to_numpy(), table["exits"].to_numpy()
    told = entries, exits, table["open"].to_numpy(), 5e-6
    run: Any = vbt.Portfolio.from_order_func

    def call() -> np.ndarray:
        waiting = np.concatenate([[False], (entries | exits)[:-1]])[:, None]
        return np.array(run(table["close"], follow, *told, segment_mask=waiting, freq="5min").final_value())

    return call


def prepare_orders(bars: SweepBars, entries: np.ndarray, exits: np.ndarray, costs: Costs):
    """Return a call of our order-level engine (VectorBT's simulator, our order function), to the last figure."""
    from tasks.sweep import run

    span = slice(0, len(bars))
    return lambda: run.simulate(bars, entries[None, :], exits[None, :], costs, span).figures
