"""Hook of the documentation site: pages that mkdocs.yml does not name follow by folder, so that none is forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Folder of docs/ → section of the site in which its remaining pages stand.
SECTIONS = {"": "Rooms", "howto": "How to", "explain": "Why it works", "decisions": "Decision records"}


def on_config(config: Any) -> Any:
    """Add the pages that the navigation does not name to the section of their folder."""
    docs = Path(config.docs_dir)
    named = set(_named(config.nav))
    for folder, section in SECTIONS.items():
        pages = [path.relative_to(docs).as_posix() for path in sorted((docs / folder).glob("*.md"))]
        rest = [page for page in pages if page not in named]
        found = next((entry[section] for entry in config.nav if section in entry), None)
        if found is not None:
            found.extend(rest)
        elif rest:
            config.nav.append({section: rest})
    return config


def _named(entries: Any) -> list[str]:
    if isinstance(entries, str):
        return [entries]
    parts = entries.values() if isinstance(entries, dict) else entries
    return [page for part in parts for page in _named(part)]
