"""What the documentation says, taken apart: links, anchors, blocks, commands, files and variables that its pages name.

A block is run or parsed by `make docs`. One that may not be has a line before it that says why::

    <!-- not run: it asks a real exchange -->
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]*?) -->\n+)?^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_MAKE = re.compile(r"(?:^|\s)make ([a-z][a-z-]*)")
_COMMAND = re.compile(r"(?:^|\s)klinehouse ([a-z][a-z-]*)")
_CONTINUED = re.compile(r" *\\\n(?:> )? *")
_VARIABLE = re.compile(r"\b(?:KLINEHOUSE|PREFECT)_[A-Z][A-Z_]*[A-Z]\b")
_FILE = re.compile(r"(?:flows|tasks|lake|tests|benchmarks|docs|examples)/[\w./-]*\w\.(?:py|md|toml|yaml|sql)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: Line on which its text begins.
        kind: The word after the fence; empty for what a program printed.
        text: Without the fences.
        reason: Why it is not run, empty where it is.
    """

    line: int
    kind: str
    text: str
    reason: str = ""


def blocks(page: Path, *kinds: str) -> list[Block]:
    """Return a page's blocks of these kinds, all where none is named, in their order."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(text.count("\n", 0, one.start("text")) + 1, one["kind"].strip(), one["text"], one["reason"] or "")
        for one in _BLOCK.finditer(text)
    ]
    return [block for block in found if not kinds or block.kind in kinds]


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


def outside_links(page: Path) -> set[str]:
    """Return the addresses of other sites that a page links to."""
    return {target for target in _LINK.findall(_prose(page)) if "://" in target}


def console(page: Path, *, run: bool = False) -> list[str]:
    """Return the commands after a prompt in a page's blocks, in their order; with `run`, only those that may be run."""
    lines = (
        line
        for block in blocks(page, "console", "")
        if not (run and block.reason)
        for line in _CONTINUED.sub(" ", block.text).splitlines()
    )
    return [line.removeprefix("$ ").partition("   #")[0].strip() for line in lines if line.startswith("$ ")]


def variables(page: Path) -> set[str]:
    """Return the environment variables of ours and of Prefect that a page names."""
    return set(_VARIABLE.findall(page.read_text(encoding="utf-8")))


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
