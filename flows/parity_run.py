"""A comparison from the lake to the lake: bars and corrections in, three paths traded, differences and page out."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

from flows.parity_books import RecordedBooks
from flows.parity_causes import Cause, Difference
from flows.parity_compare import compare_engines, explain
from flows.parity_feed import arrivals, as_first_seen
from flows.parity_paths import Case, PathFill, equity_of, event_fills, sweep_fills
from flows.parity_question import ParityQuestion, ParitySummary
from flows.parity_replay import UNLIMITED, LiveOrder, Replayed, Script, replay, terms_of
from flows.signals import checked_params
from flows.sizing import Sizing
from lake.calendar import TradingCalendar
from lake.revisions import REVISIONS, revisions
from lake.schema import TIMESTAMP
from lake.store import Lake
from lake.timeline import interval as interval_named
from tasks.broker.matching import exact
from tasks.errors import InputError
from tasks.orders.account import Limits
from tasks.report.parity import parity_page
from tasks.report.task import write_page
from tasks.strategies.book_gate import BookView
from tasks.strategies.registry import get

RUNS, DIFFERENCES, PATHS = "parity/runs", "parity/differences", "parity/paths"
#: Bars before the period that every path knows, where the strategy's warm-up does not ask for more.
LEAST_HISTORY = 500

_DIFFERENCES: dict[str, pl.DataType] = {
    "number": pl.Int64(),
    "timestamp": TIMESTAMP,
    "path": pl.String(),
    "what": pl.String(),
    "expected": pl.String(),
    "found": pl.String(),
    "cause": pl.String(),
    "evidence": pl.String(),
    "follows": pl.Int64(),
}


@dataclass(frozen=True)
class Compared:
    """Three paths, and what differs between them."""

    case: Case
    sweep: Sequence[PathFill]
    event: Sequence[PathFill]
    live: Replayed
    differences: Sequence[Difference]

    @property
    def own(self) -> list[Difference]:
        """The differences that follow from no other."""
        return [one for one in self.differences if one.follows is None]

    @property
    def causes(self) -> str:
        """Every cause with how often it is one."""
        counted = Counter(cause_of(one) for one in self.own)
        return ", ".join(f"{cause} {count}" for cause, count in counted.most_common())

    @property
    def decisions_equal(self) -> int:
        """Bars on which live decided as research did."""
        return len(self.live.decisions) - sum(one.what == "decision" for one in self.differences)

    @property
    def fills_equal(self) -> int:
        """Fills of the sweep that nothing was found about."""
        stamps = self.case.stamps
        touched = {one.timestamp for one in self.differences if one.what != "decision"}
        return sum(stamps[fill.bar - 1] not in touched for fill in self.sweep)


async def run_parity(lake: Lake, question: ParityQuestion, folder: Path, out_dir: Path) -> ParitySummary:
    """Trade a period on three paths, store what differs and why, and write the page.

    Args:
        lake: Has the bars; gets the results.
        question: What is compared.
        folder: For the replay's journal and paper account; what an earlier run left there goes.
        out_dir: For the page.

    Raises:
        InputError: There is nothing to compare, or the costs hold what the live path does not know.
    """
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    case = read_case(lake, question)
    script = read_script(lake, question, case)
    sweep, event = sweep_fills(case), event_fills(case)
    live = await replay(case, script, folder)
    engines = compare_engines(case, sweep, event)
    found = explain(case, script, live, sweep, after=len(engines))
    done = Compared(case, sweep, event, live, [*engines, *found])
    page = out_dir / f"{question.run_id}.html"
    summary = ParitySummary(
        run_id=question.run_id,
        decisions=len(live.decisions),
        decisions_equal=done.decisions_equal,
        fills=len(sweep),
        fills_equal=done.fills_equal,
        causes=done.causes,
        unexplained=sum(Cause.UNEXPLAINED in one.causes for one in done.own),
        journal=str(folder / "orders.sqlite"),
        page=str(page),
        seconds=round(time.monotonic() - began, 1),
    )
    _store(lake, question, done, summary)
    run = asdict(summary) | question.model_dump(mode="json") | {"bars": case.bars.height - case.first}
    write_page(page, parity_page(run, paths_frame(done), differences_frame(done)))
    return summary


def read_case(lake: Lake, question: ParityQuestion) -> Case:
    """Read the bars of a question with enough before them.

    Raises:
        InputError: There are none, or too few before the period.
    """
    if question.costs.fixed_fee:
        raise InputError("parity: expected costs without fixed_fee, which the paper broker does not charge")
    strategy = get(question.strategy)
    params = checked_params(strategy, question.params)
    told = {"version": question.lake_version}
    bars = lake.read_bars(question.symbol, question.interval, question.start, question.end, **told)
    if bars.height < 4:
        raise InputError(
            f"parity: expected bars of {question.symbol} {question.interval} from {question.start} to {question.end} "
            f"in the lake, found {bars.height}; run the backfill"
        )
    before = lake.read_bars(question.symbol, question.interval, None, question.start, **told)
    before = before.tail(max(LEAST_HISTORY, 2 * strategy.warm_up(params)))
    whole = pl.concat([before, bars])
    trading = TradingCalendar.parse(question.calendar)
    expected = None
    if not trading.never_closes:
        end = interval_named(question.interval).next(whole["timestamp"][-1])
        expected = trading.expected_opens(question.interval, whole["timestamp"][0], end)
    return Case(strategy, params, question.symbol, question.interval, whole, before.height, question.costs, expected)


def read_script(lake: Lake, question: ParityQuestion, case: Case) -> Script:
    """Put the replay together: bars as they were known, and the conditions of the question."""
    conditions, stamps = question.conditions, case.stamps
    if conditions.book_gate.is_set and case.costs.direction == "both":
        raise InputError("parity: expected direction long or short with a book gate, found both: no exit may wait")
    corrections = pl.DataFrame(schema=REVISIONS)
    if conditions.as_first_seen:
        corrections = revisions(lake, case.interval, case.symbol, stamps[0], case.closes_at(len(stamps) - 1))
        if question.lake_version is not None:
            corrections = corrections.filter(pl.col("version") <= question.lake_version)
    seen = as_first_seen(case, corrections)
    known = case.first if conditions.history_bars is None else min(conditions.history_bars, case.first)
    changed = {
        "latency_s": exact(conditions.latency_s),
        "fee_bps": None if conditions.fee_bps is None else exact(conditions.fee_bps),
        "max_volume_share": None if conditions.max_volume_share is None else exact(conditions.max_volume_share),
    }
    return Script(
        history=seen[case.first - known : case.first],
        arrivals=arrivals(case, corrections),
        fills_from=seen,
        terms=terms_of(case, **{name: value for name, value in changed.items() if value is not None}),
        limits=_limits(conditions.max_order_fraction, conditions.max_position_fraction),
        gate=conditions.book_gate,
        books=RecordedBooks.read(lake, case) if conditions.book_gate.is_set else lambda at: BookView(),
        sizing=Sizing(
            case.costs,
            quantity_step=Decimal(f"{conditions.quantity_step:.18f}").normalize(),
            min_notional=exact(conditions.min_notional),
        ),
    )


def paths_frame(done: Compared) -> pl.DataFrame:
    """Return equity and position of each path at each close of the period."""
    case = done.case
    columns: dict[str, object] = {"timestamp": pl.Series(case.stamps[case.first :], dtype=TIMESTAMP)}
    for name, fills in (("sweep", done.sweep), ("event", done.event), ("live", live_fills(case, done.live))):
        held = np.zeros(len(case.market))
        for fill in fills:
            held[fill.bar] += fill.quantity
        columns |= {name: equity_of(case, list(fills)), f"{name}_position": np.cumsum(held)[case.first :]}
    return pl.DataFrame(columns)


def live_fills(case: Case, live: Replayed) -> list[PathFill]:
    """Return the fills the journal has, by the bar they happened on."""
    rows = {stamp: row for row, stamp in enumerate(case.stamps)}
    return [_path_fill(rows, one, k) for one in live.orders.values() for k in range(len(one.order.fills))]


def differences_frame(done: Compared) -> pl.DataFrame:
    """Return every difference as a row."""
    names = ("number", "timestamp", "path", "what", "expected", "found", "evidence", "follows")
    rows = [{name: getattr(one, name) for name in names} | {"cause": cause_of(one)} for one in done.differences]
    return pl.DataFrame(rows, schema=_DIFFERENCES)


def cause_of(one: Difference) -> str:
    """Return the causes of a difference in words."""
    return " and ".join(one.causes)


def _path_fill(rows: dict[datetime, int], one: LiveOrder, number: int) -> PathFill:
    fill, sign = one.order.fills[number], one.order.request.side.sign
    return PathFill(rows[fill.timestamp], sign * float(fill.quantity), float(fill.price), float(fill.fee))


def _limits(order: float | None, position: float | None) -> Limits:
    limits = UNLIMITED
    if order is not None:
        limits = replace(limits, max_order_fraction=exact(order))
    if position is not None:
        limits = replace(limits, max_position_fraction=exact(position))
    return limits


def _store(lake: Lake, question: ParityQuestion, done: Compared, summary: ParitySummary) -> None:
    """Write the run, table by table, `parity/runs` last: a run that can be seen is whole."""
    told = question.model_dump(mode="json")
    kept = {name: value for name, value in asdict(summary).items() if name not in ("journal", "page")}
    row = kept | {name: told[name] for name in ("symbol", "interval", "strategy", "lake_version")}
    row |= {name: json.dumps(told[name], sort_keys=True) for name in ("params", "costs", "conditions")}
    row |= {"start": question.start, "end": question.end, "differences": len(done.differences)}
    tables = {PATHS: paths_frame(done), DIFFERENCES: differences_frame(done), RUNS: pl.DataFrame([row])}
    for table, frame in tables.items():
        rows = frame.with_columns(run_id=pl.lit(question.run_id))
        lake.replace(table, rows, where={"run_id": question.run_id}, partition_by=("run_id",))
