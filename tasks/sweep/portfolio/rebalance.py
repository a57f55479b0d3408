"""Rebalancing through VectorBT: orders to target weights, one cash account a method shared by its members."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from vectorbt.portfolio import dispatch as portfolio
from vectorbt.records import dispatch as records

from tasks.sweep.costs import Costs
from tasks.sweep.portfolio.panel import Panel
from tasks.sweep.portfolio.plan import Plan

_ENGINE = "rust"
# vectorbt.portfolio.enums: SizeType.TargetPercent, Direction.LongOnly
_TARGET_PERCENT, _LONG_ONLY = 5, 0


@dataclass(frozen=True)
class Rebalanced:
    """What became of a plan; rows are those of the panel.

    Attributes:
        values: (rows, methods) worth of each account after each row, in the quote asset.
        held: (methods, decisions, members) share of the account in each member after the row of the fills.
        traded: (rows, methods) value traded on a row over the account's worth before it.
        fees: (methods,) commission paid.
        slippage: (methods,) what fills were worse than the price they were meant at.
        orders: (methods,) orders filled.
        skipped: (methods,) decisions on a member wanted or held that met no bar to be filled on.
    """

    values: np.ndarray
    held: np.ndarray
    traded: np.ndarray
    fees: np.ndarray
    slippage: np.ndarray
    orders: np.ndarray
    skipped: np.ndarray


def rebalance(panel: Panel, plan: Plan, costs: Costs) -> Rebalanced:
    """Trade a plan from `costs.initial_cash`: decided at a close, filled at the next row's price, sales first.

    A member without a bar on the row of the fills is not traded: it keeps its quantity and its last known worth. Buys
    come in the order of their size, and the last one gets what cash is left after costs. VectorBT sees the rows of the
    fills alone, since nothing happens on the others: memory grows with decisions, not with rows × methods × members.
    """
    methods, decisions, members = plan.weights.shape
    after, shape = plan.rows + 1, (decisions, methods * members)
    worth = _worth(panel)
    orders = _orders(panel, plan, costs, worth[after])
    by_column = records.col_map(np.ascontiguousarray(orders["col"]), shape[1], engine=_ENGINE)
    assets = portfolio.assets(portfolio.asset_flow(shape, orders, by_column, 2, engine=_ENGINE), engine=_ENGINE)
    flow = portfolio.cash_flow(shape, orders, by_column, False, engine=_ENGINE)
    quantities = assets.reshape(decisions, methods, members)
    cash = costs.initial_cash + np.cumsum(flow.reshape(decisions, methods, members).sum(axis=2), axis=0)
    values = np.full((len(worth), methods), costs.initial_cash)
    for k, (first, stop) in enumerate(pairwise([*after.tolist(), len(worth)])):
        values[first:stop] = cash[k] + worth[first:stop] @ quantities[k].T
    held = (quantities * worth[after][:, None] / values[after][:, :, None]).transpose(1, 0, 2)
    unmet = ~np.isfinite(panel.fills[after]) & ((plan.weights > 0) | (held > 0))
    traded, fees, slippage, count = _spent(orders, panel, after, values)
    return Rebalanced(values, held, traded, fees, slippage, count, unmet.sum(axis=(1, 2)))


def slippages(panel: Panel, costs: Costs) -> np.ndarray:
    """Return (rows, members) slippage of a fill on each row, as a fraction, from rows before it only."""
    found = np.full(panel.fills.shape, costs.slippage_bps / 1e4)
    if costs.slippage_range:
        before = np.nan_to_num(panel.ranges[:-1])
        found[1:] = np.minimum(found[1:] + costs.slippage_range * before, 0.5)
    return found


def _worth(panel: Panel) -> np.ndarray:
    """Return the panel's values without NaN: before its first bar a member, never held, is given that bar's close."""
    first = np.argmax(np.isfinite(panel.closes), axis=0)
    return np.where(np.isfinite(panel.valued), panel.valued, panel.closes[first, np.arange(len(first))])


def _orders(panel: Panel, plan: Plan, costs: Costs, worth: np.ndarray) -> np.ndarray:
    """Return VectorBT's order records; a row is a decision's fills, a column is method × members + member."""
    methods, decisions, members = plan.weights.shape
    after, shape = plan.rows + 1, (decisions, methods * members)
    fills = panel.fills[after]
    # At the fills the account is counted at the prices of the fills. An order without a price is ignored, while a size
    # of NaN would break the order in which VectorBT calls the others.
    counted = np.where(np.isfinite(fills), fills, worth)
    orders, _ = portfolio.simulate_from_orders(
        shape,
        np.full(methods, members, dtype=np.int64),
        np.full(methods, costs.initial_cash),
        np.tile(np.arange(members), (decisions, methods)).astype(np.int64),
        size=plan.weights.transpose(1, 0, 2).reshape(shape),
        price=np.tile(fills, methods),
        size_type=np.asarray(_TARGET_PERCENT),
        direction=np.asarray(_LONG_ONLY),
        fees=np.asarray(costs.fee_bps / 1e4),
        fixed_fees=np.asarray(costs.fixed_fee),
        slippage=np.tile(slippages(panel, costs)[after], methods),
        val_price=np.tile(counted, methods),
        close=np.tile(worth, methods),
        auto_call_seq=True,
        max_orders=methods * decisions * members + 1,
        engine=_ENGINE,
    )
    return orders


def _spent(
    orders: np.ndarray, panel: Panel, after: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return value traded a row over the account before it, fees, slippage and orders of each method."""
    methods, members = values.shape[1], len(panel.names)
    method, member, row = orders["col"] // members, orders["col"] % members, after[orders["idx"]]
    traded = np.zeros_like(values)
    np.add.at(traded, (row, method), orders["size"] * orders["price"])
    traded[1:] /= values[:-1]  # nothing is ever filled on the first row
    worse = orders["size"] * np.abs(orders["price"] - panel.fills[row, member])
    return (
        traded,
        np.bincount(method, weights=orders["fees"], minlength=methods),
        np.bincount(method, weights=worse, minlength=methods),
        np.bincount(method, minlength=methods),
    )
