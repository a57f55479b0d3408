"""Puts the records of runs right after a process or machine died: ``klinehouse tidy``, and before a worker starts.

Nothing here starts or stops a process. A run is called crashed only on proof: its process is gone from this machine
and no other machine could be running it, or the live flow's lock is free. Where there is no such proof the automation
"reap silent runs" decides, after ten minutes without a heartbeat.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import structlog
from filelock import FileLock, Timeout
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed, StateType

log = structlog.get_logger("flows.tidy")

#: The work pool of all deployments but the live flow's.
POOL = "klinehouse"
#: A run this much past its time was missed; a worker asks every ten seconds.
MISSED = timedelta(minutes=2)
#: Runs that the server returns at a time.
_PAGE = 200
#: File in the state folder with the run that holds the live lock, or held it last.
LIVE_RUN = "live.run"


def worker_name() -> str:
    """Return the name of this machine's worker, by which its death is told from that of others."""
    return socket.gethostname()


async def tidy(client: PrefectClient, state_dir: Path) -> list[str]:
    """Mark dead runs as crashed and drop missed ones; return a sentence for each."""
    dead = [*await crash_dead(client), *await crash_dead_live(client, state_dir)]
    done = [f"{name}: crashed, its process is gone" for name in dead]
    done += [f"{name}: cancelled, a newer run does its work" for name in await skip_missed(client)]
    for line in done:
        log.warning("run.tidied", run=line)
    return done


async def crash_dead(client: PrefectClient, work_pool: str = POOL) -> list[str]:
    """Mark as crashed the worker's runs whose process is gone, with their subflows; return their names.

    A run's record has its process but not its machine, so nothing is done while another machine's worker is online.
    """
    try:
        workers = await client.read_workers_for_work_pool(work_pool)
    except ObjectNotFound:
        return []
    others = [one.name for one in workers if one.name != worker_name() and one.status == "ONLINE"]
    if others:
        log.info("runs.left", reason="other workers are online", workers=others)
        return []
    pool = WorkPoolFilter.model_validate({"name": {"any_": [work_pool]}})
    running = await client.read_flow_runs(flow_run_filter=_in(StateType.RUNNING), work_pool_filter=pool)
    return await _crash(client, [run for run in running if not _may_live(run)])


async def crash_dead_live(client: PrefectClient, state_dir: Path) -> list[str]:
    """Mark the last live run of this machine as crashed where it never ended and nobody holds its lock."""
    note = state_dir / LIVE_RUN
    if not note.exists() or is_held(state_dir / "live.lock"):
        return []
    try:
        run = await client.read_flow_run(UUID(note.read_text().strip()))
    except ObjectNotFound:
        return []
    return [] if run.state is None or run.state.is_final() else await _crash(client, [run])


async def skip_missed(client: PrefectClient, after: timedelta = MISSED) -> list[str]:
    """Cancel all but the newest of each schedule's runs that came due while nothing could run them.

    A run fetches, judges or computes what is missing, however often it was missed: one catches up for all.
    """
    due = {"before_": datetime.now(UTC) - after}
    missed = FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": due})
    runs = [run for run in await _read_all(client, missed) if run.auto_scheduled]
    newest: dict[tuple[object, str], FlowRun] = {}
    skipped = []
    for run in sorted(runs, key=lambda run: run.expected_start_time or due["before_"]):
        key = (run.deployment_id, json.dumps(run.parameters, sort_keys=True, default=str))
        if key in newest:
            skipped.append(newest[key])
        newest[key] = run
    for run in skipped:
        state = Cancelled(message="Missed while nothing could run it; a newer run does its work.")
        await client.set_flow_run_state(run.id, state, force=True)
    return [run.name for run in skipped]


def remember_live_run(state_dir: Path) -> None:
    """Note the flow run that holds the live lock, so that the next start knows which record to put right."""
    run = FlowRunContext.get()
    if run is not None and run.flow_run is not None:
        (state_dir / LIVE_RUN).write_text(str(run.flow_run.id))


def is_held(path: Path) -> bool:
    """Return whether a process holds a lock file."""
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True


async def _crash(client: PrefectClient, runs: Sequence[FlowRun]) -> list[str]:
    """Mark runs and what they began as crashed, the subflows first."""
    names = []
    for run in runs:
        inner = FlowRunFilter.model_validate(
            {"parent_flow_run_id": {"any_": [run.id]}, "state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
        )
        names += await _crash(client, await client.read_flow_runs(flow_run_filter=inner))
        state = Crashed(message="Its process is gone.")
        await client.set_flow_run_state(run.id, state, force=True)
        names.append(run.name)
    return names


async def _read_all(client: PrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
    """Return the runs of every page."""
    found: list[FlowRun] = []
    while page := await client.read_flow_runs(flow_run_filter=wanted, limit=_PAGE, offset=len(found)):
        found += page
    return found


def _in(state: StateType) -> FlowRunFilter:
    return FlowRunFilter.model_validate({"state": {"type": {"any_": [state.value]}}})


def _may_live(run: FlowRun) -> bool:
    """Return whether the run's process may still be there; in doubt it may."""
    number = (run.infrastructure_pid or "").rpartition(":")[2]  # a bare pid, or host:pid before Prefect 3.8
    return not number.isdigit() or is_alive(int(number))


def is_alive(pid: int) -> bool:
    """Return whether a process of that number could be Prefect's; a reused number is told by its command."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
    return b"prefect" in words or b"flows" in words
