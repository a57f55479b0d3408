"""Trade by trade against backtrader, which knows nothing of us: its indicators, its broker, its event loop."""

from __future__ import annotations

import math
from typing import Any

import backtrader as bt
import numpy as np
import polars as pl
import pytest

from tasks.strategies.registry import get
from tasks.sweep import engine
from tasks.sweep.costs import Costs
from tasks.sweep.grid import plan_grid
from tasks.sweep.market import prepare_bars

COSTS = Costs(fee_bps=10.0, slippage_bps=3.0)


class NextOpen(bt.Strategy):
    """Decide in `next`, at the close; order in `next_open`, at the next bar's open. Spends all it has, ends flat.

    The broker is given far more cash than the account, so that rounding never rejects an all-in order.
    """

    params = (("last", 0),)

    def __init__(self) -> None:
        self.view, self.account, self.orders = 0, COSTS.initial_cash, []

    def next_open(self) -> None:
        """Act on the view of the bar before."""
        final = len(self.data) - 1 == self.p.last
        if self.position and (self.view < 0 or final):
            self.close()
        elif not self.position and self.view > 0 and not final:
            price = self.data.open[0] * (1 + COSTS.slippage_bps / 1e4)
            self.buy(size=self.account / (price * (1 + COSTS.fee_bps / 1e4)))

    def notify_order(self, order: Any) -> None:
        """Keep every fill."""
        if order.status == order.Completed:
            done = order.executed
            self.account -= done.size * done.price + done.comm
            self.orders.append((len(self) - 1, done.size, done.price, done.comm))
        assert order.status not in (order.Margin, order.Rejected, order.Canceled)


class Crossover(NextOpen):
    """Two simple moving averages of backtrader's."""

    params = (("fast", 0), ("slow", 0))

    def __init__(self) -> None:
        super().__init__()
        self.fast, self.slow = bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow)

    def next(self) -> None:
        """See which side the averages are on, and whether they just changed it."""
        if len(self) > self.p.slow:
            now, before = self.fast[0] - self.slow[0], self.fast[-1] - self.slow[-1]
            self.view = (now > 0 and before <= 0) - (now < 0 and before >= 0)


class Pressure(NextOpen):
    """Sums of signed and of all volume by backtrader's `SumN`."""

    params = (("lookback", 0), ("entry", 0.0), ("exit", 0.0))

    def __init__(self) -> None:
        super().__init__()
        rose, fell = self.data.close > self.data.open, self.data.close < self.data.open
        self.signed = bt.ind.SumN((rose - fell) * self.data.volume, period=self.p.lookback)
        self.total = bt.ind.SumN(self.data.volume, period=self.p.lookback)
        self.before = math.nan

    def next(self) -> None:
        """Compare the pressure with both levels."""
        now = self.signed[0] / self.total[0] if self.total[0] > 0 else math.nan
        rises = now > self.p.entry and self.before <= self.p.entry
        falls = now < self.p.exit and self.before >= self.p.exit
        self.view, self.before = rises - falls, now


def trade_with_backtrader(frame: pl.DataFrame, strategy: type[NextOpen], params: dict[str, float]) -> np.ndarray:
    """Return (fills, 4): bar, signed quantity, price, fee."""
    table = frame.select(
        pl.col("timestamp").dt.replace_time_zone(None), "open", "high", "low", "close", "volume"
    ).to_pandas()
    cerebro = bt.Cerebro(cheat_on_open=True, stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=table.set_index("timestamp")))
    cerebro.addstrategy(strategy, last=frame.height - 1, **params)
    cerebro.broker.setcash(1e9)
    cerebro.broker.setcommission(commission=COSTS.fee_bps / 1e4)
    cerebro.broker.set_slippage_perc(COSTS.slippage_bps / 1e4, slip_open=True, slip_out=True)
    return np.array(cerebro.run()[0].orders)


@pytest.mark.parametrize("bars_of", ["bitcoin", "nvidia"])
@pytest.mark.parametrize(
    ("name", "strategy", "params"),
    [
        ("ma_crossover", Crossover, {"fast": 9, "slow": 34}),
        ("volume_pressure", Pressure, {"lookback": 30, "entry": 0.1, "exit": -0.1}),
    ],
)
def test_every_fill_equals_backtraders(request, bars_of, name, strategy, params) -> None:
    """On real bars, each fill's bar, quantity, price and fee are backtrader's to 1e-9."""
    frame: pl.DataFrame = request.getfixturevalue(bars_of).head(1_500)
    bars = prepare_bars(frame, "1m" if bars_of == "bitcoin" else "1d", expected=frame["timestamp"])
    grid = plan_grid(get(name), {key: [value] for key, value in params.items()})
    rows = grid.rows(bars.matrix)
    signal = grid.strategy.signal
    trades = engine.trade_set(signal, bars, rows, grid.use[0], grid.vectors[0], COSTS, slice(0, len(bars)))
    fills = trade_with_backtrader(frame, strategy, params)
    assert len(trades) > 15
    assert len(fills) == 2 * len(trades)
    bought, sold = fills[::2], fills[1::2]
    ours = trades[:, [0, 1, 3, 4, 5, 6]]
    theirs = np.column_stack(
        [bought[:, 0], sold[:, 0], bought[:, 1], bought[:, 2], sold[:, 2], bought[:, 3] + sold[:, 3]]
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    np.testing.assert_allclose(-sold[:, 1], trades[:, 3], rtol=1e-9)
