"""The documentation names nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.cli import FLOWS, app
from tests.docs.pages import PAGES, ROOT, anchors, commands, console, files, links, make_targets

each_page = pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])

#: A page that invents the file it teaches to write.
INVENTED = {"docs/strategies.md": {"tasks/strategies/gap_fade.py"}}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Each link between pages leads to a file that exists, and to a heading of it."""
    for target, anchor in links(page):
        assert target.exists(), f"{page}: no {target}"
        assert not anchor or anchor in anchors(target), (
            f"{page}: no #{anchor} in {target}; it has {sorted(anchors(target))}"
        )


@each_page
def test_commands_exist(page: Path) -> None:
    """Each `klinehouse` command and each make target that a person is told to run exists."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert make_targets(page) <= targets
    assert commands(page) <= {*FLOWS, *app}


@each_page
def test_named_files_exist(page: Path) -> None:
    """Each file of the project that a page names in code marks exists."""
    if page.name == "CHANGELOG.md":
        pytest.skip("a changelog names files that are gone")
    invented = INVENTED.get(page.relative_to(ROOT).as_posix(), set())
    assert {name for name in files(page) - invented if not (ROOT / name).exists()} == set()


def test_every_page_is_reached_from_the_first() -> None:
    """Nobody has to guess an address: each page of docs/ is linked from index.md, or is a decision record."""
    reached = {target for target, _ in links(ROOT / "docs" / "index.md")}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs") and page.parent.name != "decisions"}
    assert pages - reached - {ROOT / "docs" / "index.md"} == set()


def test_the_parts_a_page_is_taken_into(tmp_path: Path) -> None:
    """Links, anchors, commands and files are found where they are, and not inside other languages' blocks."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A `word`: two\nsee [there](other.md#part-one), `make docs`, `klinehouse sql`, `tasks/errors.py`\n"
        "```console\n$ klinehouse status --days 3   # why\nmake nothing\n```\n```python\nx[0](y)\n```\n"
    )
    assert list(links(page)) == [(tmp_path / "other.md", "part-one")]
    assert anchors(page) == {"a-word-two"}
    assert console(page) == ["klinehouse status --days 3"]
    assert commands(page) == {"sql", "status"}
    assert make_targets(page) == {"docs"}
    assert files(page) == {"tasks/errors.py"}
