"""The third engine: a bar-by-bar loop in plain Python that obeys every rule of `Costs`, slowly and in the open.

It shares no code with the two others and knows no insolvency: a test sees to it that the account stays alive.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from itertools import pairwise

from tasks.sweep.costs import Costs
from tasks.sweep.market import SweepBars


@dataclass
class Trade:
    """What one fill closed of a position."""

    entry: int
    exit: int
    side: int
    quantity: float
    entry_price: float
    exit_price: float
    fees: float

    @property
    def pnl(self) -> float:
        """Profit after the fees of both ends."""
        return self.side * self.quantity * (self.exit_price - self.entry_price) - self.fees


@dataclass
class Bar:
    """One bar, and what is known of it before it opens."""

    index: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    slippage: float
    size: float
    room: float


class Account:
    """Cash, a position, and the part of an order that waits for volume."""

    def __init__(self, costs: Costs) -> None:
        self.costs, self.cash, self.trades = costs, costs.initial_cash, []
        self.held, self.waiting, self.entry_price, self.paid, self.since = 0.0, 0.0, 0.0, 0.0, -1

    @property
    def bound_for(self) -> int:
        """The side the account will be on once its order is done."""
        end = self.held + self.waiting
        return 0 if abs(end) < 1e-9 * abs(self.held) else (end > 0) - (end < 0)

    def commission(self, value: float, bps: float) -> float:
        """Return what a fill of this value costs."""
        return max(value * bps / 10_000, self.costs.min_fee) + self.costs.fixed_fee

    def affordable(self, cash: float) -> float:
        """Return the value that cash buys with its commission: the smaller of what rate and minimum leave."""
        by_rate = (cash - self.costs.fixed_fee) / (1 + self.costs.fee_bps / 10_000)
        return max(0.0, min(by_rate, cash - self.costs.fixed_fee - self.costs.min_fee))

    def order(self, side: int, bar: Bar) -> float:
        """Return the signed quantity that takes the account to `side`; both ends of a reversal are one order."""
        if self.held * side > 0:
            return 0.0
        if side == 0:
            return -self.held
        price = bar.open * (1 + side * bar.slippage)
        most = math.inf if self.costs.entry_value is None else self.costs.entry_value / price
        if side > 0:
            money = self.cash if self.held else bar.size * self.cash
            return min(self.affordable(money) / price, most)
        if self.held == 0:
            return -min(bar.size * self.affordable(self.cash) / price, most)
        rate, fixed, worth = self.costs.fee_bps / 10_000, self.costs.fixed_fee, self.held * price
        by_rate = (self.cash + worth * (1 - rate) - fixed) / (1 + rate)
        by_minimum = self.cash + worth - fixed - self.costs.min_fee
        return -self.held - (by_rate if (worth + by_rate) * rate >= self.costs.min_fee else by_minimum) / price

    def work(self, bar: Bar, price: float, resting: bool = False) -> None:
        """Fill what the volume has room for and the cash pays for; only what the volume cut off goes on waiting."""
        side, quantity = math.copysign(1, self.waiting), min(abs(self.waiting), bar.room)
        if quantity <= 1e-12:
            return
        bps = self.costs.fee_bps
        if resting and self.costs.maker_fee_bps is not None:
            bps = self.costs.maker_fee_bps
        else:
            moved = self.costs.volume_impact * (quantity / bar.volume) ** 2 if self.costs.volume_impact else 0.0
            price *= 1 + side * min(bar.slippage + moved, 0.5)
        cut, filled = quantity < abs(self.waiting), quantity
        fee = self.commission(quantity * price, bps)
        if side > 0 and quantity * price + fee > self.cash * (1 + 1e-12):
            by_rate = (self.cash - self.costs.fixed_fee) / (1 + bps / 10_000)
            filled = min(by_rate, self.cash - self.costs.fixed_fee - self.costs.min_fee) / price
            fee, cut = self.cash - filled * price, False
        if filled <= 0 or (side < 0 and fee > filled * price):
            self.waiting = self.waiting if cut else 0.0
            return
        self.cash -= side * filled * price + fee
        bar.room -= filled
        self.waiting = self.waiting - side * filled if cut else 0.0
        self.book(bar.index, side, filled, price, fee)

    def book(self, index: int, side: float, filled: float, price: float, fee: float) -> None:
        """Take the fill off the position, and what is left of it onto the other side."""
        closing = min(filled, abs(self.held)) if self.held * side < 0 else 0.0
        if closing and math.isclose(filled, abs(self.held), rel_tol=1e-9):
            closing = filled = abs(self.held)
        if closing:
            part = closing / abs(self.held)
            fees = self.paid * part + fee * closing / filled
            was = 1 if self.held > 0 else -1
            self.trades.append(Trade(self.since, index, was, closing, self.entry_price, price, fees))
            self.paid *= 1 - part
            self.held += side * closing
        opening = filled - closing
        if opening > 0:
            if self.held == 0:
                self.entry_price, self.paid, self.since = price, 0.0, index
            self.held += side * opening
            self.entry_price += (price - self.entry_price) * opening / abs(self.held)
            self.paid += fee * opening / filled

    def stop(self, bar: Bar) -> tuple[float, bool] | None:
        """Return where the bar takes the position out, and whether in a limit order: stop first, gaps at the open."""
        side = 1 if self.held > 0 else -1
        for fraction, away, resting in ((self.costs.stop_loss, -side, False), (self.costs.take_profit, side, True)):
            if fraction is None:
                continue
            level = self.entry_price * (1 + away * fraction)
            if (bar.open - level) * away >= 0:
                return bar.open, False
            if bar.low <= level <= bar.high:
                return level, resting
        return None


def trade_bar_by_bar(
    bullish: list[bool], bearish: list[bool], bars: SweepBars, costs: Costs
) -> tuple[list[Trade], list[float]]:
    """Follow the signals one bar at a time: decide at the close, fill at the next open, pay for it, end flat.

    Returns trades and value a close; a position that nobody could close is a last trade at the last close.
    """
    account, values, tradable = Account(costs), [costs.initial_cash], bars.tradable.tolist()
    last = max((t for t in range(1, len(bars)) if tradable[t]), default=0)
    for bar in bars_of(bars, costs):
        t = bar.index
        if tradable[t] and t <= last:
            view = bullish[t - 1] - bearish[t - 1]
            side = {"long": max(view, 0), "short": min(view, 0), "both": view}[costs.direction]
            if t == last:
                account.waiting = -account.held
            elif view and side != account.bound_for:
                account.waiting = account.order(side, bar)
            account.work(bar, bar.open)
            hit = account.stop(bar) if account.held * account.bound_for > 0 else None
            if hit is not None:
                account.waiting = -account.held
                account.work(bar, *hit)
        values.append(account.cash + account.held * bar.close)
    if account.held:
        account.book(len(bars) - 1, -math.copysign(1, account.held), abs(account.held), bars.closes[-1], 0.0)
    return account.trades, values


def bars_of(bars: SweepBars, costs: Costs) -> list[Bar]:
    """Return the bars from the second on, with slippage from the bar before and the room its own volume gives."""
    rows, made = bars.matrix.T.tolist(), []
    sizes, volumes = bars.sizes(costs).tolist(), bars.volumes.tolist()
    for t in range(1, len(rows)):
        _, high, low, close, _ = rows[t - 1]
        slippage = min(costs.slippage_bps / 10_000 + costs.slippage_range * (high - low) / close, 0.5)
        room = math.inf if costs.volume_share is None else costs.volume_share * volumes[t]
        made.append(Bar(t, *rows[t][:4], volumes[t], slippage, sizes[t], room))
    return made


def by_definition(trades: list[Trade], values: list[float], periods_per_year: float) -> list[float]:
    """Return total return, Sharpe, drawdown, trades and win rate from their textbook definitions."""
    changes = [0.0] + [b / a - 1 for a, b in pairwise(values)]
    deviation = statistics.stdev(changes)
    sharpe = statistics.fmean(changes) / deviation * math.sqrt(periods_per_year) if deviation > 0 else math.nan
    drawdown = min(value / max(values[: t + 1]) - 1 for t, value in enumerate(values))
    wins = sum(trade.pnl > 0 for trade in trades) / len(trades) if trades else math.nan
    return [values[-1] / values[0] - 1, sharpe, drawdown, len(trades), wins]
