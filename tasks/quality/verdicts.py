"""Verdicts on record: one row a partition and check, releases beside them, and the refusal that both lead to.

`quality/verdicts` and `quality/releases` are only ever appended to. A verdict holds until a later one covers its whole
range; a release lifts a rejection of exactly the content that a person looked at, so that new content is judged anew.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from lake.schema import TIMESTAMP
from lake.store import Lake
from lake.timeline import utc
from tasks.errors import InputError, RejectedDataError
from tasks.quality.profile import Finding, Status, status_of

VERDICTS = "quality/verdicts"
RELEASES = "quality/releases"

_KEY = {
    "symbol": pl.String(),
    "interval": pl.String(),
    "partition_start": TIMESTAMP,
    "partition_end": TIMESTAMP,
    "content_hash": pl.String(),
}
VERDICT_TABLE: dict[str, pl.DataType] = {
    **_KEY,
    "status": pl.String(),
    "rows": pl.Int64(),
    "expected_rows": pl.Int64(),
    "findings_json": pl.String(),
    "suite_version": pl.String(),
    "thresholds_json": pl.String(),
    "calendar": pl.String(),
    "tier": pl.String(),
    "checked_at": TIMESTAMP,
}
RELEASE_TABLE: dict[str, pl.DataType] = {
    **_KEY,
    "reason": pl.String(),
    "released_by": pl.String(),
    "released_at": TIMESTAMP,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What quality says about one partition.

    Attributes:
        symbol: The vendor's spelling.
        interval: Interval of its bars.
        start: First instant of the partition.
        end: First instant after it.
        status: `reject` (research refuses it), `warn` (the report shows it) or `pass`.
        rows: Bars found.
        expected_rows: Bars expected.
        findings: One for each broken rule.
        content_hash: Of the bars that were judged.
        suite_version: Of the rules and limits they were judged by.
        released: Whether a person has released exactly this content, so that research may use it all the same.
    """

    symbol: str
    interval: str
    start: datetime
    end: datetime
    status: Status
    rows: int
    expected_rows: int
    findings: tuple[Finding, ...]
    content_hash: str
    suite_version: str
    released: bool = False

    @property
    def refused(self) -> bool:
        """Return whether research must not use the partition."""
        return self.status == "reject" and not self.released

    def __str__(self) -> str:
        names = ", ".join(f"{finding.rule} ({finding.rows})" for finding in self.findings)
        span = f"[{self.start:%Y-%m-%d}, {self.end:%Y-%m-%d})"
        state = f"{self.status}, released" if self.released else self.status
        return f"{self.symbol} {self.interval} {span}: {state}" + (f": {names}" if names else "")


def verdict_of(
    profile: Mapping[str, Any], found: Sequence[Finding], released: Collection[tuple[object, ...]] = ()
) -> Verdict:
    """Return the verdict on a profile (a row of `tasks.quality.profiles.PROFILE_TABLE`).

    Args:
        profile: What was counted.
        found: What is wrong.
        released: Partitions and contents that were released, see `released_contents`.
    """
    return Verdict(
        profile["symbol"],
        profile["interval"],
        profile["partition_start"],
        profile["partition_end"],
        status_of(found),
        profile["rows"],
        profile["expected_rows"],
        tuple(found),
        profile["content_hash"],
        profile["suite_version"],
        tuple(profile[name] for name in _KEY) in released,
    )


def store(
    lake: Lake, verdicts: Sequence[Verdict], *, thresholds_json: Sequence[str], calendar: Sequence[str], tier: str
) -> None:
    """Append verdicts to the record, each with the limits and the calendar it was judged by."""
    rows = [
        {
            "symbol": verdict.symbol,
            "interval": verdict.interval,
            "partition_start": verdict.start,
            "partition_end": verdict.end,
            "content_hash": verdict.content_hash,
            "status": verdict.status,
            "rows": verdict.rows,
            "expected_rows": verdict.expected_rows,
            "findings_json": findings_json(verdict.findings),
            "suite_version": verdict.suite_version,
            "thresholds_json": limits,
            "calendar": hours,
            "tier": tier,
            "checked_at": lake.now(),
        }
        for verdict, limits, hours in zip(verdicts, thresholds_json, calendar, strict=True)
    ]
    lake.append(VERDICTS, pl.DataFrame(rows, schema=VERDICT_TABLE))


def findings_json(findings: Sequence[Finding]) -> str:
    """Return findings as JSON: a list of objects with rule, severity, rows, message and sample (ISO times)."""
    return json.dumps(
        [
            {
                "rule": finding.rule,
                "severity": finding.severity,
                "rows": finding.rows,
                "message": finding.message,
                "sample": [moment.isoformat() for moment in finding.sample],
            }
            for finding in findings
        ]
    )


def current(
    lake: Lake,
    interval: str | None = None,
    symbols: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> pl.DataFrame:
    """Return the verdicts that hold, one row a partition that meets ``[start, end)``, with `released` and its reason.

    Columns of `VERDICT_TABLE`, then `released` (bool), `release_reason`, `released_by` and `released_at`.
    """
    released = {"release_reason": pl.String(), "released_by": pl.String(), "released_at": TIMESTAMP}
    if not lake.exists(VERDICTS):
        return pl.DataFrame(schema=VERDICT_TABLE | {"released": pl.Boolean()} | released)
    keep = [pl.lit(True)]
    if interval is not None:
        keep.append(pl.col("interval") == interval)
    if symbols is not None:
        keep.append(pl.col("symbol").is_in(list(symbols)))
    if start is not None:
        keep.append(pl.col("partition_end") > utc(start))
    if end is not None:
        keep.append(pl.col("partition_start") < utc(end))
    found = lake.scan(VERDICTS).filter(keep).select(list(VERDICT_TABLE)).collect()
    return (
        holding(found, "checked_at")
        .join(_releases(lake), on=list(_KEY), how="left")
        .with_columns(released=pl.col("released_at").is_not_null())
        .select(*VERDICT_TABLE, "released", *released)
        .sort("symbol", "interval", "partition_start")
    )


def holding(rows: pl.DataFrame, moment: str) -> pl.DataFrame:
    """Return the verdicts, or profiles, whose range no later one covers; `moment` is the column of their time."""
    key = ["symbol", "interval", "partition_start", "partition_end"]
    newest = rows.sort(moment, maintain_order=True).unique(key, keep="last", maintain_order=True)
    newest = newest.with_row_index("order")
    later = newest.select("symbol", "interval", "partition_start", "partition_end", "order")
    covered = newest.join(later, on=["symbol", "interval"], suffix="_later").filter(
        (pl.col("order_later") > pl.col("order"))
        & (pl.col("partition_start_later") <= pl.col("partition_start"))
        & (pl.col("partition_end_later") >= pl.col("partition_end"))
    )
    return newest.filter(~pl.col("order").is_in(covered["order"].implode())).drop("order")


def _releases(lake: Lake) -> pl.DataFrame:
    if not lake.exists(RELEASES):
        return pl.DataFrame(schema=RELEASE_TABLE).rename({"reason": "release_reason"})
    found = lake.scan(RELEASES).select(list(RELEASE_TABLE)).collect().sort("released_at")
    return found.unique(list(_KEY), keep="last").rename({"reason": "release_reason"})


def released_contents(lake: Lake, interval: str) -> frozenset[tuple[object, ...]]:
    """Return the partitions of an interval that were released, each with its content: months without bars are alike."""
    return frozenset(_releases(lake).filter(pl.col("interval") == interval).select(list(_KEY)).iter_rows())


def refuse_rejected(lake: Lake, symbols: Sequence[str], interval: str, start: datetime, end: datetime) -> None:
    """Refuse to go on where a partition in ``[start, end)`` is rejected and not released.

    Raises:
        RejectedDataError: The message names every such partition and the rules it breaks.
    """
    names = refused(lake, interval, symbols, start, end)
    if names:
        raise RejectedDataError(
            f"quality: expected no rejected partition of {interval} bars in [{start:%Y-%m-%d}, {end:%Y-%m-%d}), found "
            f"{len(names)}: {'; '.join(names)}. Fetch them again, release them with a reason, or allow rejected "
            "partitions"
        )


def refused(
    lake: Lake,
    interval: str,
    symbols: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[str]:
    """Return the partitions that are rejected and not released, as text: symbol, interval, range and broken rules."""
    held = current(lake, interval, symbols, start, end).filter((pl.col("status") == "reject") & ~pl.col("released"))
    return [_described(row) for row in held.iter_rows(named=True)]


def _described(row: Mapping[str, Any]) -> str:
    rules = ", ".join(f"{finding['rule']} ({finding['rows']})" for finding in json.loads(row["findings_json"]))
    span = f"[{row['partition_start']:%Y-%m-%d}, {row['partition_end']:%Y-%m-%d})"
    return f"{row['symbol']} {row['interval']} {span}: {row['status']}: {rules}"


def release(
    lake: Lake, symbol: str, interval: str, start: datetime, end: datetime, *, reason: str, released_by: str
) -> int:
    """Release the rejected partitions within ``[start, end)`` and return how many there were.

    The content that was judged is what is released: bars that change later are judged, and refused, anew.

    Raises:
        InputError: No reason or name is given, or nothing there is rejected.
    """
    if not reason.strip() or not released_by.strip():
        raise InputError(
            "release: expected a reason and the name of who releases, found an empty one; both go on record"
        )
    held = current(lake, interval, [symbol], start, end).filter(
        (pl.col("status") == "reject")
        & ~pl.col("released")
        & (pl.col("partition_start") >= utc(start))
        & (pl.col("partition_end") <= utc(end))
    )
    if not held.height:
        raise InputError(
            f"release: expected a rejected partition of {symbol} {interval} in [{start}, {end}), found none"
        )
    note = {"reason": reason.strip(), "released_by": released_by.strip()}
    rows = held.select(list(_KEY)).with_columns(
        **{name: pl.lit(text) for name, text in note.items()}, released_at=pl.lit(lake.now(), TIMESTAMP)
    )
    lake.append(RELEASES, rows.select(list(RELEASE_TABLE)))
    return held.height
