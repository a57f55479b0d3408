"""What `prefect.yaml` must say that Prefect itself lets pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig

ROOT = Path(__file__).parents[2]
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]

every_deployment = pytest.mark.parametrize(
    "entry", DEPLOYMENTS, ids=[f"{entry['entrypoint'].rsplit(':')[-1]}/{entry['name']}" for entry in DEPLOYMENTS]
)


@every_deployment
def test_a_misspelt_key_is_found(entry: dict[str, Any]) -> None:
    """Prefect ignores keys of a deployment that it does not know; we do not."""
    assert set(entry) <= set(DeploymentConfig.model_fields)


@every_deployment
def test_schedules_survive_a_redeploy_and_a_downtime(entry: dict[str, Any]) -> None:
    """A slug keeps a redeploy from doubling a schedule, CANCEL_NEW keeps late runs from starting all at once."""
    for schedule in entry["schedules"]:
        assert schedule["slug"]
        assert schedule["timezone"] == "UTC"
        assert entry["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


@every_deployment
def test_the_live_flow_is_no_deployment_of_a_worker(entry: dict[str, Any]) -> None:
    """A process worker would kill it without letting it clean up."""
    assert not entry["entrypoint"].startswith("flows/live")
    assert (ROOT / entry["entrypoint"].split(":")[0]).is_file()
