"""The operations examples stay true: their schemas, and every command, setting, path and name in them."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_valid_setting_names

from flows.cli import FLOWS, app
from flows.settings import Settings
from flows.tidy import POOL

EXAMPLES = Path(__file__).parents[2] / "examples"
UNITS = sorted((EXAMPLES / "systemd").glob("*.service"))
COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLES / "docker" / "compose.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLES / "kubernetes" / "klinehouse.yaml").read_text()))
TEMPLATE: dict[str, Any] = json.loads((EXAMPLES / "kubernetes" / "base-job-template.json").read_text())

#: Variables of others: the units' own list of symbols, Numba's cache, telemetry, the database's image.
OTHERS = {"SYMBOLS", "NUMBA_CACHE_DIR", "DO_NOT_TRACK", "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}


def _known(name: str) -> bool:
    """Return whether a variable is a setting of ours, of Prefect's, or on the list of others."""
    if name.startswith("KLINEHOUSE_"):
        return name.removeprefix("KLINEHOUSE_").lower() in Settings.model_fields
    return name in OTHERS or name in _get_valid_setting_names(PrefectSettings)


@cache
def _help(*command: str) -> str:
    """Return what Prefect says of one of its commands."""
    words = [sys.executable, "-m", "prefect", *command, "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _check_command(words: list[str]) -> None:
    """Assert that a command line is one of ours or Prefect's, with options that it has."""
    program, *rest = words
    if Path(program).name == "klinehouse":
        assert rest[0] in {*FLOWS, *app}, words
    elif Path(program).name == "prefect":
        command = [word for word in rest if not word.startswith("-")][:2]
        for option in (word for word in rest if word.startswith("--")):
            assert option in _help(*command), (option, words)
    else:
        assert program in ("sh", "python"), words


def _environment(path: Path) -> Iterator[str]:
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.partition("=")[0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """With the programs in place `systemd-analyze verify` has nothing to say: no key is misspelt."""
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/klinehouse/.venv/bin/", f"{tmp_path}/"))
    for name in ("klinehouse", "prefect"):
        (tmp_path / name).symlink_to("/bin/true")
    command = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_units_run_what_exists() -> None:
    """Every command is one that we or Prefect have, in the folders that the environment file names."""
    for unit in UNITS:
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(unit)
        assert parser["Service"]["EnvironmentFile"] == "/etc/klinehouse/environment"
        for line in re.findall(r"^ExecStart(?:Pre)?=(.+)$", unit.read_text(), re.MULTILINE):
            _check_command(shlex.split(line))
    live = (EXAMPLES / "systemd" / "klinehouse-live.service").read_text()
    assert "KillMode=mixed" in live
    assert "TimeoutStopSec=60" in live


def test_every_variable_is_a_setting() -> None:
    """A misspelt variable would be ignored in silence, by us and by Prefect."""
    names = set(_environment(EXAMPLES / "systemd" / "environment"))
    for service in COMPOSE["services"].values():
        names |= set(service.get("environment", {}))
    for manifest in MANIFESTS:
        names |= set(manifest.get("data", {}))
    names |= set(re.findall(r"\b([A-Z][A-Z_]+)=", (EXAMPLES / "docker" / "Dockerfile").read_text()))
    assert [name for name in sorted(names) if not _known(name)] == []


def test_the_compose_file_keeps_the_specification() -> None:
    """Validated by the schema of the Compose specification."""
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", str(EXAMPLES / "docker" / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_containers_run_what_exists() -> None:
    """Commands, volumes and dependencies are there; the server is reached from this machine alone."""
    services = COMPOSE["services"]
    for name, service in services.items():
        if "command" in service:
            words = service["command"]
            for line in (
                [words]
                if words[0] != "sh"
                else [shlex.split(one.removeprefix(" exec ")) for one in words[2].split("&&")]
            ):
                _check_command(line)
        assert set(service.get("depends_on", {})) <= set(services), name
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(COMPOSE["volumes"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    copied = re.findall(r"^COPY (.+) \S+$", (EXAMPLES / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    for path in " ".join(copied).split():
        assert (EXAMPLES.parent / path).exists(), path


def test_the_manifests_fit_together() -> None:
    """Selectors find their pods, what is mounted is claimed, commands exist, and there is never a second live pod."""
    claims = {one["metadata"]["name"] for one in MANIFESTS if one["kind"] == "PersistentVolumeClaim"}
    deployments = {one["metadata"]["name"]: one["spec"] for one in MANIFESTS if one["kind"] == "Deployment"}
    for spec in deployments.values():
        pod = spec["template"]["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        volumes = {one["name"]: one["persistentVolumeClaim"]["claimName"] for one in pod.get("volumes", [])}
        assert set(volumes.values()) <= claims
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= set(volumes)
            _check_command(container["command"])
    live = deployments["klinehouse-live"]
    assert (live["replicas"], live["strategy"]["type"]) == (1, "Recreate")
    assert POOL in deployments["klinehouse-worker"]["template"]["spec"]["containers"][0]["command"]


def test_the_job_template_has_every_variable_it_uses() -> None:
    """Each placeholder of the job is a variable with a default or a value of Prefect's, and the key is a secret's."""
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(TEMPLATE["job_configuration"])))
    assert used <= set(TEMPLATE["variables"]["properties"])
    (container,) = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"]
    assert {"secretRef": {"name": "klinehouse"}} in container["envFrom"]
    assert "KLINEHOUSE_API_KEY" not in json.dumps([TEMPLATE, *MANIFESTS])
