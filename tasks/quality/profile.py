"""Make one profile row of a partition and find the rows that break a rule, in pure polars.

The profile holds, for each rule, how many bars (or absent bars) break it. It is what the whole-lake tier judges, and
what the write path judges where a rule is about a partition rather than about a row.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from lake.schema import BARS, TIMESTAMP
from lake.timeline import Interval, utc
from tasks.errors import DisagreementError
from tasks.quality import rules
from tasks.quality.rules import BY_NAME, FINE, RULES, Severity, flags
from tasks.quality.thresholds import Thresholds

Status = Literal["pass", "warn", "reject"]

SAMPLE_SIZE = 5

#: What a profile says beside the count of each rule. `volatility` is the mean absolute return from close to close.
FACTS: dict[str, pl.DataType] = {
    "rows": pl.Int64(),
    "expected_rows": pl.Int64(),
    "missing_bars": pl.Int64(),
    "longest_gap_bars": pl.Int64(),
    "first_bar": TIMESTAMP,
    "last_bar": TIMESTAMP,
    "volume": pl.Float64(),
    "volatility": pl.Float64(),
    "outlier_score": pl.Float64(),
}
#: The expected opens without a bar: length of the gap, whether it reaches the end, share of all expected bars absent.
ABSENT = {"timestamp": TIMESTAMP, "run": pl.Int64(), "trailing": pl.Boolean(), "share": pl.Float64()}
PROFILE: dict[str, pl.DataType] = FACTS | {rule.name: pl.Int64() for rule in RULES}


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that a partition breaks.

    Attributes:
        rule: The rule's name.
        severity: `reject` or `warn`.
        rows: How many bars, or absent bars, break it; 1 where it is about the partition.
        message: What was found, for a person.
        sample: The first few of their opens.
    """

    rule: str
    severity: Severity
    rows: int
    message: str
    sample: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Before:
    """The last bar before a partition: its open's time and its close, None where there is none."""

    timestamp: datetime | None
    close: float | None


@dataclass(frozen=True, slots=True)
class Sight:
    """A partition made ready to be looked at.

    Attributes:
        interval: The bars' interval.
        rows: The bars with the further columns that the rules of single bars look at.
        absent: The expected opens without a bar, with `run`, `trailing` and `share`.
        expected_rows: How many bars were expected.
        aligned: The timestamps equal the expected opens, so that no `clock_only` rule can be broken.
    """

    interval: Interval
    rows: pl.DataFrame
    absent: pl.DataFrame
    expected_rows: int
    aligned: bool


def _absences(timestamps: pl.Series, expected: pl.Series) -> pl.DataFrame:
    opens = pl.DataFrame({"timestamp": expected}).with_row_index("position")
    lost = opens.filter(~pl.col("timestamp").is_in(timestamps.implode())) if len(timestamps) else opens
    # a new run begins wherever two absent opens are not neighbours among the expected ones
    run = (pl.col("position").cast(pl.Int64).diff() != 1).fill_null(True).cum_sum()
    return lost.with_columns(identity=run).select(
        "timestamp",
        run=pl.len().over("identity").cast(pl.Int64),
        trailing=(pl.col("position").max().over("identity") == len(expected) - 1),
        share=pl.lit(lost.height / max(len(expected), 1)),
    )


def sight(
    bars: pl.DataFrame,
    *,
    interval: Interval,
    expected: pl.Series,
    as_of: datetime,
    fine: pl.DataFrame | None = None,
    before: Before | None = None,
) -> Sight:
    """Lay bars beside what was expected of them.

    Args:
        bars: Columns of `BARS`, as they are: in any order, with whatever is wrong with them.
        interval: Their interval.
        expected: The opens that should be there, sorted. Those of bars not closed at `as_of` are left out here.
        as_of: The moment the bars were taken.
        fine: Bars of a finer table resampled to this interval, only complete ones; None where there is no such table.
        before: The last bar before these, None where there is none: the first bar then has nothing to jump from.
    """
    closes = pl.col("timestamp").dt.offset_by(interval.name)
    if interval.step is not None:
        closes = pl.col("timestamp") + interval.step
    opens = expected.cast(TIMESTAMP).alias("timestamp")
    if opens.len() and utc(as_of) < interval.next(opens[-1]):
        opens = pl.DataFrame([opens]).filter(closes <= utc(as_of))["timestamp"]
    aligned = bars["timestamp"].equals(opens)
    known = pl.lit(True) if aligned else pl.col("timestamp").is_in(expected.cast(TIMESTAMP).implode())
    # a NaN means the same as a null to the rules, and pandas cannot tell them apart
    values = [pl.col(name).fill_nan(None) for name, kind in BARS.items() if kind.is_float()]
    last = before or Before(None, None)
    rows = bars.with_columns(*values, expected=known, as_of=pl.lit(utc(as_of), TIMESTAMP)).with_columns(
        timestamp_before=pl.col("timestamp").shift(1, fill_value=pl.lit(last.timestamp, TIMESTAMP)),
        close_before=pl.col("close").shift(1, fill_value=pl.lit(last.close, pl.Float64)),
    )
    if fine is not None:
        renamed = fine.select("timestamp", **{name: pl.col(name.removeprefix("fine_")) for name in FINE})
        rows = rows.join(renamed, on="timestamp", how="left", maintain_order="left")
    absent = pl.DataFrame(schema=ABSENT) if aligned else _absences(bars["timestamp"], opens)
    return Sight(interval, rows, absent, opens.len(), aligned)


def _row_flags(seen: Sight, thresholds: Thresholds) -> dict[str, pl.Expr]:
    fine = FINE[0] in seen.rows.columns
    return {
        name: flag
        for name, flag in flags("row", thresholds, seen.interval).items()
        if (fine or name != "resample_mismatch") and not (seen.aligned and BY_NAME[name].clock_only)
    }


def profile(seen: Sight, thresholds: Thresholds, outlier_score: float | None = None) -> pl.DataFrame:
    """Return the partition's profile: one row with the columns of `PROFILE`."""
    returns = (pl.col("close") / pl.col("close").shift(1) - 1).abs()
    facts = {
        "rows": pl.len(),
        "first_bar": pl.col("timestamp").min(),
        "last_bar": pl.col("timestamp").max(),
        "volume": pl.col("volume").sum(),
        "volatility": returns.filter(returns.is_finite()).mean(),
    }
    counts = {name: flag.sum() for name, flag in _row_flags(seen, thresholds).items()}
    row = seen.rows.lazy().select(**facts, **counts).collect()
    lost = {name: flag.sum() for name, flag in flags("absence", thresholds, seen.interval).items()}
    gaps = {"missing_bars": pl.len(), "longest_gap_bars": pl.col("run").max().fill_null(0)}
    row = row.hstack(seen.absent.select(**lost, **gaps)).with_columns(
        expected_rows=pl.lit(seen.expected_rows), outlier_score=pl.lit(outlier_score, pl.Float64)
    )
    row = row.with_columns(**flags("partition", thresholds, seen.interval))
    unseen = [pl.lit(0).alias(name) for name in PROFILE if name not in row.columns]
    return row.with_columns(unseen).select(pl.col(name).cast(kind) for name, kind in PROFILE.items())


def bad_rows(seen: Sight, thresholds: Thresholds) -> pl.DataFrame:
    """Return the bars that break a rule, and a row of nulls for each absence that does, with the list of `reasons`."""
    found = _row_flags(seen, thresholds)
    lost = flags("absence", thresholds, seen.interval)
    marked = seen.rows.with_columns(reasons=_reasons(found)).select(*BARS, "reasons")
    absent = seen.absent.with_columns(reasons=_reasons(lost)).select("timestamp", "reasons")
    both = pl.concat([marked, absent], how="diagonal")
    return both.filter(pl.col("reasons").list.len() > 0)


def _reasons(found: Mapping[str, pl.Expr]) -> pl.Expr:
    # one list a row, of the names of the rules it breaks
    return pl.concat_list([pl.when(flag).then(pl.lit(name)) for name, flag in found.items()]).list.drop_nulls()


def findings(row: Mapping[str, object], bad: pl.DataFrame | None = None) -> tuple[Finding, ...]:
    """Put a profile row into words: a finding for each rule with a count, with samples out of the bad rows."""
    return tuple(_finding(name, row, bad) for name in BY_NAME if row[name])


def _finding(name: str, row: Mapping[str, object], bad: pl.DataFrame | None) -> Finding:
    rule, count = BY_NAME[name], int(str(row[name]))
    sample: tuple[datetime, ...] = ()
    if bad is not None:
        times = bad.filter(pl.col("reasons").list.contains(name))["timestamp"]
        sample = tuple(times.drop_nulls().head(SAMPLE_SIZE))
    where = f", first at {sample[0]:%Y-%m-%d %H:%M} UTC" if sample else ""
    message = f"{rule.meaning}: {count} of {row['rows']} bars ({row['expected_rows']} expected){where}"
    return Finding(name, rule.severity, count, message, sample)


@dataclass(frozen=True, slots=True)
class Check:
    """What the rules say about one partition: what was seen, its profile row, findings, bars that break a rule."""

    seen: Sight
    profile: pl.DataFrame
    findings: tuple[Finding, ...]
    bad_rows: pl.DataFrame

    @property
    def status(self) -> Status:
        """Return the worst severity found, or `pass`."""
        return status_of(self.findings)


def status_of(found: Sequence[Finding]) -> Status:
    """Return the worst severity among findings, or `pass` where there is none."""
    severities = {finding.severity for finding in found}
    return "reject" if "reject" in severities else "warn" if found else "pass"


def agreed(where: str, ours: Iterable[str], theirs: Iterable[str]) -> None:
    """Check that the expressions and Great Expectations break the same rules.

    Raises:
        DisagreementError: They do not, so that one of the two is wrong and the verdict is withheld.
    """
    if set(ours) != set(theirs):
        raise DisagreementError(
            f"quality: expected Great Expectations to find the rules {sorted(ours)} broken in the {where}, found "
            f"{sorted(theirs)}; there is no verdict, mend tasks.quality.rules"
        )


def check_bars(
    bars: pl.DataFrame,
    *,
    interval: Interval,
    expected: pl.Series,
    as_of: datetime,
    thresholds: Thresholds,
    fine: pl.DataFrame | None = None,
    before: Before | None = None,
    outlier_score: float | None = None,
) -> Check:
    """Check bars against every rule without Great Expectations; see `sight` for the arguments."""
    seen = sight(bars, interval=interval, expected=expected, as_of=as_of, fine=fine, before=before)
    row = profile(seen, thresholds, outlier_score)
    counts = row.row(0, named=True)
    broken = any(counts[rule.name] for rule in RULES)
    bad = bad_rows(seen, thresholds) if broken else no_bad_rows()
    return Check(seen, row, findings(counts, bad), bad)


@functools.cache
def suite_version(thresholds: Thresholds) -> str:
    """Return a hash of the rules, of how they are applied and of the limits.

    It is taken from the source of both modules: nobody has to remember to count up a version, and a change that means
    nothing costs one more judgement, never a stale one.
    """
    source = inspect.getsource(rules) + inspect.getsource(sys.modules[__name__])
    return f"{hashlib.sha256(source.encode()).hexdigest()[:8]}-{thresholds.version}"


def no_bad_rows() -> pl.DataFrame:
    """Return an empty frame of bad rows: the columns of `BARS` and `reasons`."""
    return pl.DataFrame(schema=BARS | {"reasons": pl.List(pl.String())})
