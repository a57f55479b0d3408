"""The command line: the flows' own parameters, their results, and errors in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli import FLOWS, app, main
from flows.show import show

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Return a function that does what `klinehouse` does, in an empty folder, on the simulated market.

    It runs in this process, where the libraries are loaded already: an error that is not caught fails the test.
    """
    monkeypatch.setenv("KLINEHOUSE_MARKET", "simulator")
    monkeypatch.setenv("KLINEHOUSE_PLAN", "enterprise")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "default_parameter", app.default_parameter)
    logging = structlog.get_config()

    def call(*arguments: str) -> Done:
        code = 0
        try:
            main([*arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            for name in set(FLOWS) & set(app):  # a process is built for one command
                del app[name]
        return Done(arguments, code, *capsys.readouterr())

    yield call
    structlog.configure(**logging)


def test_help_lists_every_flow_without_loading_one() -> None:
    """`--help` answers at once, in a process of its own, and names what there is."""
    command = [sys.executable, "-X", "importtime", "-m", "flows.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "prefect" not in done.stderr
    assert all(
        name in done.stdout for name in ("backfill", "quality", "features", "sweep", "research", "maintain", "sql")
    )


def test_a_backfill_is_planned_then_run_then_queried(run: Run) -> None:
    """The plan asks for nothing, the run fills the lake, and SQL reads it."""
    days = ("BTCUSDT", "--interval", "1h", "--start", "2025-01-01", "--end", "2025-02-01", "--no-orchestration")
    planned = run("backfill", *days, "--plan")
    assert planned.returncode == 0
    assert "1 requests for 744 bars" in planned.stderr
    assert "the lake is empty" in run("sql", "SELECT count(*) FROM klines").stderr
    done = run("backfill", *days)
    assert "744" in done.stdout
    counted = run("sql", "SELECT symbol, count(*) AS bars FROM klines GROUP BY symbol")
    assert "744" in counted.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("backfill", "BTCUSDT", "--interval", "7m"), '"1m"'),
        (("backfill", "BTCUSDT", "--at-once", "0", "--no-orchestration"), "greater than or equal to 1"),
        (("backfill", "BTCUSDT", "--start", "2999-01-01", "--no-orchestration"), "expected start before end"),
        (("backfill", "BTCUSDT", "--source", "nowhere", "--no-orchestration"), "tickdb|ccxt:"),
        (("status", "--days", "99999999"), "Must be <= 36500"),
        (("sweep", "BTCUSDT", "--strategy", "magic", "--no-orchestration"), "ma_crossover"),
    ],
)
def test_bad_input_is_one_clear_line(run: Run, arguments: tuple[str, ...], said: str) -> None:
    """The error says what was expected; there is no traceback, and the exit code is not 0."""
    done = run(*arguments)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("below", ["", "/lake"])
@pytest.mark.parametrize("arguments", [("status",), ("sql", "SELECT 1"), ("quality-lake", "--no-orchestration")])
def test_a_file_in_the_place_of_the_lake_is_one_clear_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], below: str
) -> None:
    """It is not taken for an empty lake."""
    (tmp_path / "taken").touch()
    monkeypatch.setenv("KLINEHOUSE_LAKE_ROOT", f"{tmp_path}/taken{below}")
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"InputError: lake: expected a folder that you may read, found {tmp_path}/taken" in done.stderr


def test_a_folder_that_cannot_be_written_is_one_clear_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State that cannot be kept says what the system said, of which path, and where to look."""
    (tmp_path / "taken").touch()
    monkeypatch.setenv("KLINEHOUSE_STATE_DIR", str(tmp_path / "taken" / "state"))
    done = run("live", "BTCUSDT", "--no-orchestration")
    assert done.returncode == 1
    assert f"Not a directory: {tmp_path}/taken/state" in done.stderr
    assert done.stderr.endswith("`klinehouse doctor` says how to mend a folder\n")


_FULL = "No space left on device; `klinehouse doctor` says how to mend a folder\n"


@pytest.mark.parametrize(("output", "said"), [("full", _FULL), ("left", "")])
def test_an_output_that_takes_no_more_is_no_traceback(output: str, said: str) -> None:
    """A full disk is one line, a reader that left is none; in processes of their own."""
    reader, left = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-m", "flows.cli", "sql", "SELECT 1", "--root", "nowhere"]
    taken = {"full": full, "left": left}[output]
    done = subprocess.run(command, stdout=taken, stderr=subprocess.PIPE, text=True, check=False)
    os.close(left)
    os.close(full)
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("command", ["tidy", "deploy", "maintain"])
def test_a_server_that_does_not_answer_is_one_clear_line(run: Run, command: str) -> None:
    """What needs Prefect's server says where it looked for one and what to do."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        done = run(command)
    assert done.returncode == 1
    assert "http://127.0.0.1:9/api, found none; start it" in done.stderr


def test_an_env_file_that_prefect_cannot_read_is_one_clear_line(tmp_path: Path) -> None:
    """Prefect reads the file as it is imported, so the command looks at it first; in a process of its own."""
    (tmp_path / ".env").write_text("KLINEHOUSE_PLAN=basic", encoding="utf-16")
    command = [sys.executable, "-m", "flows.cli", "status"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("ConfigurationError: settings: expected .env to be UTF-8 text")


def test_results_are_shown_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Lists of records become a table: numbers grouped, days as days, hashes and empty columns left out."""

    @dataclass
    class Row:
        symbol: str
        rows: int
        start: datetime
        content_hash: str
        error: str

    show([Row("BTCUSDT", 12_345, datetime(2025, 1, 2, tzinfo=UTC), "abc", "")])
    out = capsys.readouterr().out
    assert "12,345" in out
    assert "2025-01-02" in out
    assert "abc" not in out
    assert "error" not in out


def test_files_go_in_and_out(run: Run, tmp_path: Path) -> None:
    """A file with other column names is refused with the mapping to give; with it, what goes in comes out."""
    rows = "Date,Open,High,Low,Adj Close,Volume\n2025-01-02,1,3,0.5,2,10\n2025-01-03,2,4,1.5,3,20\n"
    (tmp_path / "bars.csv").write_text(rows)
    words = ("bars.csv", "--symbol", "X.US", "--interval", "1d", "--time-zone", "UTC")
    refused = run("import", *words)
    assert refused.returncode == 1
    assert "Adj Close" in refused.stderr
    names = {
        "timestamp": "Date",
        "open": "Open",
        "high": "High",
        "low": "Low",
        "close": "Adj Close",
        "volume": "Volume",
    }
    mapping = [word for ours, theirs in names.items() for word in (f"--columns.{ours}", theirs)]
    done = run("import", *words, *mapping)
    assert "2 bars read: 2 new" in done.stdout, done.stderr
    assert "2 bars written" in run("export", "out.csv", "--symbol", "X.US", "--interval", "1d").stdout
    assert "2025-01-03" in (tmp_path / "out.csv").read_text()
