"""Runs or parses every block of every page; `make docs` calls it.

Python and SQL blocks run in one small world (`tests/docs/sandbox.py`), the Python blocks of a page one after the other
in one namespace. Not collected by the suite (its name does not begin with ``test_``): it takes a minute.
"""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from cyclopts import App, Parameter

from flows.cli import FLOWS, app, command
from tests.docs.pages import PAGES, ROOT, blocks, console, variables
from tests.docs.sandbox import Sandbox, sandbox

#: How a block of each kind is looked at; what a program printed has no kind.
PARSED = {
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "toml": tomllib.loads,
    "json": json.loads,
    "ini": lambda text: configparser.RawConfigParser(strict=False, allow_no_value=True).read_string(text),
}
KINDS = {"", "console", "python", "sql", *PARSED}
#: Programs other than ours that a page may tell a person to run, and why the command is parsed at most.
FOREIGN = {
    "source": "the shell's own",
    "export": "the shell's own",
    "curl": "asks what the command before it serves",
    "docker": "needs a daemon",
    "kubectl": "needs a cluster",
    "systemctl": "changes the machine",
    "sudo": "changes the machine",
    "cp": "changes the machine",
    "pip": "asks a registry; tests/test_packaging.py installs the wheel",
    "sqlite3": "a program that may not be there",
}
PROGRAMS = {"klinehouse", "prefect", "make", "python"}
QUERY = re.compile(r"""(?:klinehouse sql|python -m lake) (["'])(.+?)\1""")


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _pages_with(*kinds: str) -> list:
    return [pytest.param(page, id=_name(page)) for page in PAGES if blocks(page, *kinds)]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The small world, built once."""
    with sandbox(tmp_path_factory.mktemp("pages")) as built:
        yield built


@pytest.mark.parametrize("page", [pytest.param(page, id=_name(page)) for page in PAGES])
def test_every_block_is_of_a_kind_that_is_checked(page: Path) -> None:
    """No block escapes: each is run, parsed, or says why it is not."""
    for block in blocks(page):
        assert block.kind in KINDS or len(block.reason) > 10, f"{_name(page)}:{block.line}: what is {block.kind!r}?"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", _pages_with("python"))
def test_python_blocks_run(page: Path, world: Sandbox) -> None:
    """The Python blocks of a page run one after the other, with nothing but the names that every page is given."""
    module = ModuleType(f"page_{page.stem.replace('-', '_')}")
    module.__dict__.update(world.given)
    sys.modules[module.__name__] = module
    for block in blocks(page, "python"):
        path = world.folder / f"{module.__name__}_{block.line}.py"
        path.write_text(block.text, encoding="utf-8")
        code = compile(block.text, str(path), "exec")
        if not block.reason:
            exec(code, module.__dict__)  # noqa: S102 - the documentation's own code


def _queries() -> list:
    return list(_each_query())


def _each_query() -> Iterator:
    for page in PAGES:
        for block in blocks(page, "sql"):
            yield pytest.param(block.text, id=f"{_name(page)}:{block.line}")
        for number, line in enumerate(console(page)):
            if found := QUERY.match(line):
                yield pytest.param(found[2], id=f"{_name(page)}:{number}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("query", _queries())
def test_queries_answer(query: str, world: Sandbox) -> None:
    """Every SQL block, and every query of a command line, is answered by a real lake."""
    assert world.lake.sql(query).columns


@pytest.mark.parametrize("page", _pages_with(*PARSED))
def test_configuration_parses(page: Path) -> None:
    """Every block of configuration is what its kind says."""
    for block in blocks(page, *PARSED):
        assert PARSED[block.kind](block.text) != {}, f"{_name(page)}:{block.line} is empty"


@pytest.mark.parametrize("page", _pages_with("console", ""))
def test_every_command_is_of_a_program_that_is_known(page: Path) -> None:
    """Bash can read each line; it begins with a program of ours, or with one of which is said why it is not run."""
    for line in console(page):
        subprocess.run(["bash", "-n", "-c", line], check=True)
        first = next(word for word in shlex.split(line) if "=" not in word)
        assert first in PROGRAMS | set(FOREIGN), f"{_name(page)}: who is {first!r}?"


def _lines_of(program: str) -> list[list[str]]:
    lines = sorted({line for page in PAGES for line in console(page)})
    split = [[word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)] for line in lines]
    return [words[1:] for words in split if words and words[0] == program]


@pytest.mark.parametrize("words", _lines_of("klinehouse"), ids=" ".join)
def test_every_command_line_is_understood(words: list[str]) -> None:
    """The command line of every page takes each option and value that the page gives it."""
    if set(words) & {"--help", "--install-completion"}:
        return
    parser = App()
    parser.default_parameter = Parameter(consume_multiple=True, negative_iterable=())
    parser.command(command(words[0]) if words[0] in FLOWS else app[words[0]], name=words[0])
    parser.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("words", _lines_of("prefect"), ids=" ".join)
def test_every_prefect_command_is_there(words: list[str]) -> None:
    """Prefect has each subcommand that a page uses, and takes each option and value that the page gives it."""
    from prefect.cli._app import _app as prefect

    prefect.parse_args([word for word in words if word != "--no-prompt"], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("words", _lines_of("python"), ids=" ".join)
def test_every_module_that_is_run_is_there(words: list[str]) -> None:
    """A module that a page runs is there, and its help knows each option that the page gives it."""
    assert words[0] == "-m", "pages run modules, not files"
    assert words[1] == "pytest" or importlib.util.find_spec(words[1]) is not None
    options = {re.split(r"[=.]", word)[0] for word in words[2:] if word.startswith("--")}
    if options:
        done = subprocess.run([sys.executable, "-m", words[1], "--help"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert {option for option in options if option not in done.stdout} == set()


def test_variables_are_read_by_somebody() -> None:
    """Each variable of ours that a page names is read by the code, and each of Prefect's is one of its settings."""
    from prefect.settings import get_current_settings

    sources = [
        path for name in ("flows", "tasks", "lake", "tests", "benchmarks") for path in (ROOT / name).rglob("*.py")
    ]
    settings = (ROOT / "flows" / "settings.py").read_text(encoding="utf-8")
    ours = {f"KLINEHOUSE_{name.upper()}" for name in re.findall(r"^    (\w+): ", settings, re.MULTILINE)}
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*sources, ROOT / "Makefile"])
    theirs = set(get_current_settings().to_environment_variables(include_secrets=True)) | {"PREFECT_HOME"}
    for page in PAGES:
        for name in variables(page):
            assert name in ours | theirs or name in text, f"{_name(page)}: nobody reads {name}"
