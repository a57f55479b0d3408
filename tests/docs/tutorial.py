"""Runs the tutorial as a person would, command by command, and parses the commands of every other page.

`make docs` calls it. Not collected by the suite (its name does not begin with ``test_``): it takes a minute.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App, Parameter

from flows.cli import FLOWS, app, command
from tests.docs.pages import PAGES, ROOT, console

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


def _console_commands(program: str) -> list[list[str]]:
    lines = {line for page in PAGES for line in console(page) if line.startswith(f"{program} ")}
    return [shlex.split(line)[1:] for line in sorted(lines)]


@pytest.mark.parametrize("words", _console_commands("klinehouse"), ids=" ".join)
def test_every_command_line_is_understood(words: list[str]) -> None:
    """The command line of every page takes each option and value that the page gives it."""
    parser = App()
    parser.default_parameter = Parameter(consume_multiple=True, negative_iterable=())
    parser.command(command(words[0]) if words[0] in FLOWS else app[words[0]], name=words[0])
    parser.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("words", _console_commands("prefect"), ids=" ".join)
def test_every_prefect_command_is_there(words: list[str]) -> None:
    """Prefect has each subcommand that a page uses, with each option."""
    path = [word for word in words if word.isalpha() or word == "work-pool"][: 1 if "deploy" in words else 2]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *path, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    options = {word for word in words if word.startswith("--")} - {"--no-prompt"}
    assert {option for option in options if option not in done.stdout} == set()
