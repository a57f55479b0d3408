"""The floor plan of docs/decisions/0001-rooms.md, kept by reading every import with `ast`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Which other rooms a room may import.
ALLOWED_ROOMS = {
    "exchange": set(),
    "quality": set(),
    "features": set(),
    "strategies": {"features"},
    "sweep": {"strategies", "features"},
    "report": {"sweep"},
    "stream": set(),
    "orders": set(),
    "broker": {"orders", "stream.messages", "exchange.limiter"},
    "journal": {"orders"},
    "control": set(),
    "simulator": set(),
}

#: Heavy libraries and the only places that may import them.
DOORS = {
    "prefect": ("flows/", "tasks/*/task.py"),
    "aiohttp": (
        "tasks/exchange/client.py",
        "tasks/stream/socket.py",
        "tasks/simulator/",
        "tasks/control/",
        "tasks/broker/",
    ),
    "numba": (
        "tasks/features/kernels.py",
        "tasks/features/kernels/",
        "tasks/exchange/rows.py",
        "tasks/strategies/",
        "tasks/sweep/engine/",
        "tasks/sweep/events.py",
    ),
    "vectorbt": ("tasks/sweep/run.py", "tasks/sweep/events.py", "tasks/sweep/portfolio/rebalance.py", "tasks/report/"),
    "skfolio": ("tasks/sweep/portfolio/weights.py",),
    "great_expectations": ("tasks/quality/suite.py", "tasks/quality/docs.py"),
    "deltalake": ("lake/",),
    "duckdb": ("lake/",),
    "pyarrow": ("lake/",),
    "ccxt": ("tasks/exchange/ccxt_source.py", "tasks/broker/ccxt.py"),
}

MAX_LINES = 400


def _files() -> list[Path]:
    return sorted(path for top in ("flows", "tasks", "lake") for path in (ROOT / top).rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: use absolute imports"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", _files(), ids=_relative)
def test_every_import_goes_the_right_way(path: Path) -> None:
    """A room imports `tasks.errors`, the lake, and the rooms the plan names; the lake imports only errors."""
    parts = path.relative_to(ROOT).parts
    for name in _imports(path):
        if parts[0] != "flows":
            assert not name.startswith("flows"), f"{_relative(path)} imports {name}: only flows may"
        if not name.startswith("tasks.") or name.startswith("tasks.errors"):
            continue
        if parts[0] == "lake":
            pytest.fail(f"{_relative(path)} imports {name}: the lake imports nothing of ours but tasks.errors")
        if parts[0] == "tasks" and len(parts) > 2:
            target = name.removeprefix("tasks.")
            room, allowed = parts[1], ALLOWED_ROOMS[parts[1]]
            inside = target.split(".")[0] == room
            assert inside or any(target == a or target.startswith(f"{a}.") for a in allowed), (
                f"{_relative(path)} imports {name}: {room} may import only {sorted(allowed) or 'no other room'}"
            )


@pytest.mark.parametrize("path", _files(), ids=_relative)
def test_heavy_libraries_have_one_door_each(path: Path) -> None:
    """Prefect, VectorBT and the like are imported only where the plan says."""
    for name in _imports(path):
        doors = DOORS.get(name.split(".")[0])
        if doors is not None:
            place = _relative(path)
            assert any(place.startswith(door) if "*" not in door else path.match(door) for door in doors), (
                f"{place} imports {name}: its door is {doors}"
            )


@pytest.mark.parametrize("path", _files(), ids=_relative)
def test_modules_stay_readable(path: Path) -> None:
    """No module grows past 400 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
