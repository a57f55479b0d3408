"""The wheel holds all that runs, and works in an environment that has nothing else."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("flows", "tasks", "lake")
#: Interpreters to install the wheel for, as `make wheel-check` names them; none for the suite, since it takes minutes.
PYTHONS = os.environ.get("KLINEHOUSE_WHEEL_PYTHONS", "").split()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_rooms(wheel: Path) -> None:
    """Templates, pages, style sheets and schemas are in it like the modules, and nothing outside the rooms is."""
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(["git", "ls-files", *ROOMS], cwd=ROOT, check=True, capture_output=True, text=True)
    present = {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    assert present - held == set()
    assert {name.partition("/")[0] for name in held} == set(ROOMS)
    assert not [name for name in held if "__pycache__" in name or name.endswith((".nbi", ".nbc"))]
    assert zipfile.ZipFile(wheel).read("flows/prefect.yaml") == (ROOT / "prefect.yaml").read_bytes()


def test_the_wheel_names_the_command_and_the_licence(wheel: Path) -> None:
    """An installed wheel has `klinehouse`, the licence, and the Python versions that it was tried on."""
    archive = zipfile.ZipFile(wheel)
    told = {
        name.rsplit(".dist-info/")[1]: archive.read(name).decode() for name in archive.namelist() if "-info/" in name
    }
    assert "klinehouse = flows.cli:main" in told["entry_points.txt"]
    assert "Requires-Python: <3.14,>=3.11" in told["METADATA"]
    assert any(name.startswith("licenses/") for name in told)


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("python", PYTHONS or [pytest.param("", marks=pytest.mark.skip(reason="make wheel-check"))])
def test_the_wheel_works_alone(wheel: Path, tmp_path: Path, python: str) -> None:
    """With nothing but the wheel and what it asks for, the doctor is green, research runs, and schedules are served."""
    uv, home = ROOT / ".venv" / "bin" / "uv", tmp_path / "env"
    _run(tmp_path, uv, "venv", "--quiet", "--python", python, home)
    _run(tmp_path, uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", home / "bin" / "python", wheel)
    program = home / "bin" / "klinehouse"
    print(_run(tmp_path, home / "bin" / "python", "--version"))
    told = _run(tmp_path, program, "doctor")
    assert "fail" not in told, told
    days = ("BTCUSDT", "--interval", "1h", "--start", "2025-01-01", "--end", "2025-04-01", "--no-orchestration")
    grid = ("--grid.fast", "5", "10", "--grid.slow", "20", "40")
    assert "reports/BTCUSDT-1h-ma_crossover" in _run(tmp_path, program, "research", *days, *grid)
    _serve(tmp_path, program)
    with sqlite3.connect(tmp_path / ".prefect" / "prefect.db") as database:
        scheduled = database.execute("SELECT count(*) FROM deployment_schedule WHERE active").fetchone()
    assert scheduled[0] == len(re.findall("slug:", (ROOT / "prefect.yaml").read_text()))


def _serve(folder: Path, program: Path) -> None:
    """Let `klinehouse serve` bring its worker up, and end it as Ctrl-C does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    environment = _environment(folder) | {"PREFECT_API_URL": url}
    with subprocess.Popen([program, "serve"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as served:
        assert served.stderr is not None
        told = []
        for line in served.stderr:
            told.append(line)
            if line.startswith("worker |") and "started!" in line:
                served.send_signal(signal.SIGINT)
    assert served.returncode == 0, "".join(told)[-3_000:]


def _environment(folder: Path) -> dict[str, str]:
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("KLINEHOUSE_", "PREFECT_", "VIRTUAL"))
    }
    given = {
        "KLINEHOUSE_MARKET": "simulator",
        "KLINEHOUSE_PLAN": "enterprise",
        "PREFECT_HOME": str(folder / ".prefect"),
    }
    return kept | given


def _run(folder: Path, *words: object) -> str:
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    return done.stdout + done.stderr
