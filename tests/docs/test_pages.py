"""The documentation names nothing that is not there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.cli import FLOWS, app
from tests.docs.navigation import on_config
from tests.docs.pages import (
    PAGES,
    ROOT,
    Block,
    anchors,
    blocks,
    commands,
    console,
    files,
    links,
    make_targets,
    outside_links,
    variables,
)

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
def test_links_to_other_sites_are_whole(page: Path) -> None:
    """Each link to another site is encrypted and names a host; whether it answers is not for an offline test."""
    for target in outside_links(page):
        assert re.fullmatch(r"https://[\w.-]+\.[a-z]{2,}(/[^\s)]*)?", target), f"{page}: {target}"


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


def test_no_page_is_left_out_of_the_site(tmp_path: Path) -> None:
    """A page that mkdocs.yml does not name follows in the section of its folder, once."""
    for name in ("index.md", "orders.md", "howto/release.md", "howto/new.md", "decisions/0001-rooms.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    nav = [{"Home": "index.md"}, {"How to": [{"Release": "howto/release.md"}]}]
    assert on_config(SimpleNamespace(docs_dir=str(tmp_path), nav=nav)).nav == [
        {"Home": "index.md"},
        {"How to": [{"Release": "howto/release.md"}, "howto/new.md"]},
        {"Rooms": ["orders.md"]},
        {"Decision records": ["decisions/0001-rooms.md"]},
    ]


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


def test_a_block_that_is_not_run_says_why(tmp_path: Path) -> None:
    """A marker before a block gives its reason, and takes its commands out of those that are run; no other block's."""
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: it asks an exchange -->\n```console\n$ klinehouse sql\n```\n"
        "```console\n$ KLINEHOUSE_DASK=local make docs\n```\n```\nprinted\n```\n"
    )
    assert blocks(page) == [
        Block(3, "console", "$ klinehouse sql\n", "it asks an exchange"),
        Block(6, "console", "$ KLINEHOUSE_DASK=local make docs\n"),
        Block(9, "", "printed\n"),
    ]
    assert console(page) == ["klinehouse sql", "KLINEHOUSE_DASK=local make docs"]
    assert console(page, run=True) == ["KLINEHOUSE_DASK=local make docs"]
    assert variables(page) == {"KLINEHOUSE_DASK"}


def test_the_notebook_shows_what_it_does() -> None:
    """The example notebook is stored as run from top to bottom, with charts, without errors or somebody's folders."""
    text = (ROOT / "examples" / "research.ipynb").read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert not any(output["output_type"] == "error" for output in outputs)
    assert not re.search(r"/(home|root|tmp|Users)/", text)
