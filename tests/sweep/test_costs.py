"""What a fill costs, by hand: small bars on which every figure can be worked out on paper."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tasks.errors import InputError
from tasks.strategies.strategy import signal
from tasks.sweep import engine
from tasks.sweep.ask import ask
from tasks.sweep.costs import Costs
from tasks.sweep.market import SweepBars

FREE = Costs(fee_bps=0, slippage_bps=0, initial_cash=1_000.0)


@signal
def given_signal(bars, rows, use, params, entries, exits) -> None:
    """Copy the flags that the two rows hold."""
    for t in range(entries.size):
        entries[t], exits[t] = rows[0, t] > 0, rows[1, t] > 0


def trades(prices: list[tuple[float, ...]], buy: int, sell: int, hole: int = 0, **told) -> np.ndarray:
    """Return the trades of one round on (open, high, low, close, volume) bars; the views fall on `buy` and `sell`.

    Nothing is known of the time before bar `hole`.
    """
    matrix = np.ascontiguousarray(np.array(prices, dtype=float).T)
    count = matrix.shape[1]
    bars = SweepBars(
        np.arange(count).astype("datetime64[us]"), matrix, (np.arange(count) > 0) & (np.arange(count) != hole), 252.0
    )
    rows = np.zeros((2, count))
    rows[0, buy], rows[1, sell] = 1, 1
    costs, use = FREE.model_copy(update=told), np.array([0, 1])
    return engine.trade_set(
        given_signal, bars.joined() if hole else bars, rows, use, np.zeros(1), costs, slice(0, count)
    )


def flat(count: int, volume: float) -> list[tuple[float, ...]]:
    """Return bars that stay at 100."""
    return [(100.0, 101.0, 99.0, 100.0, volume)] * count


def test_an_order_takes_the_bars_that_its_volume_needs() -> None:
    """Ten units at four a bar are bought on three bars, and sold on three: 4, 4 and the 2 that are left."""
    found = trades(flat(12, 10.0), 0, 5, volume_share=0.4)
    np.testing.assert_allclose(found[:, :5], [[1, 6, 1, 4, 100], [1, 7, 1, 4, 100], [1, 8, 1, 2, 100]])


def test_a_view_that_turns_ends_the_order() -> None:
    """What was bought until the view turned is sold; what still waited is not bought."""
    found = trades(flat(12, 10.0), 0, 1, volume_share=0.4)
    np.testing.assert_allclose(found[:, [0, 1, 3]], [[1, 2, 4]])


def test_what_the_last_bar_cannot_take_is_valued_at_its_close() -> None:
    """Ten units, six sold on the last two bars that trade; four are left, and counted at the close without a fee."""
    found = trades([*flat(7, 20.0), *flat(1, 6.0)], 0, 7, volume_share=0.5, fixed_fee=1.0)
    np.testing.assert_allclose(found[:, [1, 3]], [[7, 3], [7, 6.99]])
    np.testing.assert_allclose(found[:, 6].sum(), 2.0)


def test_a_cap_counts_in_the_units_of_joined_prices() -> None:
    """After a hole in which the price halved, prices count double and volumes half: 2 for 4 of 10 units."""
    halved = [(50.0, 50.5, 49.5, 50.0, 10.0)] * 8
    found = trades([*flat(2, 10.0), *halved], 2, 5, hole=2, volume_share=0.4)
    np.testing.assert_allclose(found[:, [3, 4]], [[2, 100.0]] * 3)


def test_a_large_share_of_the_volume_moves_the_price() -> None:
    """Ten of twenty units are half the bar: 0.1 · 0.5² = 2.5 % dearer, and the cash buys as much less."""
    found = trades(flat(6, 20.0), 0, 3, volume_share=0.5, volume_impact=0.1)
    np.testing.assert_allclose(found[0, 3:5], [1_000 / 102.5, 102.5])


def test_a_small_order_pays_the_least_commission() -> None:
    """A tenth of a per cent of 1,000 would be 1; the least is 5, each way, and what is bought leaves room for it."""
    found = trades(flat(6, 1.0), 0, 3, fee_bps=10.0, min_fee=5.0)
    np.testing.assert_allclose(found[0, [3, 6]], [9.95, 10.0])
    assert trades(flat(6, 1.0), 0, 3, fee_bps=100.0, min_fee=5.0)[0, 6] == pytest.approx(19.80198)


def test_a_fixed_size_uses_no_more_than_the_cash() -> None:
    """An entry trades 250, or all there is where that is less."""
    assert trades(flat(6, 1.0), 0, 3, entry_value=250.0)[0, 3] == 2.5
    assert trades(flat(6, 1.0), 0, 3, entry_value=2_500.0)[0, 3] == 10.0


@pytest.mark.parametrize(
    ("opened", "maker", "price", "fee"),
    [(101.0, 1.0, 105.0, 0.0105), (101.0, None, 103.95, 0.10395), (106.0, 1.0, 104.94, 0.10494)],
    ids=["rests", "market", "gap"],
)
def test_a_resting_take_profit_pays_the_maker_rate(opened, maker, price, fee) -> None:
    """At its level it pays no slippage; without a maker rate, or over a gap, it is a market order like any other."""
    bars = [*flat(2, 1.0), (opened, 107.0, 100.5, 106.0, 1.0), *flat(3, 1.0)]
    costs = {"fee_bps": 10.0, "slippage_bps": 100.0, "take_profit": 4 / 101}
    found = trades(bars, 0, 4, maker_fee_bps=maker, **costs)
    np.testing.assert_allclose(found[0, [1, 4, 5]], [2, 101.0, price])
    np.testing.assert_allclose(found[0, 6] / found[0, 3], 0.101 + fee)


@pytest.mark.parametrize("volume", [None, float("nan"), float("inf"), -1.0])
def test_a_cap_needs_volumes_that_are_known(bars, volume: float | None) -> None:
    """A share of an unknown volume is no cap at all: such bars are refused where the costs count on one."""
    frame = bars(300).with_columns(volume=pl.when(pl.int_range(pl.len()) == 7).then(volume).otherwise("volume"))
    told = {"symbol": "AB", "interval": "1m", "strategy": "ma_crossover"}
    assert len(ask(frame, **told).bars) == 300
    with pytest.raises(InputError, match="volume_share: expected a volume of every bar, found 1 unknown or negative"):
        ask(frame, costs=Costs(volume_share=0.1), **told)


def test_impact_needs_a_cap() -> None:
    """Without a share of the volume there is nothing that moves the price."""
    with pytest.raises(ValueError, match="expected volume_share beside volume_impact"):
        Costs(volume_impact=0.1)


def test_dearer_costs_scale_every_cost() -> None:
    """Twice the costs: twice every fee and slippage, and neither the cap nor the sizes."""
    costs = Costs(maker_fee_bps=1.0, min_fee=2.0, volume_share=0.1, volume_impact=0.1, entry_value=100.0)
    twice = costs.scaled(2)
    assert (twice.fee_bps, twice.maker_fee_bps, twice.min_fee, twice.volume_impact) == (10.0, 2.0, 4.0, 0.2)
    assert (twice.volume_share, twice.entry_value) == (0.1, 100.0)
    assert Costs().scaled(2).maker_fee_bps is None
