"""Live trades are the backtest's trades, and where they are not, the reason is found and named."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec import structs

from benchmarks.parity_faults import (
    FAULTS,
    START,
    attribute,
    clean_case,
    clean_differences,
    clean_script,
    run_live,
    walk,
)
from flows.parity import parity
from flows.parity_causes import Cause, Difference
from flows.parity_compare import compare_engines, explain
from flows.parity_paths import Case, equity_of, event_fills, sweep_fills
from flows.parity_question import Conditions, ParitySummary
from flows.parity_replay import Arrival, LiveOrder, Replayed, Script, _Stage, terms_of
from flows.parity_run import DIFFERENCES, PATHS, RUNS
from flows.settings import Settings, use
from lake.store import Lake
from tasks.errors import DataError, InputError
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tasks.orders.order import Order, Side, Status
from tasks.strategies.book_gate import BookGate
from tasks.stream.recording import DEPTH, SCHEMAS
from tasks.sweep.costs import Costs


def own(rows: list[Difference]) -> Counter[tuple[Cause, ...]]:
    """Count the differences that follow from no other, by cause."""
    return Counter(row.causes for row in rows if row.follows is None)


def differences(case: Case, script: Script, folder: Path) -> list[Difference]:
    """Replay a script and compare it with the sweep."""
    return explain(case, script, run_live(case, script, folder), sweep_fills(case))


@pytest.mark.parametrize(("direction", "bars"), [("long", 1440), ("short", 240), ("both", 240)])
def test_a_clean_day_is_the_same_on_three_paths(direction: str, bars: int, tmp_path: Path) -> None:
    """On bars that nobody touched, every decision is equal and every fill is the sweep's to 1e-9, fees included."""
    case = clean_case(bars, 7, direction, fast=5, slow=20)
    found, fills, live = clean_differences(case, tmp_path)
    assert found == []
    assert compare_engines(case, fills, event_fills(case)) == []
    assert [live.decisions[row].view for row in sorted(live.decisions)] == case.views[case.first : -1].tolist()
    filled = [(one.order.filled_quantity, one.order.average_price, one.order.fees) for one in live.orders.values()]
    expected = [(abs(fill.quantity), fill.price, fill.fee) for fill in fills]
    assert [[float(value) for value in row] for row in filled] == [pytest.approx(row, rel=1e-9) for row in expected]
    assert len(fills) >= 12


@pytest.mark.parametrize(("cause", "seeds"), [(cause, 4 if cause is Cause.WARM_UP else 1) for cause in FAULTS])
def test_an_injected_cause_is_named(cause: Cause, seeds: int, tmp_path: Path) -> None:
    """Of the differences that an injected fault makes, at least 95 % carry its cause, and none stays unexplained."""
    done = [attribute(cause, 150, 20 + seed, tmp_path / str(seed)) for seed in range(seeds)]
    total, right = sum(one.own for one in done), sum(one.right for one in done)
    assert total >= 3
    assert right >= 0.95 * total, [one.wrong for one in done]


def test_what_a_difference_leads_to_is_not_a_cause_of_its_own(tmp_path: Path) -> None:
    """An entry that risk refused is one difference; the exit that then has nothing to close follows from it."""
    case = clean_case(60, 3)
    first = sweep_fills(case)[0]
    script = replace(clean_script(case), invalid=frozenset([case.closes_at(first.bar - 1)]))
    rows = differences(case, script, tmp_path)
    assert (rows[0].what, rows[0].causes, rows[0].follows) == ("fill", (Cause.RISK,), None)
    assert "data_quality" in rows[0].evidence
    assert rows[1:]
    assert {row.follows for row in rows[1:]} == {1}


def test_a_smaller_exit_follows_from_the_smaller_entry(tmp_path: Path) -> None:
    """Where orders come late and the market is thin, what was held too little of is sold too little of: by the size."""
    case = clean_case(150, 3)
    thin = FAULTS[Cause.PARTIAL](case, np.random.default_rng(3)).script
    rows = differences(case, replace(thin, terms=replace(thin.terms, latency_s=Decimal(9))), tmp_path)
    assert set(own(rows)) == {(Cause.PARTIAL,), (Cause.LATENCY,)}
    exits = [row for row in rows if row.what == "quantity" and row.follows and row.expected.startswith("-")]
    assert exits
    assert {row.causes for row in exits} == {(Cause.PARTIAL,)}


def test_nothing_is_traded_across_a_hole_by_research_alone(tmp_path: Path) -> None:
    """Where the next bar is missing, the sweep drops the signal and live cannot know: the hole is named."""
    whole = clean_case(80, 5)
    fill = sweep_fills(whole)[2]
    case = replace(whole, bars=whole.bars.filter(pl.int_range(pl.len()) != fill.bar))
    rows = differences(case, clean_script(case), tmp_path)
    assert own(rows)[(Cause.HOLE,)] == 1
    assert set(own(rows)) == {(Cause.HOLE,)}


def test_a_desk_that_does_not_get_ready_is_one_clear_error(tmp_path: Path) -> None:
    """A journal that an operator halted refuses to trade, in our own words and not as a group of errors."""
    case = clean_case(30, 3)
    with Journal(tmp_path / "orders.sqlite") as journal:
        journal.commit_now([Entry(Kind.OPERATOR, body={"halt": "by hand"})])
    with pytest.raises(DataError, match="by hand"):
        run_live(case, clean_script(case), tmp_path)


def test_whole_steps_are_named(tmp_path: Path) -> None:
    """A market that trades in whole units rounds every order: the quantity differs, the reason is known."""
    case = clean_case(60, 3)
    clean = clean_script(case)
    script = replace(clean, sizing=replace(clean.sizing, quantity_step=Decimal(1)))
    assert own(differences(case, script, tmp_path))[(Cause.ROUNDING,)] >= 1


def test_two_faults_in_one_run_are_told_apart(tmp_path: Path) -> None:
    """Bars handed in early to a driver with too short a history: each decision names the one, the other, or both."""
    case = clean_case(150, 11, slow=40)
    spoiled = FAULTS[Cause.NOT_CLOSED](case, np.random.default_rng(11))
    script = replace(spoiled.script, history=spoiled.script.history.tail(2))
    found = Counter(row.causes for row in differences(case, script, tmp_path) if row.what == "decision")
    assert {cause for causes in found for cause in causes} == {Cause.NOT_CLOSED, Cause.WARM_UP}


def test_what_nobody_can_explain_is_said_to_be_so(tmp_path: Path) -> None:
    """A broker that fills at prices no rule gives leaves differences without a cause, not with a guessed one."""
    case = clean_case(60, 3)
    clean = clean_script(case)
    script = replace(clean, terms=replace(clean.terms, slippage_bps=Decimal(9)))
    assert own(differences(case, script, tmp_path))[(Cause.UNEXPLAINED,)] >= 2


def _first(change: Callable[[LiveOrder], Order]) -> Callable[[Case, Replayed], Replayed]:
    """Return a defect that changes what became of the first order."""

    def spoil(case: Case, live: Replayed) -> Replayed:
        row, one = next(iter(live.orders.items()))
        return replace(live, orders={**live.orders, row: replace(one, order=change(one))})

    return spoil


def _filled(order: Order, **changed: Any) -> Order:
    (fill,) = order.fills
    return structs.replace(order, fills=(structs.replace(fill, **changed),))


def _a_bar_late(case: Case, live: Replayed) -> Replayed:
    row, one = next(iter(live.orders.items()))
    opened = Decimal(str(case.market.opens[row + 2])) * (1 + Decimal(str(case.costs.slippage_bps)) / 10_000)
    late = _filled(one.order, timestamp=case.stamps[row + 2], price=opened)
    fee = opened * late.filled_quantity * Decimal(str(case.costs.fee_bps)) / 10_000
    return replace(live, orders={**live.orders, row: replace(one, order=_filled(late, fee=fee))})


def _skipping(case: Case, live: Replayed) -> Replayed:
    row = next(row for row, one in live.decisions.items() if one.view)
    return replace(live, decisions={at: one for at, one in live.decisions.items() if at != row})


DEFECTS: dict[str, Callable[[Case, Replayed], Replayed]] = {
    "a fee that is paid to us": _first(lambda one: _filled(one.order, fee=-one.order.fees)),
    "a fee on the quantity": _first(lambda one: _filled(one.order, fee=one.order.filled_quantity / 1000)),
    "a fill one bar too late": _a_bar_late,
    "a fill of nine tenths": _first(
        lambda one: _filled(one.order, quantity=one.order.filled_quantity * 9 / 10, fee=one.order.fees * 9 / 10)
    ),
    "an order that is forgotten": _first(lambda one: structs.replace(one.order, fills=(), status=Status.ACCEPTED)),
    "an order the wrong way": _first(
        lambda one: structs.replace(one.order, request=structs.replace(one.order.request, side=Side.SELL))
    ),
    "a bar that is not decided on": _skipping,
    "a control that refuses everything": lambda case, live: replace(
        live, orders={row: replace(one, refused_by="collar") for row, one in live.orders.items()}
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_of_ours_is_given_no_harmless_name(defect: str, tmp_path: Path) -> None:
    """A market that assumes what research does leaves nothing to blame: what differs all the same is unexplained."""
    case = clean_case(40, 3)
    script = clean_script(case)
    live = DEFECTS[defect](case, run_live(case, script, tmp_path))
    found = own(explain(case, script, live, sweep_fills(case)))
    assert set(found) == {(Cause.UNEXPLAINED,)}


def test_an_order_sized_at_another_moments_price_is_unexplained(tmp_path: Path, monkeypatch) -> None:
    """Sizing at the close before, where the open is known, is a defect, and no latency."""
    quote = _Stage._quote

    def at_the_close(stage: _Stage, broker: Any, arrival: Arrival, price: Decimal) -> None:
        quote(stage, broker, arrival, Decimal(str(arrival.bars["close"][-1])))

    monkeypatch.setattr(_Stage, "_quote", at_the_close)
    case = clean_case(40, 3)
    assert set(own(differences(case, clean_script(case), tmp_path))) == {(Cause.UNEXPLAINED,)}


def test_engines_that_disagree_are_never_explained() -> None:
    """A fill that only one research engine has, or has otherwise, is a defect and nothing else."""
    case = clean_case(120, 2)
    fills = sweep_fills(case)
    changed = [replace(fills[0], price=fills[0].price * 1.001), *fills[2:]]
    assert [row.causes for row in compare_engines(case, fills, changed)] == [(Cause.UNEXPLAINED,)] * 2


def test_equity_follows_from_fills() -> None:
    """The drawn equity ends at the cash that the fills leave, since every run ends flat."""
    case = clean_case(120, 2)
    fills = sweep_fills(case)
    cash = case.costs.initial_cash - sum(fill.quantity * fill.price + fill.fee for fill in fills)
    assert equity_of(case, fills)[-1] == pytest.approx(cash, rel=1e-12)


def test_a_period_begins_after_the_warm_up() -> None:
    """A period whose first signals nobody could trust is refused, with the number of bars it lacks."""
    with pytest.raises(InputError, match="warm-up"):
        clean_case(20, 1, slow=100)


DAY = date(2026, 3, 3)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Record two days of bars in a lake, the second with some corrected afterwards, and point the flows at it."""
    folder = tmp_path_factory.mktemp("parity")
    settings = Settings(lake_root=str(folder / "lake"), report_dir=folder / "reports", state_dir=folder / "state")
    bars, span = walk(1_700, 4), {"symbol": "BTCUSDT", "interval": "1m", "start": START, "end": START + timedelta(2)}
    lake = Lake(settings.lake_root)
    lake.write_bars(bars, **span)
    moved = bars[1_500:].gather_every(20).with_columns(pl.col("close") * 1.02, pl.col("high") * 1.03)
    lake.write_bars(moved, **span)
    with use(settings):
        yield settings


def ask_parity(**told: object) -> ParitySummary:
    """Run the flow over the second day."""
    windows = {"fast": 3, "slow": 8}
    return asyncio.run(parity.fn("BTCUSDT", start=DAY, end=DAY + timedelta(1), params=windows, **told))  # type: ignore[arg-type]


def test_the_flow_explains_a_recorded_day(recorded: Settings) -> None:
    """What was restated after the fact is found out; run, differences and paths are in the lake, the page is there."""
    done = ask_parity()
    assert (done.decisions, done.unexplained) == (259, 0)
    assert done.decisions_equal < done.decisions
    assert done.causes.startswith("data revision ")
    lake = Lake(recorded.lake_root)
    rows = {
        table: lake.scan(table).filter(pl.col("run_id") == done.run_id).collect()
        for table in (RUNS, DIFFERENCES, PATHS)
    }
    assert rows[RUNS].height == 1
    assert rows[DIFFERENCES].filter(pl.col("follows").is_null())["cause"].unique().to_list() == ["data revision"]
    assert rows[PATHS].height == 260
    assert "data revision" in Path(done.page).read_text(encoding="utf-8")
    assert Path(done.journal).exists()


def test_a_clean_question_has_no_difference_and_the_same_name_twice(recorded: Settings) -> None:
    """On the newest values alone everything is equal; asked again, the same run is replaced, not doubled."""
    first = ask_parity(conditions=Conditions(as_first_seen=False))
    again = ask_parity(conditions=Conditions(as_first_seen=False))
    assert (first.run_id, first.causes, first.fills_equal) == (again.run_id, "", again.fills)
    assert first.fills > 10
    kept = Lake(recorded.lake_root).scan(RUNS).filter(pl.col("run_id") == first.run_id).collect()
    assert kept.height == 1


def test_conditions_are_what_the_replay_meets(recorded: Settings) -> None:
    """Latency, a dearer broker, a thin market and a tight limit are each found as what they are."""
    done = ask_parity(conditions=Conditions(as_first_seen=False, latency_s=9, fee_bps=6, max_volume_share=0.5))
    assert {"latency", "fee", "partial fill"} <= {part.rsplit(" ", 1)[0] for part in done.causes.split(", ")}
    assert done.unexplained == 0
    tight = ask_parity(conditions=Conditions(as_first_seen=False, max_order_fraction=0.05))
    assert tight.causes == f"risk block {tight.fills // 2}"


def test_a_gate_sees_the_books_that_were_recorded(recorded: Settings) -> None:
    """Without recorded books the question is refused; with them, each entry that the gate withheld says so."""
    gate = Conditions(as_first_seen=False, book_gate=BookGate(min_pressure=1.0))
    with pytest.raises(InputError, match="found none in live/depth"):
        ask_parity(conditions=gate)
    with pytest.raises(InputError, match="direction long or short"):
        ask_parity(conditions=gate, costs=Costs(direction="both"))
    moments = [datetime(2026, 3, 3, tzinfo=UTC) + timedelta(minutes=k, seconds=-1) for k in range(0, 300, 2)]
    sizes = [[float(2 - k % 2)] for k in range(len(moments))]  # every other book leans against a purchase
    columns = {"bid_prices": [[99.0]], "bid_sizes": sizes, "ask_prices": [[99.1]], "ask_sizes": [[1.5]]}
    columns = {name: value * len(moments) if len(value) == 1 else value for name, value in columns.items()}
    rows = {"symbol": "BTCUSDT", "timestamp": moments, "received_at": moments, "day": [DAY] * len(moments), **columns}
    Lake(recorded.lake_root).append(DEPTH, pl.DataFrame(rows, schema=SCHEMAS[DEPTH]), partition_by=("day",))
    done = ask_parity(conditions=gate)
    assert (done.causes.rsplit(" ", 1)[0], done.unexplained) == ("book gate", 0)
    told = Lake(recorded.lake_root).scan(DIFFERENCES).filter(pl.col("run_id") == done.run_id).collect()["evidence"]
    assert told.str.contains("pressure of at least 1").any()
    assert told.str.contains("too old").any()  # no book at every second close
    assert 0 < int(done.causes.rsplit(" ", 1)[1]) < done.fills // 2  # and some entries passed


def test_what_is_unexplained_fails_the_run(recorded: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference without a cause is an error that says where to look, after everything was kept."""
    odd = replace(terms_of(clean_case(60, 1)), slippage_bps=Decimal(30))
    monkeypatch.setattr("flows.parity_run.terms_of", lambda case, **changed: odd)
    with pytest.raises(DataError, match="without"):
        ask_parity(conditions=Conditions(as_first_seen=False), costs=Costs(fraction=0.5))
    runs = Lake(recorded.lake_root).scan(RUNS).filter(pl.col("unexplained") > 0).collect()
    assert runs.height == 1


def test_nothing_to_compare_is_the_callers_error(recorded: Settings) -> None:
    """Days without bars, and costs the paper broker does not charge, are refused with what to do."""
    with pytest.raises(InputError, match="run the backfill"):
        asyncio.run(parity.fn("ETHUSDT", start=DAY, end=DAY + timedelta(1)))
    with pytest.raises(InputError, match="fixed_fee"):
        ask_parity(costs=Costs(fixed_fee=1.0))
