"""What the documentation says, taken apart: links, anchors, commands and files that its pages name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_MAKE = re.compile(r"(?:^|\s)make ([a-z][a-z-]*)")
_COMMAND = re.compile(r"(?:^|\s)klinehouse ([a-z][a-z-]*)")
_FILE = re.compile(r"(?:flows|tasks|lake|tests|benchmarks|docs|examples)/[\w./-]*\w\.(?:py|md|toml|yaml|sql)")


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield file and anchor of every link that leads to a page of ours."""
    for target in _LINK.findall(_prose(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        yield (page.parent / path if path else page).resolve(), anchor


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as the site makes them."""
    return frozenset(_slug(heading) for heading in _HEADING.findall(_prose(page)))


def console(page: Path) -> list[str]:
    """Return the commands of a page's console blocks, in their order."""
    blocks = (text for kind, text in _FENCE.findall(page.read_text(encoding="utf-8")) if kind == "console")
    lines = (line for block in blocks for line in block.splitlines())
    return [line.removeprefix("$ ").partition("   #")[0].strip() for line in lines if line.startswith("$ ")]


def make_targets(page: Path) -> set[str]:
    """Return the make targets that a page tells a person to run."""
    return {name for code in _codes(page) for name in _MAKE.findall(code)}


def commands(page: Path) -> set[str]:
    """Return the commands of `klinehouse` that a page tells a person to run."""
    return {name for code in _codes(page) for name in _COMMAND.findall(code)}


def files(page: Path) -> set[str]:
    """Return the files of the project that a page names in code marks."""
    return {name for code in _CODE.findall(_prose(page)) for name in _FILE.findall(code) if code.startswith(name)}


def _codes(page: Path) -> list[str]:
    return [*_CODE.findall(_prose(page)), *console(page)]


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _slug(heading: str) -> str:
    plain = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading)).strip().lower()
    return re.sub(r"[-\s]+", "-", plain)
