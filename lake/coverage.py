"""The coverage ledger: every absent bar has a reason, built from the rows themselves and a table of what was asked.

The table ``coverage/<interval>`` holds ranges, not bars: how often the vendor answered without the bars of a time, how
often requests failed since, and when trading began. A backfill asks for what `lake.absences.to_fetch` finds in it,
writes the bars, then records what the answer lacked; whoever stops between the two asks once more, nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from lake.absences import ABSENCES, Facts, Reason, Segments, explain, runs
from lake.bars import table_name
from lake.calendar import TradingCalendar
from lake.schema import TIMESTAMP
from lake.store import Lake
from lake.timeline import EPOCH, Interval, utc
from lake.timeline import interval as interval_named
from tasks.errors import InputError

__all__ = ["Ledger", "Reason"]

_ANSWERED, _FAILED, _LISTED, _NAMED = "answered", "failed", "listed", "named"
_NAMES_KEPT = timedelta(days=30)
_RECORDS: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "kind": pl.String(),
    "start": TIMESTAMP,
    "end": TIMESTAMP,
    "count": pl.Int64(),
    "recorded_at": TIMESTAMP,
    "detail": pl.String(),
}
_MICROSECOND = timedelta(microseconds=1)
_OPEN = TradingCalendar.always_open()


class Ledger:
    """What is known about the bars that a lake does not have.

    Args:
        lake: The lake whose rows are the truth.
        confirmations: How many answers without a bar make it vendor-empty; two outlast a vendor that answers too early.
    """

    def __init__(self, lake: Lake, *, confirmations: int = 2) -> None:
        if confirmations < 1:
            raise InputError(f"ledger: expected at least one confirmation, found {confirmations}")
        self._lake = lake
        self._confirmations = confirmations

    def absences(
        self,
        symbol: str,
        interval: str,
        start: datetime,
        end: datetime,
        *,
        calendar: TradingCalendar = _OPEN,
        now: datetime | None = None,
        reachable_from: datetime | None = None,
    ) -> pl.DataFrame:
        """Return every absent bar that opens in ``[start, end)``, as runs of one reason each.

        Args:
            symbol: The symbol.
            interval: The bars' interval.
            start: First instant.
            end: First instant after the range.
            calendar: When the market trades.
            now: What "not closed yet" refers to; the lake's clock by default.
            reachable_from: First instant that the vendor's plan reaches; all of history by default.

        Returns:
            Columns `start`, `end`, `reason`, `bars`, `confirmations`, in order.
        """
        step = interval_named(interval)
        grid = _microseconds(_OPEN.expected_opens(interval, start, end))
        if not len(grid):
            return pl.DataFrame(schema=ABSENCES)
        facts = self._facts(symbol, step, self._lake.now() if now is None else utc(now), reachable_from)
        present = self._lake.read_bars(symbol, interval, start, end, columns=["timestamp"])["timestamp"]
        expected = grid if calendar.never_closes else self._expected(calendar, step, start, end, facts)
        codes, answers = explain(grid, _microseconds(present), expected, facts)
        after = step.next(EPOCH + timedelta(microseconds=int(grid[-1])))
        return runs(grid, _as_microseconds(after), codes, answers)

    def record_answer(self, symbol: str, interval: str, start: datetime, end: datetime, *, asked_at: datetime) -> None:
        """Record that the vendor answered for all of ``[start, end)``: what the lake lacks there, it lacks too.

        Call it after the answer's bars are written, and name no bar that came: should the lake lose it, it would pass
        for one that the vendor lacks. The part that had not closed at `asked_at` is left out.
        """
        self.record_answers(symbol, interval, [(start, end)], asked_at=asked_at)

    def record_answers(
        self,
        symbol: str,
        interval: str,
        ranges: Iterable[tuple[datetime, datetime]],
        *,
        asked_at: datetime,
        once: str = "",
    ) -> None:
        """Record several answers in one commit, as `record_answer` does one.

        Args:
            symbol: The symbol.
            interval: The bars' interval.
            ranges: What was answered for, without a bar.
            asked_at: The market's present when it was asked.
            once: A name of these answers; recording them again under it changes nothing, so that a run that was killed
                does not know whether it had recorded them, and need not. Names are remembered for a month.
        """
        closed = interval_named(interval).closed_end(asked_at)
        bounded = [(utc(start), min(utc(end), closed)) for start, end in ranges]
        self._record(symbol, interval, _ANSWERED, bounded, "", once=once)

    def record_failure(self, symbol: str, interval: str, start: datetime, end: datetime, *, detail: str) -> None:
        """Record that the vendor did not answer for ``[start, end)`` and why; the bars there stay to be retried."""
        self._record(symbol, interval, _FAILED, [(utc(start), utc(end))], detail)

    def record_listing(self, symbol: str, interval: str, listed_at: datetime) -> None:
        """Record when trading in the symbol began; a later record replaces an earlier one."""
        self._record(symbol, interval, _LISTED, [(EPOCH, utc(listed_at))], "")

    def records(self, interval: str, symbol: str | None = None) -> pl.DataFrame:
        """Return what was recorded: `symbol`, `kind`, `start`, `end`, `count`, `recorded_at`, `detail`."""
        name = _table(interval)
        if not self._lake.exists(name):
            return pl.DataFrame(schema=_RECORDS)
        rows = self._lake.scan(name)
        return (rows if symbol is None else rows.filter(pl.col("symbol") == symbol)).collect()

    def _record(
        self,
        symbol: str,
        interval: str,
        kind: str,
        ranges: Iterable[tuple[datetime, datetime]],
        detail: str,
        *,
        once: str = "",
    ) -> None:
        now = self._lake.now()
        records = [(symbol, kind, start, end, 1, now, detail) for start, end in ranges if start < end]
        if not records:
            return
        new = pl.DataFrame(records, schema=_RECORDS, orient="row")

        def change(rows: pl.DataFrame) -> pl.DataFrame:
            rows = rows.select(list(_RECORDS))
            if once and rows.filter((pl.col("kind") == _NAMED) & (pl.col("detail") == once)).height:
                return rows
            return _merged(_named(rows, symbol, once, now) if once else rows, new)

        self._lake.update(
            _table(interval),
            change,
            where={"symbol": symbol},
            empty=pl.DataFrame(schema=_RECORDS),
            partition_by=["symbol"],
        )

    def _facts(self, symbol: str, step: Interval, now: datetime, reachable_from: datetime | None) -> Facts:
        rows = self.records(step.name, symbol)
        listed = self._listing(rows, step.name, symbol)
        return Facts(
            closed_end=_as_microseconds(step.closed_end(now)),
            answered=_segments(rows, _ANSWERED),
            failed=_segments(rows, _FAILED),
            listed_at=None if listed is None else _as_microseconds(listed),
            reachable_from=None if reachable_from is None else _as_microseconds(utc(reachable_from)),
            confirmations=self._confirmations,
        )

    def _listing(self, rows: pl.DataFrame, interval: str, symbol: str) -> datetime | None:
        """Return when trading began: as recorded, or at the first bar of the lake where that is earlier."""
        listed: datetime | None = rows.filter(pl.col("kind") == _LISTED)["end"].max()  # type: ignore[assignment]
        snapshot = None if listed is None else self._lake.snapshot(table_name(interval))
        files = [] if snapshot is None else snapshot.bounds.get(symbol, [])
        return min(listed, files[0][1]) if listed is not None and files else listed

    def _expected(
        self, calendar: TradingCalendar, step: Interval, start: datetime, end: datetime, facts: Facts
    ) -> np.ndarray:
        """Return the opens at which the market trades, asked only where another reason does not come first."""
        first = max(_as_microseconds(utc(start)), facts.listed_at or 0)
        last = min(_as_microseconds(utc(end)), facts.closed_end)
        bounds = (EPOCH + timedelta(microseconds=side) for side in (first, max(first, last)))
        return _microseconds(calendar.expected_opens(step.name, *bounds))


def _named(rows: pl.DataFrame, symbol: str, once: str, now: datetime) -> pl.DataFrame:
    """Return a symbol's records with the name of answers that were recorded, names older than a month left out."""
    old = (pl.col("kind") == _NAMED) & (pl.col("recorded_at") < now - _NAMES_KEPT)
    name = pl.DataFrame([(symbol, _NAMED, EPOCH, EPOCH, 0, now, once)], schema=_RECORDS, orient="row")
    return pl.concat([rows.filter(~old), name])


def _merged(rows: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return a symbol's records with more of one kind: answers add up and clear failures, a listing is the last one."""
    symbol, kind, *_, now, detail = new.row(0)
    others = rows.filter(pl.col("kind") != kind)
    if kind == _LISTED:
        return pl.concat([others, new])
    merged = _as_records(_segments(pl.concat([rows, new]), kind), symbol, kind, now, detail)
    if kind == _ANSWERED:
        answered = _as_records(_segments(new, kind), symbol, kind, now, detail)
        failures = others.filter(pl.col("kind") == _FAILED)
        others = others.filter(pl.col("kind") != _FAILED)
        left = [piece for failure in failures.iter_rows() for piece in _outside(failure, answered)]
        others = pl.concat([others, pl.DataFrame(left, schema=_RECORDS, orient="row")])
    return pl.concat([others, merged])


def _outside(record: tuple, answered: pl.DataFrame) -> Iterator[tuple]:
    """Yield what is left of a record outside disjoint ranges in order."""
    symbol, kind, moment, last, *rest = record
    for start, end in (
        answered.filter(pl.col("end") > moment, pl.col("start") < last).select("start", "end").iter_rows()
    ):
        if moment < start:
            yield symbol, kind, moment, start, *rest
        moment = end
    if moment < last:
        yield symbol, kind, moment, last, *rest


def _segments(rows: pl.DataFrame, kind: str) -> Segments:
    chosen = rows.filter(pl.col("kind") == kind)
    sides = (_microseconds(chosen["start"]), _microseconds(chosen["end"]), chosen["count"].to_numpy())
    return Segments.of(np.column_stack(sides))


def _as_records(segments: Segments, symbol: str, kind: str, now: datetime, detail: str) -> pl.DataFrame:
    sides = {"start": segments.start, "end": segments.end, "count": segments.count}
    stamps = [pl.from_epoch(side, "us").dt.replace_time_zone("UTC") for side in ("start", "end")]
    return (
        pl.DataFrame(sides)
        .with_columns(*stamps, symbol=pl.lit(symbol), kind=pl.lit(kind), recorded_at=pl.lit(now), detail=pl.lit(detail))
        .select(list(_RECORDS))
        .cast(_RECORDS)  # type: ignore[arg-type]
    )


def _table(interval: str) -> str:
    return f"coverage/{interval_named(interval).name}"


def _microseconds(opens: pl.Series) -> np.ndarray:
    return opens.to_numpy().view(np.int64)


def _as_microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND
