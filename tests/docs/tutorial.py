"""Runs the tutorial as a person would, command by command.

`make docs` calls it. Not collected by the suite (its name does not begin with ``test_``): it takes a minute.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, console

#: What a run leaves in the folder, and must not be shared with the checkout.
OWN = {".git", ".prefect", ".klinehouse", "data", "reports", "site", ".env"}


@pytest.mark.timeout(900)
def test_the_tutorial_runs_as_it_is_printed(tmp_path: Path) -> None:
    """Every command succeeds in one shell, the second backfill asks for nothing, and a report is there at the end."""
    for entry in ROOT.iterdir():
        if entry.name not in OWN:
            (tmp_path / entry.name).symlink_to(entry)
    commands = console(ROOT / "docs" / "tutorial.md")
    assert len(commands) > 10
    shell = "\n".join(["set -euo pipefail", *(f'echo "@ {number}"\n{one}' for number, one in enumerate(commands))])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "KLINEHOUSE_"))}
    done = subprocess.run(
        ["bash", "-c", shell],
        cwd=tmp_path,
        env=kept | {"PREFECT_SERVER_API_PORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.rsplit("@ ", 1)[-1]
    assert done.returncode == 0, f"command {last}\n{done.stderr[-3000:]}"
    outputs = dict(enumerate(done.stdout.split("@ ")[1:]))
    third = [number for number, one in enumerate(commands) if one.startswith("klinehouse backfill")][2]
    rows = [
        line.strip("│").split() for line in outputs[third].replace(" │ ", "  ").splitlines() if line.startswith("│")
    ]
    assert [(row[0], row[2], row[-1]) for row in rows] == [("BTCUSDT", "0", "0"), ("ETHUSDT", "0", "0")]
    assert list((tmp_path / "reports").glob("BTCUSDT-1h-volume_pressure-*.html"))
