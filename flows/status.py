"""Where things stand: what the lake holds and lacks, what quality says of it, what ran last, whether live data flows.

Everything is read; nothing is started. What cannot be asked (no server, no live flow) is said to be so.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Group
from rich.table import Table

from flows.adhoc import is_healthy
from flows.settings import Settings
from flows.standing import api_url, standing
from flows.status_trading import trading
from flows.vendor import calendar_of
from lake.absences import TO_FETCH, bars_by_reason
from lake.calendar import TradingCalendar
from lake.coverage import Ledger
from lake.store import Lake
from lake.timeline import INTERVALS
from lake.timeline import interval as interval_named
from tasks.quality.verdicts import current

#: How many runs and sweeps are listed.
LISTED = 8
_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Holding:
    """What the lake has of one symbol and interval.

    Attributes:
        symbol: The vendor's spelling.
        interval: Length of a bar.
        bars: Bars there are.
        first: Open of the first.
        last: Open of the last.
        behind: Time from the close of the last to the close of the newest bar there could be.
        to_fetch: Absent bars, of the days looked at, that a backfill would ask for.
        vendor_empty: Absent bars of these days that the vendor does not have although its market was open.
        verdicts: Partitions by verdict: pass, warn, reject, released.
    """

    symbol: str
    interval: str
    bars: int
    first: datetime
    last: datetime
    behind: timedelta
    to_fetch: int
    vendor_empty: int
    verdicts: dict[str, int]


def holdings(lake: Lake, *, days: int, now: datetime) -> Iterator[Holding]:
    """Yield what the lake has, by interval and symbol; holes are looked for in the last `days` days before `now`."""
    for interval in INTERVALS:
        snapshot = lake.snapshot(f"klines/{interval}")
        if snapshot is None or not snapshot.files.height:
            continue
        judged = _verdicts(lake, interval)
        found = snapshot.files.group_by("partition.symbol").agg(pl.sum("rows"), pl.min("first"), pl.max("last"))
        for symbol, bars, first, last in found.sort("partition.symbol").iter_rows():
            yield _holding(lake, symbol, interval, (bars, first, last), judged.get(symbol, {}), now, days)


def _holding(
    lake: Lake,
    symbol: str,
    interval: str,
    extent: tuple[int, datetime, datetime],
    verdicts: dict[str, int],
    now: datetime,
    days: int,
) -> Holding:
    bars, first, last = extent
    step = interval_named(interval)
    end = step.closed_end(now)
    start = max(first, step.floor(now - timedelta(days=days)))
    calendar = TradingCalendar.parse(calendar_of(symbol))
    absent = bars_by_reason(Ledger(lake).absences(symbol, interval, start, end, calendar=calendar, now=now))
    return Holding(
        symbol,
        interval,
        bars,
        first,
        last,
        max(end - step.next(last), timedelta()),
        sum(absent[reason] for reason in TO_FETCH),
        absent["vendor_empty"],
        verdicts,
    )


def _verdicts(lake: Lake, interval: str) -> dict[str, dict[str, int]]:
    """Return the number of partitions by symbol and verdict."""
    held = current(lake, interval).with_columns(
        status=pl.when(pl.col("released")).then(pl.lit("released")).otherwise(pl.col("status"))
    )
    found: dict[str, dict[str, int]] = {}
    for symbol, status, count in held.group_by("symbol", "status").len().sort("symbol", "status").iter_rows():
        found.setdefault(symbol, {})[status] = count
    return found


def sweeps(lake: Lake) -> list[dict[str, Any]]:
    """Return the headline of the sweeps on record, those over the newest bars first."""
    if not lake.exists("sweeps/runs"):
        return []
    rows = (
        lake.scan("sweeps/runs")
        .select("run_id", "symbol", "interval", "strategy", "verdict_passed", "record")
        .collect()
    )
    told = [row | {"end": str(json.loads(row.pop("record")).get("end", ""))} for row in rows.to_dicts()]
    return sorted(told, key=lambda row: (row["end"], row["run_id"]), reverse=True)


def flow_runs() -> list[dict[str, Any]] | None:
    """Return the newest flow runs that the Prefect server knows, None where no server answers."""
    url = api_url()
    if not is_healthy(url):
        return None
    started = FlowRunFilter.model_validate({"start_time": {"is_null_": False}})  # schedules reach days ahead
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        begun = client.read_flow_runs(flow_run_filter=started, sort=FlowRunSort.START_TIME_DESC, limit=LISTED)
    return [
        {
            "run": run.name,
            "state": run.state_name or "",
            "began": run.start_time,
            "seconds": run.total_run_time.total_seconds(),
        }
        for run in begun
    ]


def live_state(settings: Settings) -> dict[str, Any] | None:
    """Return what the live flow's control page says, None where none answers."""
    url = f"http://127.0.0.1:{settings.control_port}/state"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None
    return found


def render(settings: Settings, *, days: int) -> Group:
    """Return all of it for a terminal."""
    lake, now = Lake(settings.lake_root), settings.market_now or datetime.now(UTC)
    return Group(
        _holdings_table(list(holdings(lake, days=days, now=now)), settings.lake_root, days),
        _sweeps_table(sweeps(lake)),
        _runs_table(flow_runs()),
        f"By itself: {standing() or 'no Prefect server answers'}",
        _live(live_state(settings), settings.control_port),
    )


def _holdings_table(held: list[Holding], root: str, days: int) -> Table | str:
    if not held:
        return f"Lake {root}: no bars yet; `klinehouse backfill SYMBOL` fetches some\n"
    title = f"Lake {root}, holes of the last {days} days"
    shown = Table("symbol", "interval", title=title, title_justify="left")
    for name in ("bars", "first", "last", "behind", "to fetch", "vendor lacks"):
        shown.add_column(name, justify="right")
    shown.add_column("quality")
    for one in held:
        judged = ", ".join(f"{count} {status}" for status, count in one.verdicts.items())
        refused = "red" if "reject" in one.verdicts else ""
        shown.add_row(
            one.symbol,
            one.interval,
            f"{one.bars:,}",
            f"{one.first:%Y-%m-%d}",
            f"{one.last:%Y-%m-%d %H:%M}",
            _duration(one.behind),
            f"{one.to_fetch:,}",
            f"{one.vendor_empty:,}",
            f"[{refused}]{judged}[/]" if refused else judged or "not judged",
        )
    return shown


def _sweeps_table(found: list[dict[str, Any]]) -> Table | str:
    if not found:
        return "Sweeps: none on record\n"
    title = f"Sweeps: {len(found):,} on record, those over the newest bars"
    shown = Table("run", "symbol", "interval", "strategy", "bars to", "verdict", title=title, title_justify="left")
    for row in found[:LISTED]:
        verdict = "survives" if row["verdict_passed"] else "nothing survives"
        shown.add_row(row["run_id"], row["symbol"], row["interval"], row["strategy"], row["end"][:10], verdict)
    return shown


def _runs_table(runs: list[dict[str, Any]] | None) -> Table | str:
    if runs is None:
        return "Flow runs: no Prefect server answers\n"
    shown = Table("flow run", "state", "began", "seconds", title="Last flow runs", title_justify="left")
    for run in runs:
        shown.add_row(run["run"], run["state"], f"{run['began']:%Y-%m-%d %H:%M:%S}", f"{run['seconds']:.1f}")
    return shown


def _live(state: dict[str, Any] | None, port: int) -> Group | str:
    if state is None:
        return f"Live: no live flow answers on port {port}"
    connection = state["stream"]["connection"]
    line = f"Live: {connection['state']}: {connection['sentence']}; http://127.0.0.1:{port}"
    return Group(line, trading(state["trading"]))


def _duration(span: timedelta) -> str:
    if span < timedelta(hours=1):
        return f"{span.total_seconds() / 60:.0f} min"
    return f"{span.total_seconds() / 3600:.0f} h" if span < timedelta(days=2) else f"{span.days} d"
