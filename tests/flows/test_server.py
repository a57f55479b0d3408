"""The pins hold: a real server deploys everything in prefect.yaml and *schedules* runs of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings

ROOT = Path(__file__).parents[2]


def prefect(url: str, *arguments: str) -> str:
    """Run Prefect's command line against the server at `url`, from the project's folder."""
    environment = os.environ | {"PREFECT_API_URL": url}
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def deployed(prefect_server: str) -> Iterator[str]:
    """Deploy all of prefect.yaml by Prefect's own command."""
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        with get_client(sync_client=True) as client:
            client.create_work_pool(WorkPoolCreate(name="klinehouse", type="process"), overwrite=True)
        prefect(prefect_server, "deploy", "--all")
        yield prefect_server


def test_every_schedule_makes_runs(deployed: str) -> None:
    """Each scheduled deployment gets a run without anybody asking (with SQLAlchemy 2.1 none ever appears)."""
    wanted = {
        f"{entry['entrypoint'].rpartition('.')[2].replace('_', '-')}/{entry['name']}"
        for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
        if entry["schedules"]
    }

    async def scheduled() -> set[str]:
        async with get_client() as client:
            runs = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}})
            )
            deployments = {item.id: item for item in await client.read_deployments()}
            flows = {item.id: item.name for item in await client.read_flows()}
            known = [deployments[run.deployment_id] for run in runs if run.deployment_id in deployments]
            return {f"{flows[item.flow_id]}/{item.name}" for item in known}

    deadline, found = time.monotonic() + 180, set[str]()
    while not wanted <= found and time.monotonic() < deadline:
        found = asyncio.run(scheduled())
    assert wanted <= found


def test_parameters_make_a_good_form(deployed: str) -> None:
    """Choices are choices, dates are dates, bounds are bounds, and every field explains itself."""

    async def schema() -> dict:
        async with get_client() as client:
            found = await client.read_deployment_by_name("research/adhoc")
            return found.parameter_openapi_schema or {}

    found = asyncio.run(schema())
    fields = found["properties"]
    assert "1m" in fields["interval"]["enum"]
    assert set(fields["strategy"]["enum"]) >= {"ma_crossover", "volume_pressure"}
    assert fields["start"]["format"] == "date"
    assert fields["symbols"]["minItems"] == 1
    assert all(field.get("description") for field in fields.values())


async def test_a_wrong_parameter_is_refused_with_the_choices(deployed: str) -> None:
    """The server says which field is wrong before anything runs."""
    async with get_client() as client:
        research = await client.read_deployment_by_name("research/adhoc")
        with pytest.raises(PrefectHTTPStatusError) as refused:
            await client.create_flow_run_from_deployment(research.id, parameters={"interval": "7m"})
    assert "'7m' is not one of" in refused.value.response.text
