"""The page of forty-three failures of other traders is true: each row names tests, and they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_ROW = re.compile(
    r"^\| (?P<number>\d+) \| (?P<report>.+?) \| (?P<there>.+?) \| (?P<here>.+?) \| (?P<tests>.+) \|$", re.MULTILINE
)

#: Number, where it was reported, and the tests that fail if it could happen here.
ROWS = [
    (int(row["number"]), row["report"], tuple(re.findall(r"`([^`]+)`", row["tests"])))
    for row in _ROW.finditer((ROOT / "docs/explain/peers.md").read_text(encoding="utf-8"))
]


@cache
def _tests(path: str) -> frozenset[str]:
    """Return every test in a file."""
    nodes = ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    found = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(name for name in found if name.startswith("test_"))


def test_every_reported_failure_is_listed() -> None:
    """The page is as long as the record of design says, and no report stands in two rows."""
    assert [number for number, _, _ in ROWS] == list(range(1, 44))
    assert len({report for _, report, _ in ROWS}) == 43


@pytest.mark.parametrize(("number", "report", "tests"), ROWS)
def test_a_test_stands_against_it(number: int, report: str, tests: tuple[str, ...]) -> None:
    """The tests that keep us from a failure of others exist."""
    assert tests
    for test in tests:
        path, name = test.split("::")
        assert name in _tests(path), f"{test} is gone: what keeps us from {report} (row {number}) now?"
