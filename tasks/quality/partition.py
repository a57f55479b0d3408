"""The write path's tier: judge one partition by the full suite, keep verdict and bad bars."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.store import Lake
from lake.timeline import Interval, utc
from lake.timeline import interval as interval_named
from tasks.quality import quarantine
from tasks.quality.expected import expected_opens, listings
from tasks.quality.parts import Part, between, read_from_before
from tasks.quality.plan import Market
from tasks.quality.profile import Before, Check, agreed, bad_rows, findings, profile, sight
from tasks.quality.profiles import append_profiles, key_of, keyed
from tasks.quality.resample import finer_bars
from tasks.quality.rules import RULES, rules_of
from tasks.quality.thresholds import Thresholds
from tasks.quality.verdicts import Verdict, released_contents, store, verdict_of

ALWAYS_OPEN = "always_open"


def check(
    lake: Lake,
    symbol: str,
    interval: str,
    start: datetime,
    end: datetime,
    *,
    calendar: str,
    thresholds: Thresholds,
    as_of: datetime | None = None,
) -> Verdict:
    """Judge what the lake holds of a symbol in ``[start, end)``; store the verdict, and bad bars in quarantine.

    Args:
        lake: Where the bars are and the verdict goes.
        symbol: The vendor's spelling.
        interval: Interval of the bars.
        start: First instant of the partition.
        end: First instant after it.
        calendar: Which bars are expected, as `TradingCalendar.parse` takes it: `always_open`, `exchange:XNYS`, JSON.
        thresholds: The market's limits.
        as_of: When the bars were taken; the lake's time where it is left out.

    Raises:
        DisagreementError: Great Expectations and the profile do not break the same rules. Nothing is stored.
    """
    start, end = utc(start), utc(end)
    length, hours = interval_named(interval), TradingCalendar.parse(calendar)
    now = utc(as_of) if as_of else lake.now()
    bars, before = between(read_from_before(lake, symbol, length, start, end), start, end)
    fine = finer_bars(lake, symbol, length, start, end, hours)
    listed_at = listings(Ledger(lake).records(interval, symbol)).get(symbol)
    found = judge(
        bars,
        interval=length,
        expected=expected_opens(calendar, interval, start, end, listed_at),
        as_of=now,
        thresholds=thresholds,
        fine=fine,
        before=before,
    )
    part = Part(start, end, bars, fine, before, found.seen)
    record = keyed([key_of(part, symbol=symbol, market=Market(calendar, thresholds), now=now)], [found.profile])
    verdict = verdict_of(record.row(0, named=True), found.findings, released_contents(lake, interval))
    quarantine.put(lake, symbol, interval, {(start, end): found.bad_rows})
    store(lake, [verdict], thresholds_json=[thresholds.model_dump_json()], calendar=[calendar], tier="partition")
    # last: a profile on record says that its partition has a verdict
    append_profiles(lake, record)
    return verdict


def judge(
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
    """Judge bars by the full Great Expectations suite; see `tasks.quality.profile.sight` for the arguments.

    Bars may be in any order and hold any defect: this is also the way to look at a page before it is written.

    Raises:
        DisagreementError: Great Expectations and the profile do not break the same rules; the verdict is withheld.
    """
    from tasks.quality import suite  # 8 seconds and 270 MB, only where something is judged

    seen = sight(bars, interval=interval, expected=expected, as_of=as_of, fine=fine, before=before)
    row = profile(seen, thresholds, outlier_score)
    counts = row.row(0, named=True)
    in_rows = {rule.name for rule in rules_of("row")}
    broken = {rule.name for rule in RULES if counts[rule.name]}
    agreed("partition", broken - in_rows, suite.judge_partition(row).failed)
    by_row = suite.judge_rows(seen.rows, thresholds, interval.name).failed
    agreed("bars", broken & in_rows, in_rows.intersection(by_row))
    bad = bad_rows(seen, thresholds)
    return Check(seen, row, findings(counts, bad), bad)
