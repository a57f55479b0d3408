"""Records of runs after a crash: dead processes are called crashed, living ones never; a downtime is no stampede."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, FlowRun, StateType
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.states import Pending, Running

from flows.live import single_instance
from flows.tidy import LIVE_RUN, crash_dead, crash_dead_live, remember_live_run, skip_missed


@pytest.fixture
async def client(orchestrated: str) -> AsyncIterator[PrefectClient]:
    """Yield a client of the session's server."""
    async with get_client() as one:
        yield one


@pytest.fixture
async def pool(client: PrefectClient) -> str:
    """Make a work pool of this test's own."""
    name = f"pool-{uuid4().hex[:8]}"
    await client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    return name


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that looks like a run's; it waits until it is killed."""
    command = [sys.executable, "-c", "import signal; signal.pause()  # prefect.engine"]
    with subprocess.Popen(command) as one:
        yield one
        one.kill()


async def _running(client: PrefectClient, pool: str, pid: int | None) -> UUID:
    """Return a run of the work pool whose record says Running and which process it has."""
    deployment = await client.create_deployment(
        await client.create_flow_from_name("pretended"), f"at {pid}", work_pool_name=pool
    )
    run = (await client.create_flow_run_from_deployment(deployment)).id
    await client.set_flow_run_state(run, Running(), force=True)
    if pid is not None:
        await client.update_flow_run(run, infrastructure_pid=str(pid))
    return run


async def _states(client: PrefectClient, *runs: UUID) -> list[StateType | None]:
    return [(await client.read_flow_run(run)).state_type for run in runs]


async def test_a_killed_process_leaves_no_run_behind(
    client: PrefectClient, pool: str, process: subprocess.Popen[bytes]
) -> None:
    """While it lives its run is left alone; after `kill -9` the run and its subflow are Crashed."""

    @flow
    def inner() -> None: ...

    @task
    def door() -> None: ...

    run = await _running(client, pool, process.pid)
    through = await client.create_task_run(door, flow_run_id=run, dynamic_key="0")
    part = (await client.create_flow_run(inner, parent_task_run_id=through.id, state=Running())).id
    assert await crash_dead(client, pool) == []
    assert await _states(client, run, part) == [StateType.RUNNING] * 2
    process.kill()
    process.wait()
    assert len(await crash_dead(client, pool)) == 2
    assert await _states(client, run, part) == [StateType.CRASHED] * 2


async def test_what_another_machine_may_be_running_is_left_alone(client: PrefectClient, pool: str) -> None:
    """A process number of ours proves nothing while another machine's worker is online; no number proves nothing."""
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    runs = [await _running(client, pool, None), await _running(client, pool, gone.pid)]
    await client.send_worker_heartbeat(pool, "another machine", heartbeat_interval_seconds=30)
    assert await crash_dead(client, pool) == []
    assert await _states(client, *runs) == [StateType.RUNNING] * 2


async def test_a_dead_live_run_is_told_by_its_lock(client: PrefectClient, tmp_path: Path) -> None:
    """While the lock is held the run stands; once it is free the record is put right, and nothing is started."""

    @flow(name="live")
    async def pretended() -> None:
        remember_live_run(tmp_path)

    await pretended()
    run = UUID((tmp_path / LIVE_RUN).read_text())
    await client.set_flow_run_state(run, Running(), force=True)
    with single_instance(tmp_path / "live.lock"):
        assert await crash_dead_live(client, tmp_path) == []
    before = len(await client.read_flow_runs())
    assert len(await crash_dead_live(client, tmp_path)) == 1
    assert await _states(client, run) == [StateType.CRASHED]
    assert await crash_dead_live(client, tmp_path) == []
    assert len(await client.read_flow_runs()) == before


async def _missed(client: PrefectClient, pool: str) -> list[FlowRun]:
    """Return the runs of an hourly deployment that a machine missed which was off since last night."""
    hour = timedelta(hours=1)
    anchor = datetime.now(UTC) - 8 * hour
    schedule = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=hour, anchor_date=anchor), slug="hourly")
    deployment = await client.create_deployment(
        await client.create_flow_from_name("hourly"),
        pool,
        work_pool_name=pool,
        schedules=[schedule],
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )
    wanted = {"start_time": anchor.isoformat(), "end_time": datetime.now(UTC).isoformat(), "min_runs": 8, "max_runs": 8}
    await client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment}, json=wanted)
    return sorted(await _of(client, deployment), key=lambda run: str(run.expected_start_time))


async def _of(client: PrefectClient, deployment: UUID) -> list[FlowRun]:
    """Return the deployment's runs that came due."""
    due = {"deployment_id": {"any_": [deployment]}, "expected_start_time": {"before_": datetime.now(UTC)}}
    return await client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(due))


async def test_a_downtime_is_caught_up_by_one_run(client: PrefectClient, pool: str) -> None:
    """Of eight missed runs of an hourly schedule the newest is left, the others are cancelled with the reason."""
    missed = await _missed(client, pool)
    assert len(missed) >= 8
    skipped = await skip_missed(client, timedelta(0))
    states = await _states(client, *(run.id for run in missed))
    assert states == [StateType.CANCELLED] * (len(missed) - 1) + [StateType.SCHEDULED]
    assert {run.name for run in missed[:-1]} <= set(skipped)
    assert missed[-1].name not in skipped


async def test_late_runs_that_a_worker_takes_at_once_do_not_pile_up(client: PrefectClient, pool: str) -> None:
    """Where nobody tidied, the collision strategy of prefect.yaml lets one of them begin and cancels the others."""
    first, second, *_ = await _missed(client, pool)
    await client.set_flow_run_state(first.id, Pending())
    await client.set_flow_run_state(second.id, Pending())
    assert await _states(client, first.id, second.id) == [StateType.PENDING, StateType.CANCELLED]
