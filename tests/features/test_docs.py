"""The features page lists what the registry holds."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.features.registry import FEATURES

PAGE = Path(__file__).parents[2] / "docs" / "features.md"


def table() -> str:
    """Return the registry as the page's table."""
    lines = ["| feature | unit | warm-up, bars | formula | source |", "|---|---|---|---|---|"]
    for item in FEATURES.values():
        warm_up = f"{item.warm_up}" + (f" and {item.days} days" if item.days else "")
        formula = item.formula.replace("|", "\\|")
        lines.append(f"| `{item.name}` | {item.unit} | {warm_up} | {formula} | {item.source} |")
    return "\n".join(lines)


def test_the_page_shows_the_registry() -> None:
    """Name, unit, warm-up, formula and source of every feature; the failure prints the table to paste."""
    found = re.search(r"<!-- table -->\n(.*)\n<!-- /table -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1] == table(), f"docs/features.md: replace the table by\n{table()}"
