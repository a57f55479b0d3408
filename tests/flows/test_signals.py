"""Closed bars become orders exactly as the sweep trades them, and a signal is acted on once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from benchmarks.parity_faults import START, walk
from flows.signals import StrategyDriver
from flows.sizing import Sizing
from flows.trading_proposal import Proposal
from lake.schema import as_bars
from tasks.errors import InputError
from tasks.orders.order import Side
from tasks.strategies.book_gate import BookGate, BookView
from tasks.strategies.registry import STRATEGIES, names
from tasks.sweep import engine
from tasks.sweep.ask import ask
from tasks.sweep.costs import Costs
from tasks.sweep.grid import Grid
from tasks.sweep.market import prepare_bars

FAST = {"fast": 2, "slow": 5}


def bars_of(closes: list[float]) -> pl.DataFrame:
    """Return flat minute bars with the given closes."""
    return as_bars(
        pl.DataFrame(
            {
                "timestamp": [START + timedelta(minutes=k) for k in range(len(closes))],
                **{name: closes for name in ("open", "high", "low", "close")},
                "volume": [1.0] * len(closes),
            },
            schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
        )
    )


def crossing(history: pl.DataFrame, **sizing: object) -> StrategyDriver:
    """Return a moving-average crossover with short windows and positions of one unit."""
    gate = sizing.pop("gate", BookGate())
    rules = {"costs": Costs(), "quantity": Decimal(1)} | sizing
    sized = Sizing(**rules)  # type: ignore[arg-type]
    return StrategyDriver("ma_crossover", FAST, "BTCUSDT", "1m", sizing=sized, history=history, gate=gate)  # type: ignore[arg-type]


def feed(driver: StrategyDriver, bars: pl.DataFrame, position: str = "0") -> Proposal | None:
    """Feed bars at their close with a full account."""
    at = bars["timestamp"][-1] + timedelta(minutes=1)
    return driver.on_bar(bars, Decimal(position), Decimal(1000), Decimal(100), at)


#: Falls, then rises through the slow average on the eighth bar, then falls through it on the eleventh.
TURNS = bars_of([110, 108, 106, 104, 102, 100, 99, 115, 116, 117, 90, 89, 88, 87])
ENTRY, EXIT = 7, 10


@pytest.mark.parametrize("name", names())
def test_every_decision_is_the_sweeps(name: str) -> None:
    """Fed bar by bar, each strategy has the view that the sweep's one pass over all bars gives that bar."""
    bars = walk(450, seed=1)
    params = {"lookback": 40} if name == "momentum" else {}
    driver = StrategyDriver(name, params, "BTCUSDT", "1m", sizing=Sizing(Costs()), history=bars[:0])
    grid = {key: (value,) for key, value in params.items()}
    entries, exits = ask(bars, symbol="BTCUSDT", interval="1m", strategy=name, grid=grid).signals([0])
    expected, seen = entries[0].astype(int) - exits[0], []
    for k in range(bars.height):
        feed(driver, bars[k : k + 1])
        assert driver.last is not None
        seen.append(driver.last.view)
    expected[: driver.warm_up] = 0
    assert np.array_equal(seen, expected)
    assert np.count_nonzero(expected) > 3


@pytest.mark.parametrize(("direction", "fraction"), [("long", 1.0), ("long", 0.3), ("short", 0.5), ("both", 1.0)])
def test_quantities_are_the_sweeps(direction: str, fraction: float) -> None:
    """Filled at the next open, proposals make the sweep's trades: same bars, quantities to 1e-9."""
    bars, costs = walk(500, seed=3), Costs(direction=direction, fraction=fraction)  # type: ignore[arg-type]
    driver = crossing(bars[:20], costs=costs, quantity=None, quantity_step=Decimal("1e-15"))
    cash, position, filled = Decimal(str(costs.initial_cash)), Decimal(0), []
    for k in range(20, bars.height - 2):  # as the sweep, which opens nothing on its last bar
        opened = Decimal(str(bars["open"][k + 1]))
        found = driver.on_bar(bars[k : k + 1], position, cash + position * opened, opened, START)
        if found is not None:
            signed = found.side.sign * found.quantity
            price = opened * (1 + found.side.sign * Decimal("0.0002"))
            cash -= signed * price + abs(signed) * price * Decimal("0.0005")
            position += signed
            filled.append((k + 1, float(signed)))
    expected = _sweep_orders(bars, costs)[: len(filled)]
    assert len(filled) > 20
    assert [bar for bar, _ in filled] == [bar for bar, _ in expected]
    assert [quantity for _, quantity in filled] == pytest.approx([quantity for _, quantity in expected], rel=1e-9)


def _sweep_orders(bars: pl.DataFrame, costs: Costs) -> list[tuple[int, float]]:
    """Return bar and signed quantity of the sweep's orders from bar 20 on, two trades of a reversal as one."""
    prepared, strategy = prepare_bars(bars, "1m"), STRATEGIES["ma_crossover"]
    grid = Grid(strategy, (strategy.params(**FAST),))
    told = strategy.signal, prepared, grid.rows(prepared.matrix), grid.use[0], grid.vectors[0]
    trades = engine.trade_set(*told, costs, slice(20, len(prepared)))
    orders: dict[int, float] = {}
    for entry, leaving, side, quantity, *_ in trades:
        orders[int(entry)] = orders.get(int(entry), 0.0) + side * quantity
        orders[int(leaving)] = orders.get(int(leaving), 0.0) - side * quantity
    return [(bar + 20, orders[bar]) for bar in sorted(orders)]


def test_the_same_signal_after_a_restart_is_the_same_order() -> None:
    """Two drivers that see the same bar ask for the same order under the same id."""
    first = feed(crossing(TURNS[:ENTRY]), TURNS[ENTRY : ENTRY + 1])
    again = feed(crossing(TURNS[2:ENTRY]), TURNS[ENTRY : ENTRY + 1])
    assert first is not None
    assert again is not None
    assert first.side is Side.BUY
    assert first.quantity == 1
    assert first.request("paper").client_order_id == again.request("paper").client_order_id


def test_a_reached_target_is_left_alone() -> None:
    """An entry that was partly filled, rounded or short of fees is not enlarged by the bars that follow."""
    driver = crossing(TURNS[:ENTRY])
    assert feed(driver, TURNS[ENTRY : ENTRY + 1]) is not None
    assert [feed(driver, TURNS[k : k + 1], "0.4") for k in (8, 9)] == [None, None]


def test_an_exit_is_finished() -> None:
    """What an exit left open is asked for at the next close and in between, each time the rest, until it is gone."""
    driver = crossing(TURNS[:EXIT], quantity_step=Decimal("0.1"))
    at, price = START, Decimal(100)
    assert driver.finish(Decimal(1), price, at) is None  # no close was decided on yet
    asked = [feed(driver, TURNS[EXIT : EXIT + 1], "1"), driver.finish(Decimal("0.4"), price, at)]
    asked += [driver.finish(Decimal("0.3"), price, at), feed(driver, TURNS[11:12], "0.2")]
    wished = [(one.side, one.quantity, one.closes) for one in asked if one is not None]
    assert wished == [(Side.SELL, Decimal(rest), True) for rest in ("1", "0.4", "0.3", "0.2")]
    assert len({one.request("paper").client_order_id for one in asked if one is not None}) == 4
    assert driver.finish(Decimal("0.05"), price, at) is None  # less than a step: dust
    assert driver.finish(Decimal(0), price, at) is None
    assert feed(driver, TURNS[12:13], "0") is None


def test_only_what_closes_is_asked_for_again() -> None:
    """An entry that came to nothing is over; an exit that came to nothing is a new order at the next close."""
    driver = crossing(TURNS[:ENTRY])
    assert feed(driver, TURNS[ENTRY : ENTRY + 1]) is not None
    assert feed(driver, TURNS[8:9]) is None
    asked = [feed(driver, TURNS[k : k + 1], "1") for k in (EXIT, 11, 12)]
    ids = {one.request("paper").client_order_id for one in asked if one is not None}
    assert len(ids) == 3
    assert feed(driver, TURNS[13:14], "0") is None


def test_a_missed_signal_closes_and_never_opens() -> None:
    """Several bars after an outage: a view from before the newest may close a position, not open one."""
    assert feed(crossing(TURNS[:ENTRY]), TURNS[ENTRY:9]) is None
    late = feed(crossing(TURNS[:9]), TURNS[9:13], "1")
    assert late is not None
    assert (late.side, late.quantity) == (Side.SELL, 1)


def test_a_restated_bar_is_remembered_and_decides_nothing() -> None:
    """A bar that is known already takes the place of the old one; the next decision is made from it."""
    driver = crossing(TURNS[:ENTRY])
    restated = TURNS[ENTRY - 1 : ENTRY].with_columns(close=pl.lit(140.0))
    assert feed(driver, restated) is None
    assert driver.bars["close"][-1] == 140.0
    assert driver.bars.height == ENTRY
    assert feed(driver, TURNS[ENTRY : ENTRY + 1]) is None


def test_a_correction_neither_enlarges_nor_hides_a_position() -> None:
    """Where corrected bars move an entry to the next bar, a position that is there is left as it is; its view is told.

    Where they take the entry back, the position is closed, under a name of its own.
    """
    driver = crossing(TURNS[:ENTRY], quantity=None, costs=Costs(fraction=0.5))
    assert feed(driver, TURNS[ENTRY : ENTRY + 1]) is not None
    later = bars_of([99.0] * ENTRY + [101.0, 116.0])  # the entry's close was lower: it crosses a bar later
    moved = pl.concat([TURNS[ENTRY : ENTRY + 1].with_columns(close=pl.lit(99.0)), later[ENTRY + 1 :]])
    assert feed(driver, moved, "2") is None
    assert driver.last is not None
    assert (driver.last.view, driver.last.side, driver.last.restated) == (1, 1, 1)
    (turned,) = driver.turned
    assert (turned.timestamp, turned.was, turned.now) == (TURNS["timestamp"][ENTRY], 1, 0)
    assert turned.signal_key == f"BTCUSDT|1m|long|{TURNS['timestamp'][ENTRY].isoformat()}"

    bars = bars_of([100, 101, 102, 103, 104, 105, 106, 90, 89, 88, 130])  # leaves at 7, enters at 10
    driver = crossing(bars[:10])
    assert feed(driver, bars[10:]) is not None
    corrected = bars_of([100, 101, 102, 103, 104, 105, 106, 90, 89, 88, 87, 86])[10:]
    closing = feed(driver, corrected, "1")
    assert closing is not None
    assert (closing.side, closing.closes) == (Side.SELL, True)
    assert closing.leg == f"again {corrected['timestamp'][-1].isoformat()}"


BOOK = BookView.of((99.9, 8.0), (100.1, 4.0), 0.2)


@pytest.mark.parametrize(
    ("gate", "book", "why"),
    [
        (BookGate(), BookView(faults=("data is missing",)), ""),
        (BookGate(min_pressure=1.9, min_imbalance=0.3, max_spread_bps=21), BOOK, ""),
        (BookGate(min_pressure=2.1), BOOK, "pressure of at least 2.1 towards the entry, found 2"),
        (BookGate(min_imbalance=0.4), BOOK, "imbalance of at least 0.4 towards the entry, found 0.333"),
        (BookGate(max_spread_bps=19), BOOK, "spread of at most 19 bps, found 20"),
        (BookGate(max_spread_bps=50), BookView(faults=("data is missing",)), "found data is missing"),
        (BookGate(max_spread_bps=50), None, "found none"),
    ],
)
def test_a_gate_withholds_entries_and_nothing_else(gate: BookGate, book: BookView | None, why: str) -> None:
    """What the book must say is said of entries alone; a book nobody vouches for lets none pass, and no exit waits."""
    driver = crossing(TURNS[:ENTRY], gate=gate)
    at = TURNS["timestamp"][ENTRY] + timedelta(minutes=1)
    entry = driver.on_bar(TURNS[ENTRY : ENTRY + 1], Decimal(0), Decimal(1000), Decimal(100), at, book)
    assert entry is not None
    assert why in entry.objection
    assert bool(entry.objection) == bool(why)
    assert ("book" in entry.evidence) == gate.is_set
    for k in range(ENTRY + 1, EXIT):
        feed(driver, TURNS[k : k + 1], "1")
    leaving = driver.on_bar(TURNS[EXIT : EXIT + 1], Decimal(1), Decimal(1000), Decimal(100), at, book)
    assert leaving is not None
    assert leaving.objection == ""


def test_a_gate_leans_with_the_side() -> None:
    """A short entry wants offers to outweigh bids."""
    gate = BookGate(min_pressure=1.5, min_imbalance=0.1)
    assert gate.objection(1, BOOK) == ""
    assert "found 0.5" in gate.objection(-1, BOOK)
    assert gate.objection(-1, BookView.of((99.9, 4.0), (100.1, 8.0), 0.0)) == ""


def test_too_short_a_history_decides_nothing() -> None:
    """Before its warm-up is over a strategy is silent, whatever its indicators say."""
    driver = crossing(TURNS[5:ENTRY])
    assert feed(driver, TURNS[ENTRY : ENTRY + 1]) is None
    assert driver.last is not None
    assert driver.last.bars <= driver.warm_up


def test_orders_are_whole_steps_above_the_least_value() -> None:
    """Quantities are rounded towards nothing; an order below the least value is not asked for."""
    step = Sizing(Costs(), quantity_step=Decimal("0.1"), min_notional=Decimal(50))
    assert step.order(1, Decimal(0), Decimal(100), Decimal(7)) == Decimal("14.2")
    assert step.order(0, Decimal("-3.17"), None, Decimal(20)) == Decimal("3.1")
    assert step.order(1, Decimal(0), Decimal(49), Decimal(7)) == 0
    assert step.order(1, Decimal(0), None, Decimal(7)) is None


def test_rules_that_only_a_sweep_knows_are_refused() -> None:
    """A stop inside the bar cannot be followed from closed bars, and nobody is left to think it is."""
    with pytest.raises(InputError, match="stop_loss"):
        Sizing(Costs(stop_loss=0.02))
    with pytest.raises(InputError, match="does not take"):
        StrategyDriver("momentum", {"speed": 3}, "X", "1m", sizing=Sizing(Costs()), history=TURNS)
