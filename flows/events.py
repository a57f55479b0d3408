"""What flows tell Prefect beyond the states of their runs: events that automations wait for, tables as assets.

An event is told only inside a flow run: a plain call has no server to tell. `flows/automations.py` says what each
event leads to.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.events import emit_event

from flows.steps import is_orchestrated

#: A backfill that was no part of another flow wrote bars that were not there, or others in their place.
BARS_WRITTEN = "klinehouse.bars.written"
#: Quality refuses partitions, and nobody has released them.
PARTITIONS_REJECTED = "klinehouse.partitions.rejected"
#: The live flow has stopped trading, for a reason; a person must look.
LIVE_HALTED = "klinehouse.live.halted"

#: Every event's resource begins with this; the table or the account follows.
RESOURCE = "klinehouse."

#: Partitions that one message names; the run's artifact has them all.
_NAMED = 20


def tell_bars_written(symbols: Sequence[str], interval: str, start: datetime, end: datetime) -> None:
    """Tell which bars a backfill wrote, as the parameters of the quality flow that shall judge them.

    A backfill inside another flow (research) tells nothing: that flow judges the bars itself.

    Args:
        symbols: Those with new or restated bars; none tells nothing.
        interval: Length of the bars.
        start: First open that was looked at.
        end: Exclusive.
    """
    run = FlowRunContext.get()
    if not symbols or run is None or run.flow_run is None or run.flow_run.parent_task_run_id is not None:
        return
    days = {"start": start.date().isoformat(), "end": _first_day_after(end).isoformat()}
    _tell(BARS_WRITTEN, f"lake.klines.{interval}", {"symbols": list(symbols), "interval": interval, **days})


def tell_partitions_rejected(interval: str, partitions: Sequence[str]) -> None:
    """Tell which partitions are refused; none tells nothing.

    Args:
        interval: Length of their bars.
        partitions: Each as a sentence with its symbol, days and findings.
    """
    if partitions:
        named = [*partitions[:_NAMED], *([f"and {len(partitions) - _NAMED} more"] if len(partitions) > _NAMED else [])]
        told = {"interval": interval, "count": len(partitions), "partitions": named}
        _tell(PARTITIONS_REJECTED, f"lake.klines.{interval}", told)


def tell_halted(account: str, reason: str) -> None:
    """Tell that the live flow has stopped trading.

    Args:
        account: The account that it trades.
        reason: Why, in words.
    """
    _tell(LIVE_HALTED, f"live.{account}", {"account": account, "reason": reason})


async def record_asset(lake_root: str, table: str, made_from: Sequence[str] = (), **facts: Any) -> None:
    """Record that this run brought a table of the lake up to date, and from which: Prefect's asset events with lineage.

    One event a table and run, not one a partition: it costs as much as a task run.

    Args:
        lake_root: Folder or address of the lake.
        table: Such as klines/1m.
        made_from: Tables it was made from; a name with :// is an asset outside the lake, such as vendor://tickdb.
        facts: What to say about it, such as how many rows are new.
    """
    if not is_orchestrated():
        return
    asset = Asset(key=asset_key(table), properties=AssetProperties(name=table, description=f"Table of {lake_root}"))
    upstream = [Asset(key=asset_key(name)) for name in made_from]

    @materialize(asset, name=f"record {table}", asset_deps=list(upstream), cache_policy=NO_CACHE)
    async def record() -> None:
        add_asset_metadata(asset, facts)

    await record()


def asset_key(table: str) -> str:
    """Return the key of a table as an asset: lake://klines/1m, wherever the lake is."""
    return table if "://" in table else f"lake://{table}"


def _tell(event: str, resource: str, payload: dict[str, Any]) -> None:
    if is_orchestrated():
        name = resource.replace(".", " ")
        emit_event(event, {"prefect.resource.id": RESOURCE + resource, "prefect.resource.name": name}, payload=payload)


def _first_day_after(end: datetime) -> date:
    """Return the day that an exclusive end belongs to as an exclusive day: itself at midnight, else the next."""
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight if end == midnight else midnight + timedelta(days=1)).date()
