"""The whole lake's tier: one pass that profiles each partition, Great Expectations over the profiles, a second look.

A symbol's year is read at a time and each of its partitions profiled by the very expressions the write path uses, so
memory stays flat however large the lake. What has not changed since its last profile is not even read: its files tell.
Only partitions that fail are looked at row by row, to put their bars with reasons into quarantine.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from lake.store import Lake
from lake.timeline import utc
from tasks.quality import quarantine
from tasks.quality.outliers import outlier_scores
from tasks.quality.parts import parts
from tasks.quality.plan import Chunk, Market, plan
from tasks.quality.profile import (
    agreed,
    bad_rows,
    findings,
    no_bad_rows,
    profile,
)
from tasks.quality.profiles import KEY, PROFILE_TABLE, append_profiles, key_of, keyed, read_profiles
from tasks.quality.rules import flags
from tasks.quality.verdicts import Verdict, holding, refused, released_contents, store, verdict_of

#: Two chunks at a time keep two cores busy: while one is decoded the other is judged.
WORKERS = 2


@dataclass(frozen=True, slots=True)
class LakeReceipt:
    """What judging a lake came to.

    Attributes:
        interval: Of the bars.
        partitions: How many the lake has.
        judged: How many of them were judged now; the others had not changed since their last verdict.
        rows: Bars in those judged.
        passed: Of those judged.
        warned: Of those judged.
        rejected: Every partition that is rejected now and not released, judged in this run or before, as text.
        seconds: Wall-clock time.
    """

    interval: str
    partitions: int
    judged: int
    rows: int
    passed: int
    warned: int
    rejected: tuple[str, ...]
    seconds: float


def check_lake(
    lake: Lake,
    interval: str,
    *,
    symbols: Sequence[str] | None = None,
    markets: Mapping[str, Market] | None = None,
    as_of: datetime | None = None,
) -> LakeReceipt:
    """Judge every partition whose content, limits or calendar changed since its last profile.

    Args:
        lake: Where the bars are; verdicts, profiles and quarantine go there too.
        interval: Which bars.
        symbols: Only these; all by default.
        markets: Calendar and limits by symbol; a liquid market that never closes by default.
        as_of: The moment that decides which bars have closed; the lake's time by default.

    Raises:
        DisagreementError: Great Expectations could not evaluate a rule. No verdict is stored.
    """
    began = time.perf_counter()
    now = utc(as_of) if as_of else lake.now()
    chunks = plan(lake, interval, as_of=now, symbols=symbols, markets=markets)
    before = read_profiles(lake, interval)
    profiles = _changed(lake, chunks, before, now)
    fresh, verdicts = profiles, []
    if profiles.height:
        scored = _scored(profiles, before, chunks)
        fresh = scored.join(before, on=[*KEY, "judged_on"], how="anti")
        verdicts = _judged(lake, fresh, chunks, now) if fresh.height else []
        # last: a profile on record says that its partition has a verdict
        append_profiles(lake, scored)
    count = {status: sum(v.status == status for v in verdicts) for status in ("pass", "warn", "reject")}
    return LakeReceipt(
        interval,
        sum(len(chunk.bounds) for chunk in chunks),
        len(verdicts),
        int(fresh["rows"].sum()),
        count["pass"],
        count["warn"],
        tuple(refused(lake, interval, symbols)),
        time.perf_counter() - began,
    )


def _changed(lake: Lake, chunks: Sequence[Chunk], before: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return profiles of the chunks that may have changed, read two at a time."""
    known = set(before.select("symbol", "partition_start", "partition_end", "fingerprint").iter_rows())
    todo = [
        chunk
        for chunk in chunks
        if any((chunk.symbol, start, end, chunk.fingerprint) not in known for start, end in chunk.bounds)
    ]
    with ThreadPoolExecutor(WORKERS) as pool:
        made = pool.map(lambda chunk: _profiles(lake, chunk, now), todo)
        return pl.concat([pl.DataFrame(schema=PROFILE_TABLE), *made])


def _profiles(lake: Lake, chunk: Chunk, now: datetime) -> pl.DataFrame:
    keys, profiles = [], []
    for part in parts(lake, chunk, now):
        keys.append(key_of(part, symbol=chunk.symbol, market=chunk.market, now=now, fingerprint=chunk.fingerprint))
        profiles.append(profile(part.seen, chunk.market.thresholds))
    return keyed(keys, profiles)


def _scored(profiles: pl.DataFrame, before: pl.DataFrame, chunks: Sequence[Chunk]) -> pl.DataFrame:
    """Return the profiles with their score among all partitions, old and new, and the outlier rule evaluated."""
    # the running month has a profile of each night; only its newest is one of the peers
    held = holding(pl.concat([before, profiles]), "profiled_at")
    kept = held.join(profiles, on=list(KEY), how="anti")
    together = pl.concat([profiles, kept])
    scores = outlier_scores(together)[: profiles.height]
    limits = {chunk.symbol: chunk.market.thresholds for chunk in chunks}
    interval = chunks[0].interval

    def judged(symbol: str, own: pl.DataFrame) -> pl.DataFrame:
        flag = flags("partition", limits[symbol], interval)["cross_symbol_outlier"]
        return own.with_columns(cross_symbol_outlier=flag.cast(pl.Int64))

    by_symbol = profiles.with_columns(scores).group_by("symbol", maintain_order=True)
    return pl.concat(judged(str(symbol), own) for (symbol,), own in by_symbol)


def _judged(lake: Lake, profiles: pl.DataFrame, chunks: Sequence[Chunk], now: datetime) -> list[Verdict]:
    """Judge profiles by Great Expectations, look again at what fails, and store verdicts and quarantine."""
    from tasks.quality import suite  # 8 seconds and 270 MB, only where something is judged

    failing = suite.failing_profiles(profiles)
    marked = profiles.with_columns(failed=pl.Series(failing, dtype=pl.List(pl.String())))
    released = released_contents(lake, chunks[0].interval.name)
    verdicts, markets = [], []
    for (symbol,), part in marked.group_by("symbol", maintain_order=True):
        own = [chunk for chunk in chunks if chunk.symbol == symbol]
        bad = _second_look(lake, own, part, now)
        found = [_verdict(row, bad, released) for row in part.iter_rows(named=True)]
        spans = {(verdict.start, verdict.end): bad.get(verdict.start, no_bad_rows()) for verdict in found}
        quarantine.put(lake, own[0].symbol, own[0].interval.name, spans)
        verdicts += found
        markets += [own[0].market] * len(found)
    store(
        lake,
        verdicts,
        thresholds_json=[market.thresholds.model_dump_json() for market in markets],
        calendar=[market.calendar for market in markets],
        tier="lake",
    )
    return verdicts


def _second_look(
    lake: Lake, chunks: Sequence[Chunk], part: pl.DataFrame, now: datetime
) -> dict[datetime, pl.DataFrame]:
    """Return the bars that break a rule, by start of the partition, of the partitions that failed."""
    failed = set(part.filter(pl.col("failed").list.len() > 0)["partition_start"])
    bad = {}
    for chunk in chunks:
        wanted = failed & {start for start, _ in chunk.bounds}
        if wanted:
            for each in parts(lake, chunk, now, wanted):
                bad[each.start] = bad_rows(each.seen, chunk.market.thresholds)
    return bad


def _verdict(
    row: Mapping[str, Any], bad: Mapping[datetime, pl.DataFrame], released: Collection[tuple[object, ...]]
) -> Verdict:
    found = findings(row, bad.get(row["partition_start"]))
    agreed("profile", {finding.rule for finding in found}, row["failed"])
    return verdict_of(row, found, released)
