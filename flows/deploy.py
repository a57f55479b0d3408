"""``klinehouse deploy``: the work pool, every deployment of prefect.yaml and every automation, on the server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, get_current_settings

from flows.adhoc import is_healthy
from flows.automations import apply
from flows.tidy import POOL
from tasks.errors import ConfigurationError

#: Prefect's command line, in this interpreter's environment.
PREFECT = (sys.executable, "-m", "prefect")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


async def deploy(environment: Mapping[str, str], alert_block: str, kind: str = "process") -> list[str]:
    """Make sure of the work pool, deploy everything, apply the automations; what is there already is updated.

    Args:
        environment: Variables for Prefect's command line besides ours, such as PREFECT_API_URL.
        alert_block: Notification block that hears of trouble; empty for none.
        kind: Type of the work pool where it has to be made: process, kubernetes, docker.

    Returns:
        The automations by name.

    Raises:
        ConfigurationError: Prefect refused, and the message is what it printed.
    """
    schedules = schedules_file(Path.cwd())
    print(f"Deploying {schedules}: what runs when, and for which symbols", file=sys.stderr)
    async with get_client() as client:
        try:
            await client.read_work_pool(POOL)
        except ObjectNotFound:
            _prefect(environment, "work-pool", "create", POOL, "--type", kind)
        # Runs work in this folder, also where no shell has set PWD, as under systemd.
        here = {**environment, "PWD": str(Path.cwd())}
        _prefect(here, "deploy", "--all", "--prefect-file", str(schedules))
        return await apply(client, alert_block)


def schedules_file(folder: Path) -> Path:
    """Return the folder's own prefect.yaml, or the one that came with the platform: in the wheel, or the checkout."""
    code = Path(__file__).parent
    return next(path for path in (folder, code, code.parent) if (path / "prefect.yaml").is_file()) / "prefect.yaml"


def server_url() -> str:
    """Return the address of Prefect's API: the configured one, or this machine's, which may not run yet.

    Raises:
        ConfigurationError: It is another machine's, and nothing answers there.
    """
    url = PREFECT_API_URL.value() or f"http://127.0.0.1:{get_current_settings().server.api.port}/api"
    return url if urlsplit(url).hostname in LOOPBACK else _answering(url)


def running_server_url() -> str:
    """Return the same address where a server answers.

    Raises:
        ConfigurationError: None does.
    """
    return _answering(server_url())


def _answering(url: str) -> str:
    if not is_healthy(url):
        raise ConfigurationError(
            f"Prefect server: expected an answer at {url}, found none; start it (`klinehouse serve`, or `prefect "
            "server start`), or correct PREFECT_API_URL"
        )
    return url


def _prefect(environment: Mapping[str, str], *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603  (our own command line)
        [*PREFECT, "--no-prompt", *arguments], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ConfigurationError(f"prefect {' '.join(arguments)}: {(done.stdout + done.stderr)[-800:]}")
