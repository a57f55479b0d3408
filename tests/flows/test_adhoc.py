"""Flows work when they are simply called, and leave records that a person can look at."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter
from prefect.settings import get_current_settings

from flows import adhoc, steps
from flows.steps import Progress, gather, is_orchestrated, publish_markdown, step, subflow
from tests.flows.conftest import call_first_flow, free_port


@task(cache_policy=NO_CACHE)
async def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


@task(cache_policy=NO_CACHE)
def increment(number: int) -> int:
    """Return the number plus one."""
    return number + 1


@adhoc.flow(name="inner-example")
async def inner(number: int) -> int:
    """Go through an async and a sync door."""
    return await step(increment, await step(double, number))


@adhoc.flow(name="outer-example")
async def outer(number: int = 3) -> tuple[int, bool]:
    """Run the other flow and show progress."""
    async with Progress("example-progress", 1, "an example") as progress:
        result = await subflow(inner, number=number)
        await progress.advance()
    await publish_markdown("example-result", f"**{result}**", "an example")
    return result, is_orchestrated()


@pytest.mark.parametrize(("refresh_s", "shares"), [(60.0, [100.0]), (0.0, [*map(float, range(10, 101, 10)), 100.0])])
async def test_progress_is_shown_by_time_not_by_steps(
    refresh_s: float, shares: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that follow quickly wait for no update of the artifact; the last one always tells what was reached."""
    told = list[float]()

    async def create(**named: object) -> str:
        return "artifact"

    async def update(artifact: str, *, progress: float) -> None:
        told.append(progress)

    monkeypatch.setattr(steps, "is_orchestrated", lambda: True)
    monkeypatch.setattr(steps, "acreate_progress_artifact", create)
    monkeypatch.setattr(steps, "aupdate_progress_artifact", update)
    monkeypatch.setattr(steps, "REFRESH_S", refresh_s)
    async with Progress("example-progress", 10, "an example") as progress:
        for _ in range(10):
            await progress.advance()
    assert told == shares


def test_plain_function_needs_no_server() -> None:
    """`flow.fn` runs every step as a plain function, with no run and no artifact."""
    assert asyncio.run(outer.fn(3)) == (7, False)


def test_called_from_a_script_the_flow_runs_to_its_end(orchestrated: str) -> None:
    """A plain call of an async flow returns its result, and every run is on record."""
    assert outer(5) == (11, True)

    async def records() -> tuple[list[str], list[str]]:
        async with get_client() as client:
            ours = FlowFilter.model_validate({"name": {"any_": [outer.name, inner.name]}})
            runs = await client.read_flow_runs(flow_filter=ours)
            artifacts = await client.read_artifacts()
            return [run.state_name or "" for run in runs], [a.key or "" for a in artifacts]

    states, keys = asyncio.run(records())
    assert states == ["Completed", "Completed"]
    assert {"example-progress", "example-result"} <= set(keys)


async def test_awaited_in_a_running_loop(orchestrated: str) -> None:
    """In a notebook the same flow is awaited."""
    assert await outer(1) == (3, True)


async def test_one_failed_step_never_stops_the_others() -> None:
    """`gather` returns failures in their place and the results of the rest."""

    async def work(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        return number

    first, second, third = await gather([lambda n=n: work(n) for n in range(3)], at_once=2)
    assert (first, third) == (0, 2)
    assert isinstance(second, ValueError)


def test_a_server_is_started_where_none_is_configured(prefect_server: str) -> None:
    """A script on a machine without a server starts one (the session's began so), and the next call finds it again."""
    home = get_current_settings().home
    process = (home / "server.pid").read_text()
    port = urlsplit(prefect_server).port
    assert port is not None
    assert prefect_server == call_first_flow(port) == f"http://127.0.0.1:{port}/api"
    assert (home / "server.pid").read_text() == process, "the second call started a server of its own"


def test_a_server_outlives_the_errors_it_logs(prefect_server: str) -> None:
    """What the server prints goes to a file that stays open, not into a pipe that ended with whoever started it."""
    process = Path(f"/proc/{(get_current_settings().home / 'server.pid').read_text()}/fd")
    if not process.exists():
        pytest.skip("this system shows no open files of a process")
    written = {os.readlink(process / number) for number in ("1", "2")}
    assert written == {str(get_current_settings().home / "server.log")}
    assert adhoc.is_healthy(prefect_server)


def test_the_pages_of_a_server_ask_that_server(prefect_server: str) -> None:
    """On any port: Prefect's default sends every page's browser to port 4200."""
    answer = httpx.get(prefect_server.removesuffix("/api") + "/ui-settings", timeout=60)
    assert answer.json()["api_url"] == prefect_server


def test_a_server_that_cannot_start_says_why(monkeypatch) -> None:
    """The error names the address and what to do instead."""
    monkeypatch.setattr(adhoc, "START_TIMEOUT_S", 0)
    monkeypatch.setattr(adhoc.sys, "executable", "/bin/true")
    with pytest.raises(adhoc.ConfigurationError, match="run without orchestration"):
        adhoc.start_server("127.0.0.1", free_port())
