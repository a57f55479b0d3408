"""VectorBT's order-level simulation, bar by bar: for orders with rules of their own and strategies with state.

`simulate_orders` runs any order function of VectorBT's contract (what `Portfolio.from_order_func` takes) over our bars:
it sees cash, position and whatever it keeps in its arguments, and is called for every row that `active` leaves in.
`follow_signals` is the order function that obeys all of `Costs`; a sweep with capped volume, minimum or maker fees is
certified by it. VectorBT compiles its simulator anew in each process (about 6 s) and cannot cache it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from vectorbt.portfolio.enums import Direction, Order, OrderContext, SizeType
from vectorbt.portfolio.nb import order_nb, order_nothing_nb, simulate_nb
from vectorbt.utils.math_ import is_close_nb

from tasks.strategies.strategy import HIGH, LOW, OPEN
from tasks.sweep.costs import Costs
from tasks.sweep.market import SweepBars


class Terms(NamedTuple):
    """`Costs` as the order function reads them; without stops a bar is one row, with them the open and the rest."""

    rows_per_bar: int
    last: int
    fee: float
    maker: float
    fixed: float
    minimum: float
    share: float
    impact: float
    worth: float
    stop: float
    profit: float
    long: bool
    short: bool


class Work(NamedTuple):
    """What the order function remembers of each column: arrays, because VectorBT passes arguments by reference."""

    left: np.ndarray
    asked: np.ndarray
    before: np.ndarray
    taken: np.ndarray
    bar: np.ndarray


def simulate_orders(
    order_func: Callable[..., Order],
    args: tuple[Any, ...],
    shape: tuple[int, int],
    initial_cash: float,
    active: np.ndarray | None = None,
    max_orders: int | None = None,
) -> np.ndarray:
    """Return the order records of VectorBT's simulator for a compiled order function.

    Args:
        order_func: ``order_func(context, *args) -> Order``, compiled with `numba.njit`; see
            `vectorbt.portfolio.nb.simulate_nb`. Prices come from `args`; the account is valued at the close afterwards.
        args: What it gets besides VectorBT's context.
        shape: Rows and columns; every column has an account of its own.
        initial_cash: Of each account.
        active: (rows, columns) bool, the rows it is called on; None for all. Most of the time goes into those calls.
        max_orders: Room for order records; None for one a row.
    """
    ones, cash = np.ones(shape[1], dtype=np.int64), np.full(shape[1], initial_cash)
    calls = np.zeros(shape, dtype=np.int64)
    mask = np.ones(shape, dtype=bool) if active is None else active
    orders, _ = simulate_nb(
        shape,
        ones,
        cash,
        False,
        calls,
        mask,
        order_func_nb=order_func,
        order_args=args,
        close=np.ones((1, 1)),  # nothing reads VectorBT's valuation: every order is an amount
        max_orders=shape[0] * shape[1] if max_orders is None else max_orders,
    )
    return orders


def follow_signals(
    views: np.ndarray, bars: SweepBars, segment: slice, tradable: np.ndarray, costs: Costs
) -> np.ndarray:
    """Trade (bars, columns) views, 1 bullish and -1 bearish at the open they are filled on, and return the orders.

    Their `idx` is the bar, from the start of `segment`.
    """
    rows_per_bar = 2 if costs.stopped else 1
    open_bars = np.flatnonzero(tradable)
    last = int(open_bars[-1]) if len(open_bars) else -1
    terms = Terms(
        rows_per_bar=rows_per_bar,
        last=last,
        fee=costs.fee_bps / 1e4,
        maker=np.nan if costs.maker_fee_bps is None else costs.maker_fee_bps / 1e4,
        fixed=costs.fixed_fee,
        minimum=costs.min_fee,
        share=np.nan if costs.volume_share is None else costs.volume_share,
        impact=costs.volume_impact,
        worth=np.inf if costs.entry_value is None else costs.entry_value,
        stop=np.nan if costs.stop_loss is None else costs.stop_loss,
        profit=np.nan if costs.take_profit is None else costs.take_profit,
        long=costs.direction in ("long", "both"),
        short=costs.direction in ("short", "both"),
    )
    shape = (rows_per_bar * len(views), views.shape[1])
    active = None
    if not costs.stopped and costs.volume_share is None:  # nothing ever happens between two views
        active = views != 0
        active[last] |= last >= 0
    left, asked, before, taken = np.zeros((4, shape[1]))
    work = Work(left, asked, before, taken, np.full(shape[1], -1))
    told = bars.volumes, bars.slippage(costs), bars.sizes(costs)
    market = bars.matrix[:, segment], tradable, *(array[segment] for array in told)
    orders = simulate_orders(_follow, (views, *market, terms, work), shape, costs.initial_cash, active)
    orders["idx"] //= rows_per_bar
    return orders


@njit
def _follow(
    context: OrderContext,
    views: np.ndarray,
    bars: np.ndarray,
    tradable: np.ndarray,
    volumes: np.ndarray,
    slippage: np.ndarray,
    sizes: np.ndarray,
    terms: Terms,
    work: Work,
) -> Order:
    """Decide the order of one row: the open of a bar, or (second row) what stops make of the rest of it."""
    t, c = context.i // terms.rows_per_bar, context.col
    _settle(context, work, c)
    if t == 0 or t > terms.last or not tradable[t]:
        return order_nothing_nb()
    if work.bar[c] != t:
        work.bar[c], work.taken[c] = t, 0.0
    position, price, limit = context.position_now, bars[OPEN, t], False
    if context.i % terms.rows_per_bar == 0:
        view = 0 if t == terms.last else views[t, c]
        if t == terms.last:
            work.left[c] = -position
        elif view != 0:
            side = (1 if terms.long else 0) if view > 0 else (-1 if terms.short else 0)
            heading = np.sign(position + work.left[c])
            if heading != side:
                work.left[c] = _whole_order(context, side, price * (1 + side * slippage[t]), sizes[t], terms)
    else:
        if position == 0 or np.sign(position + work.left[c]) != np.sign(position):
            return order_nothing_nb()
        price, limit = _stop(position, context.pos_record_now["entry_price"], bars[:, t], terms)
        if np.isnan(price):
            return order_nothing_nb()
        work.left[c] = -position
    return _slice(context, work, c, price, limit, slippage[t], volumes[t], terms)


@njit
def _settle(context: OrderContext, work: Work, c: int) -> None:
    """See what became of the order before: what the volume cut off is left to do, nothing else."""
    asked, left = work.asked[c], work.left[c]
    if asked == 0:
        return
    filled = context.position_now - work.before[c]
    work.taken[c] += abs(filled)
    cut = abs(asked) < abs(left)
    left_over = left - filled
    if not cut or (asked > 0 and not is_close_nb(filled, asked)) or is_close_nb(left, filled):
        left_over = 0.0
    work.left[c], work.asked[c] = left_over, 0.0


@njit
def _whole_order(context: OrderContext, side: int, price: float, size: float, terms: Terms) -> float:
    """Return the signed quantity that takes the account to `side`, or 0 where it is still there."""
    position, cash = context.position_now, context.cash_now
    if position * side > 0:
        return 0.0
    if side == 0:
        return -position
    if side > 0:
        money = cash if position < 0 else size * cash
        quantity = _payable(money, terms) / price
    elif position > 0:
        worth = position * price
        added = (cash + worth * (1 - terms.fee) - terms.fixed) / (price * (1 + terms.fee))
        if (position + added) * price * terms.fee < terms.minimum:
            added = (cash + worth - terms.fixed - terms.minimum) / price
        quantity = position + added
    else:
        quantity = size * _payable(cash, terms) / price
    return side * max(min(quantity, terms.worth / price), 0.0)


@njit
def _payable(cash: float, terms: Terms) -> float:
    """Return the traded value whose commission `cash` pays as well."""
    by_rate = (cash - terms.fixed) / (1 + terms.fee)
    return by_rate if by_rate * terms.fee >= terms.minimum else cash - terms.fixed - terms.minimum


@njit
def _stop(position: float, entry: float, bar: np.ndarray, terms: Terms) -> tuple[float, bool]:
    """Return the price the bar takes the position out at (NaN: it does not), and whether a limit order did."""
    opened, side = bar[OPEN], np.sign(position)
    loss, gain = entry * (1 - side * terms.stop), entry * (1 + side * terms.profit)
    if side * (opened - loss) <= 0:
        return opened, False
    if bar[LOW] <= loss <= bar[HIGH]:
        return loss, False
    if side * (opened - gain) >= 0:
        return opened, False
    if bar[LOW] <= gain <= bar[HIGH]:
        return gain, not np.isnan(terms.maker)
    return np.nan, False


@njit
def _slice(
    context: OrderContext, work: Work, c: int, price: float, limit: bool, slipped: float, volume: float, terms: Terms
) -> Order:
    """Return the order for what this bar's volume has room for; VectorBT sees to the cash."""
    quantity, side = abs(work.left[c]), np.sign(work.left[c])
    if not np.isnan(terms.share):
        quantity = min(quantity, terms.share * volume - work.taken[c])
    if quantity <= 1e-12:
        return order_nothing_nb()
    rate = terms.maker if limit else terms.fee
    slipped = 0.0 if limit else slipped
    if terms.impact > 0 and not limit:
        slipped = min(0.5, slipped + terms.impact * (quantity / volume) ** 2)
    paid = price * (1 + side * slipped)
    value = quantity * paid
    if side > 0:
        by_rate = (context.cash_now - terms.fixed) / (1 + rate)
        least = by_rate * rate < terms.minimum
        value = min(value, context.cash_now - terms.fixed - terms.minimum if least else by_rate)
    work.asked[c], work.before[c] = side * quantity, context.position_now
    if value * rate < terms.minimum:
        rate, fixed = 0.0, terms.fixed + terms.minimum
    else:
        fixed = terms.fixed
    return order_nb(side * quantity, price, SizeType.Amount, Direction.Both, rate, fixed, slipped)
