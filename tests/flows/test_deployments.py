"""What `prefect.yaml` must say that Prefect itself lets pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.cli.deploy._models import DeploymentConfig
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from flows.automations import JUDGE
from flows.deploy import schedules_file
from flows.live import live

ROOT = Path(__file__).parents[2]
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]

FLOWS: dict[str, Any] = {entry["entrypoint"]: load_flow_from_entrypoint(entry["entrypoint"]) for entry in DEPLOYMENTS}

every_deployment = pytest.mark.parametrize(
    "entry", DEPLOYMENTS, ids=[f"{entry['entrypoint'].rsplit(':')[-1]}/{entry['name']}" for entry in DEPLOYMENTS]
)


@every_deployment
def test_a_misspelt_key_is_found(entry: dict[str, Any]) -> None:
    """Prefect ignores keys of a deployment that it does not know; we do not."""
    assert set(entry) <= set(DeploymentConfig.model_fields)


@every_deployment
def test_schedules_survive_a_redeploy_and_a_downtime(entry: dict[str, Any]) -> None:
    """A slug keeps a redeploy from doubling a schedule; one run at a time keeps late runs from starting all at once."""
    for schedule in entry["schedules"]:
        assert schedule["slug"]
        assert schedule["timezone"] == "UTC"
        limit = entry["concurrency_limit"]
        assert limit["limit"] == 1
        with_own_parameters = any("parameters" in one for one in entry["schedules"])
        assert limit["collision_strategy"] == ("ENQUEUE" if with_own_parameters else "CANCEL_NEW")


@every_deployment
def test_the_live_flow_is_no_deployment_of_a_worker(entry: dict[str, Any]) -> None:
    """A process worker would kill it without letting it clean up."""
    assert not entry["entrypoint"].startswith("flows.live")


@every_deployment
def test_no_flow_retries_under_a_limit(entry: dict[str, Any]) -> None:
    """Prefect crashes a flow that retries under a deployment's limit; tasks retry instead."""
    assert not FLOWS[entry["entrypoint"]].retries


#: Texts that a person writes freely, or that are checked against something outside of the form.
FREE = {"reason", "released_by", "i_accept_live", "allow_non_idempotent", "storage"}


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field of a form with its choices or bounds, inside lists, optional ones and models too."""
    models = schema.get("definitions", {})
    for name, field in [
        *schema["properties"].items(),
        *((key, one) for model in models.values() for key, one in model["properties"].items()),
    ]:
        for option in field.get("anyOf", [field]):
            inner = option.get("items", option)
            yield name, inner


@pytest.mark.parametrize("flow", [*FLOWS.values(), live], ids=lambda flow: flow.name)
def test_every_parameter_is_a_good_field(flow: Flow[Any, Any]) -> None:
    """Each explains itself and has a type; texts are choices, dates or patterns, and numbers have an end to them."""
    schema = parameter_schema(flow).model_dump()
    for name, field in schema["properties"].items():
        assert field.get("description"), name
        # Prefect's second UI has nothing to type a dictionary into where the parameter may be None as well.
        assert "object" not in [option.get("type") for option in field.get("anyOf", [])], name
    for model in schema.get("definitions", {}).values():
        assert model.get("description") or model.get("enum"), model
        for name, field in model.get("properties", {}).items():
            assert field.get("description"), f"{model['title']}.{name}"
    for name, field in _fields(schema):
        kind = field.get("type")
        if kind == "string" and name not in FREE:
            assert set(field) & {"enum", "format", "pattern", "minLength"}, (name, field)
        elif kind in ("integer", "number"):
            assert set(field) & {"enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}, (name, field)


def test_a_folders_own_schedules_go_before_those_that_were_installed(tmp_path: Path) -> None:
    """`klinehouse serve` works in an empty folder, and a prefect.yaml beside the data changes what runs."""
    assert schedules_file(tmp_path).samefile(ROOT / "prefect.yaml")
    (tmp_path / "prefect.yaml").write_text("deployments: []")
    assert schedules_file(tmp_path) == tmp_path / "prefect.yaml"


@every_deployment
def test_parameters_of_a_deployment_are_taken_by_its_flow(entry: dict[str, Any]) -> None:
    """What prefect.yaml and each schedule set is accepted by the flow itself: a typo fails here, not at night."""
    flow = FLOWS[entry["entrypoint"]]
    given = entry.get("parameters", {})
    for schedule in entry["schedules"] or [{}]:
        merged = given | schedule.get("parameters", {})
        assert set(merged) <= set(flow.parameters.properties)
        if set(flow.parameters.required or ()) <= set(merged):
            flow.validate_parameters(merged)


def test_what_the_issue_of_a_day_needs_is_scheduled() -> None:
    """Hourly and nightly bars, quality by event, features, weekly sweeps, maintenance; slugs are used once."""
    named = {f"{FLOWS[entry['entrypoint']].name}/{entry['name']}": entry for entry in DEPLOYMENTS}
    assert len(named) == len(DEPLOYMENTS)
    for name in ("backfill/hourly", "backfill/nightly", "features/nightly", "sweep/weekly", "maintain/weekly"):
        assert named[name]["schedules"], name
    assert JUDGE in named
    for entry in DEPLOYMENTS:
        slugs = [schedule["slug"] for schedule in entry["schedules"]]
        assert len(slugs) == len(set(slugs))
        assert entry["description"]
        assert "klinehouse" in entry["tags"]
