"""The fifteen controls as the pages tell them: each with its default, its fail mode, its code and its tests."""

from __future__ import annotations

import re
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import pytest

from tasks.orders.account import Limits

ROOT = Path(__file__).parent.parent.parent
_CONTROL = re.compile(r"^\| (\d+) [^|]*\|.*\|$", re.MULTILINE)


def table(page: str) -> list[list[str]]:
    """Return the cells of a page's rows that begin with a control's number."""
    rows = _CONTROL.finditer((ROOT / "docs" / page).read_text(encoding="utf-8"))
    return [[cell.strip() for cell in row.group().strip("|").split("|")] for row in rows]


@pytest.mark.parametrize("page", ["live.md", "orders.md"])
def test_there_are_fifteen(page: str) -> None:
    """Both tables have every control once, in order, with no empty cell, and code that exists."""
    rows = table(page)
    assert [int(row[0].split()[0]) for row in rows] == list(range(1, 16))
    assert all(all(row) for row in rows)
    for row in rows:
        paths = re.findall(r"`((?:flows|tasks)/[\w/.]+)`", " ".join(row))
        assert paths or "`risk." in row[1], row
        assert all((ROOT / path).exists() for path in paths), row


def test_every_fail_mode_is_one_of_four() -> None:
    """An order is denied, everything is halted or only reduces, or the start is refused."""
    words = ("denied", "halted", "reducing until the day ends", "start refused")
    assert all(any(word in row[2] for word in words) for row in table("live.md"))


def test_defaults_are_those_of_the_code() -> None:
    """Every limit is named on the page with the figure that it has where nobody sets it."""
    said = " ".join(row[1] for row in table("live.md"))
    for limit in fields(Limits):
        value = getattr(Limits(), limit.name)
        name = "…orders_per_minute" if limit.name.endswith("orders_per_minute") else limit.name
        assert f"`{name}" in said, limit.name
        shown = f"{value * 100:f}".rstrip("0").rstrip(".") + " %" if 0 < value < 1 else f"{Decimal(value):f}"
        assert re.search(rf"\b{re.escape(shown)}(?!\d)", said), (limit.name, shown)


def test_every_test_exists() -> None:
    """Each control names a test file that exists, and each test by name is in one of them."""
    known = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    for row in table("orders.md")[:15]:
        files, names = re.findall(r"(\w+\.py)", row[2]), re.findall(r"\b(test_\w+)\b(?!\.py)", row[2])
        assert files or names or row[2].startswith("the same"), row
        assert all(name in known for name in files), row
        assert all(any(f"def {name}(" in text for text in known.values()) for name in names), row
