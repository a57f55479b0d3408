"""VectorBT, the fused engine and a bar-by-bar loop in plain Python: one truth about what a signal costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tasks.errors import DisagreementError
from tasks.strategies.registry import get
from tasks.sweep import engine, run
from tasks.sweep.certify import certify
from tasks.sweep.costs import Costs
from tasks.sweep.events import follow_signals
from tasks.sweep.fused import plan_chunks, run_grid
from tasks.sweep.grid import plan_grid
from tasks.sweep.market import SweepBars, prepare_bars
from tasks.sweep.question import Question
from tasks.sweep.sweep import run_sweep
from tasks.sweep.windows import WindowPlan, plan_windows
from tests.sweep.reference import by_definition, trade_bar_by_bar


def moving_average(values: list[float], window: int) -> list[float]:
    """Return the mean of the last `window` values: exact fractions, rounded once."""
    sums = list(accumulate(map(Fraction, values), initial=Fraction(0)))
    means = [float((b - a) / window) for a, b in zip(sums, sums[window:], strict=False)]
    return [math.nan] * (len(values) - len(means)) + means


def crossover(bars: SweepBars, fast: int, slow: int) -> tuple[list[bool], list[bool]]:
    """Return the crossings of two moving averages, by definition."""
    closes = bars.closes.tolist()
    a, b = moving_average(closes, fast), moving_average(closes, slow)
    pairs = range(1, len(closes))
    up = [False] + [a[t] > b[t] and a[t - 1] <= b[t - 1] for t in pairs]
    down = [False] + [a[t] < b[t] and a[t - 1] >= b[t - 1] for t in pairs]
    return up, down


def pressure(bars: SweepBars, lookback: int, entry: float, leave: float) -> tuple[list[bool], list[bool]]:
    """Return where signed volume over total volume rises through one level and falls through another."""
    opens, _, _, closes, volumes = bars.matrix.tolist()
    signed = [v * ((c > o) - (c < o)) for o, c, v in zip(opens, closes, volumes, strict=True)]
    top, bottom = moving_average(signed, lookback), moving_average(volumes, lookback)
    share = [x / y if y > 0 else math.nan for x, y in zip(top, bottom, strict=True)]
    pairs = range(1, len(closes))
    up = [False] + [share[t] > entry and share[t - 1] <= entry for t in pairs]
    down = [False] + [share[t] < leave and share[t - 1] >= leave for t in pairs]
    return up, down


CASES = [
    ("ma_crossover", {"fast": [3, 7], "slow": [10, 21]}, crossover),
    ("volume_pressure", {"lookback": [8, 30], "entry": [0.1, 0.3], "exit": [-0.2, 0.0]}, pressure),
]
COSTS = [Costs(), Costs(fee_bps=25.0, fixed_fee=1.5, slippage_bps=10.0), Costs(fee_bps=0, slippage_bps=0)]


def assert_equal_trades(bars: SweepBars, strategy: str, values: dict, by_hand: Callable, costs: Costs) -> int:
    """Compare the trades and figures of VectorBT, the fused engine and the loop; return how many trades there were."""
    grid = plan_grid(get(strategy), values)
    rows, count, span = grid.rows(bars.matrix), 0, slice(0, len(bars))
    segments = np.array([[0, len(bars)]])
    figures = engine.run_sets(grid.strategy.signal, bars, rows, grid.use, grid.vectors, costs, segments)[:, 0, :5]
    for k, params in enumerate(grid.sets):
        entries, exits = np.empty((2, 1, len(bars)), dtype=bool)
        grid.strategy.signal(bars.matrix, rows, grid.use[k], grid.vectors[k], entries[0], exits[0])
        vectorbt = run.simulate(bars, entries, exits, costs, span)
        fused = engine.trade_set(grid.strategy.signal, bars, rows, grid.use[k], grid.vectors[k], costs, span)
        trades, worth = trade_bar_by_bar(*by_hand(bars, *params.model_dump().values()), bars, costs)
        expected = [(t.entry, t.exit, t.side, t.quantity, t.entry_price, t.exit_price, t.fees, t.pnl) for t in trades]
        found = vectorbt.trades
        sides, fees = 1 - 2 * found["direction"], found["entry_fees"] + found["exit_fees"]
        names = ("size", "entry_price", "exit_price")
        listed = [found["entry_idx"], found["exit_idx"], sides, *(found[name] for name in names), fees, found["pnl"]]
        wanted = np.array(expected).reshape(-1, 8)
        np.testing.assert_allclose(np.column_stack(listed), wanted, rtol=1e-9, atol=1e-8, err_msg=f"VectorBT {params}")
        np.testing.assert_allclose(fused, wanted, rtol=1e-9, atol=1e-8, err_msg=f"fused {params}")
        told = by_definition(trades, worth, bars.periods_per_year)
        np.testing.assert_allclose(vectorbt.figures[0], told, rtol=1e-9, atol=1e-9, err_msg=f"VectorBT {params}")
        np.testing.assert_allclose(figures[k], told, rtol=1e-9, atol=1e-9, err_msg=f"fused {params}")
        count += len(trades)
    return count


@pytest.mark.parametrize("direction", ["long", "short", "both"])
@pytest.mark.parametrize("costs", COSTS, ids=["default", "heavy", "free"])
@pytest.mark.parametrize(("strategy", "values", "by_hand"), CASES, ids=[case[0] for case in CASES])
def test_trades_equal_a_bar_by_bar_loop(bars, strategy, values, by_hand, costs, direction) -> None:
    """Every trade equals the loop's: bars, prices, quantity, both fees and profit, on bars with ties and holes."""
    frame = bars(600, seed=3, drop=(100, 101, 250, 400))
    prepared = prepare_bars(frame, "1m")
    traded = assert_equal_trades(prepared, strategy, values, by_hand, costs.model_copy(update={"direction": direction}))
    assert traded > 40


@pytest.mark.parametrize(("strategy", "values", "by_hand"), CASES, ids=[case[0] for case in CASES])
def test_trades_equal_the_loop_on_real_bars(bitcoin: pl.DataFrame, strategy, values, by_hand) -> None:
    """The same on bitcoin's real minutes."""
    prepared = prepare_bars(bitcoin.head(1_500), "1m")
    assert assert_equal_trades(prepared, strategy, values, by_hand, Costs()) > 60


@st.composite
def any_costs(draw: st.DrawFn) -> Costs:
    """Draw costs: every field at rest or not, in every combination the model allows."""
    told = {
        "fee_bps": draw(st.just(0.0) | st.floats(0.01, 100)),
        "fixed_fee": draw(st.sampled_from([0.0, 0.5, 20.0])),
        "slippage_bps": draw(st.just(0.0) | st.floats(0.01, 50)),
        "slippage_range": draw(st.just(0.0) | st.floats(0.01, 0.3)),
        "direction": draw(st.sampled_from(["long", "short", "both"])),
        "stop_loss": draw(st.none() | st.floats(0.001, 0.05)),
        "take_profit": draw(st.none() | st.floats(0.001, 0.05)),
        "initial_cash": draw(st.sampled_from([1_000.0, 1e6])),
    }
    if draw(st.booleans()):
        told["min_fee"] = draw(st.just(0.0) | st.floats(0.01, 10))
        told["maker_fee_bps"] = draw(st.none() | st.floats(0, 20))
        told["volume_share"] = draw(st.none() | st.floats(0.01, 1))
    if told.get("volume_share"):
        told["volume_impact"] = draw(st.just(0.0) | st.floats(0.01, 1))
    if told["direction"] != "both":  # a reversal is one order and cannot be sized
        told["fraction"] = draw(st.just(1.0) | st.floats(0.1, 1.0))
        told["entry_value"] = draw(st.none() | st.floats(100, 10_000))
        told["target_volatility"] = draw(st.none() | st.floats(0.5, 20))
        told["volatility_lookback"] = draw(st.integers(2, 40))
    return Costs(**told)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(4, 250),
    tick=st.sampled_from([0.5, 0.01, 7.0]),
    drop=st.lists(st.integers(2, 240), max_size=6),
    which=st.integers(0, 1),
    first=st.integers(1, 9),
    second=st.integers(10, 40),
    costs=any_costs(),
    joined=st.booleans(),
)
def test_three_engines_agree_whatever_the_bars_and_costs(
    bars, seed, rows, tick, drop, which, first, second, costs, joined
) -> None:
    """Any bars, parameters and rule of `Costs`: the three give the same trades and figures."""
    frame = bars(rows, seed=seed, tick=tick, drop=tuple(drop))
    assume(frame.height >= 4)
    strategy, _, by_hand = CASES[which]
    values = (
        {"fast": [first], "slow": [second]}
        if which == 0
        else {"lookback": [second], "entry": [first / 20], "exit": [first / 20 - 0.2]}
    )
    prepared = prepare_bars(frame, "1m")
    prepared = prepared.joined() if joined else prepared
    trades, worth = trade_bar_by_bar(*by_hand(prepared, *(axis[0] for axis in values.values())), prepared, costs)
    assume(min(worth) > 0.05 * costs.initial_cash)  # the loop knows no insolvency; the two engines' is tested below
    moved = max(worth) - min(worth)
    assume(not trades or moved > 1e-5 * costs.initial_cash)  # the Sharpe ratio of rounding errors is anything
    assert_equal_trades(prepared, strategy, values, by_hand, costs)


@pytest.mark.parametrize("direction", ["long", "short", "both"])
@pytest.mark.parametrize("stops", [{}, {"stop_loss": 0.01, "take_profit": 0.02}], ids=["plain", "stops"])
def test_both_of_vectorbts_simulators_agree(bars, direction, stops) -> None:
    """What `from_signals` can say, the order-level simulation says as well: the same orders, record by record."""
    prepared = prepare_bars(bars(400, drop=(50, 51)), "1m")
    costs = Costs(direction=direction, fixed_fee=1.0, slippage_range=0.1, **stops)
    rng, span = np.random.default_rng(4), slice(0, len(prepared))
    entries, exits = rng.random((2, 3, len(prepared))) < 0.1
    tradable = prepared.tradable.copy()
    orders = follow_signals(run.views(entries, exits, tradable), prepared, span, tradable, costs)
    expected = run.simulate(prepared, entries, exits, costs, span)
    found = run.account(orders, prepared, costs, span, 3)
    assert len(expected.trades) > 40
    for name in ("col", "entry_idx", "exit_idx", "direction", "size", "entry_price", "exit_price", "pnl"):
        np.testing.assert_allclose(found.trades[name], expected.trades[name], rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(found.figures, expected.figures, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("direction", ["long", "short"])
def test_the_engines_agree_about_a_volatility_target(bars, direction) -> None:
    """Entries sized by the volatility before them: equal in both engines, smaller where it is wild, none unknown."""
    prepared = prepare_bars(bars(500), "1m")
    costs = Costs(direction=direction, target_volatility=4.0, volatility_lookback=60, slippage_range=0.05)
    sizes = prepared.sizes(costs)
    assert not sizes[:60].any()
    assert 0 < sizes[61:].min() < sizes[61:].max() <= 1
    grid, plan = plan_grid(get("ma_crossover"), {"fast": [2, 5], "slow": [9, 14]}), WindowPlan(count=1)
    question = Question("AB", "1m", prepared, grid, plan_windows(500, plan), plan, costs)
    figures = run_grid(question)
    assert certify(question, figures, [0]) == [0, 1, 2, 3]
    assert (figures[:, 0, 3] > 5).all()
    with pytest.raises(ValueError, match="a reversal is one order"):
        Costs(direction="both", fraction=0.5)


def test_a_lost_account_is_never_the_best(bars) -> None:
    """A short that owes more than it had, and is rich again a bar later, has no ratio and is chosen by nobody."""
    frame, spike = bars(600), pl.when(pl.int_range(600) == 150).then(3.0).otherwise(1.0)
    spiked = frame.with_columns(high=pl.col("high") * spike, close=pl.col("close") * spike)
    result = run_sweep(spiked, symbol="AB", interval="1m", strategy="ma_crossover", costs=Costs(direction="short"))
    traded = result.grid.filter(pl.col("is_trades") > 0)
    lost = pl.col("is_max_drawdown") <= -1
    assert traded.filter(lost).height > 0
    assert traded.filter(lost)["is_sharpe"].is_nan().all()
    assert not traded.filter(~lost)["is_sharpe"].is_nan().any()
    assert (result.windows["is_max_drawdown"] > -1).all()


@pytest.mark.parametrize("direction", ["short", "both"])
def test_the_engines_agree_about_ruin(direction) -> None:
    """An account that a short or its fees use up ends the same in both engines, to the last cent it owes."""
    closes = np.array([100, 101, 100, 99, 150, 230, 210, 390, 200, 100, 90, 95, 60, 80, 75, 60], dtype=float)
    matrix = np.ascontiguousarray([closes, closes + 1, closes - 1, closes, np.ones(16)])
    bars = SweepBars(np.arange(16).astype("datetime64[us]"), matrix, np.arange(16) > 0, 252.0)
    grid = plan_grid(get("ma_crossover"), {"fast": [1, 2], "slow": [2, 3, 4]})
    rows = grid.rows(matrix)
    for fixed in (0.0, 400.0):
        costs = Costs(direction=direction, fixed_fee=fixed, initial_cash=1_000.0)
        signals = np.empty((2, len(grid), 16), dtype=bool)
        for k in range(len(grid)):
            grid.strategy.signal(matrix, rows, grid.use[k], grid.vectors[k], signals[0, k], signals[1, k])
        expected = run.simulate(bars, signals[0], signals[1], costs, slice(0, 16)).figures
        segments = np.array([[0, 16]])
        found = engine.run_sets(grid.strategy.signal, bars, rows, grid.use, grid.vectors, costs, segments)[:, 0, :5]
        assert expected[:, 0].min() < -0.9
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_threads_and_chunks_change_nothing(bars) -> None:
    """The same grid in one thread, in two, and in many small chunks is the same to the last bit."""
    prepared = prepare_bars(bars(400), "1m")
    grid = plan_grid(get("ma_crossover"), {"fast": range(1, 12), "slow": range(5, 25)})
    windows = plan_windows(400, WindowPlan(count=2))
    question = Question("AB", "1m", prepared, grid, windows, WindowPlan(count=2), Costs())
    whole = run_grid(question, threads=1)
    assert np.array_equal(whole, run_grid(question, threads=2), equal_nan=True)
    assert len(list(plan_chunks(grid, 400, memory_mb=0.02))) > 5
    assert np.array_equal(whole, run_grid(question, memory_mb=0.02), equal_nan=True)


def test_a_disagreement_is_told_with_its_first_trade(bars, monkeypatch) -> None:
    """Were one engine wrong, the sweep would stop and show which trade."""
    prepared = prepare_bars(bars(400), "1m")
    plan = WindowPlan(count=1)
    grid = plan_grid(get("ma_crossover"), {"fast": [3], "slow": [9]})
    question = Question("AB", "1m", prepared, grid, plan_windows(400, plan), plan, Costs())
    figures = run_grid(question)
    assert certify(question, figures, [0]) == [0]
    wrong = figures.copy()
    wrong[0, 0, 1] *= 1 + 1e-8
    with pytest.raises(DisagreementError, match="every trade is equal"):
        certify(question, wrong, [0])
    honest = engine.trade_set

    def shifted(*told):
        trades = honest(*told)
        trades[2, 5] += 0.01
        return trades

    monkeypatch.setattr(engine, "trade_set", shifted)
    with pytest.raises(DisagreementError, match=r"AB ma_crossover.*fast.*first differing trade is number 2"):
        certify(question, wrong, [0])


def test_no_fill_happens_across_a_hole(bars) -> None:
    """A bar whose predecessor is missing is never filled on, whatever the signal before the hole said."""
    prepared = prepare_bars(bars(200, drop=(50, 51, 120)), "1m")
    signals = np.ones((1, len(prepared)), dtype=bool)
    entries, exits = signals.copy(), signals.copy()
    entries[0, 1::2], exits[0, ::2] = False, False
    trades = run.simulate(prepared, entries, exits, Costs(), slice(0, len(prepared))).trades
    touched = set(trades["entry_idx"].tolist()) | set(trades["exit_idx"].tolist())
    assert len(touched) > 150
    assert not touched & {0, 50, 118}
    assert not prepared.tradable[[0, 50, 118]].any()
