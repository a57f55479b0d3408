"""Serving: parts are kept up, end clean or are killed, die with their parent; `make proof-serve` tries it all."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import serve
from flows.deploy import server_url
from flows.serve import Part
from flows.settings import Settings
from tasks.errors import ConfigurationError
from tests.flows.conftest import free_port

ROOT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-c")


async def test_a_crashed_part_is_started_again_later_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between starts the wait doubles; once told to stop, nothing is started any more."""
    monkeypatch.setattr(serve, "FIRST_WAIT_S", 0.02)
    stop, times = asyncio.Event(), list[float]()

    async def note() -> None:
        times.append(time.monotonic())
        if len(times) == 4:
            stop.set()

    part = Part("child", ["false"], before=note)
    await asyncio.wait_for(part.keep(stop), 60)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) == part.starts == 4
    assert [wait >= least for wait, least in zip(waits, (0.02, 0.04, 0.08), strict=True)] == [True] * 3


async def test_a_part_whose_server_is_away_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must be done before a start may fail; the start is tried again, and nothing else ends."""
    monkeypatch.setattr(serve, "FIRST_WAIT_S", 0.01)
    stop, tries = asyncio.Event(), list[int]()

    async def refused() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("Failed to reach API")
        stop.set()

    part = Part("child", ["true"], before=refused)
    await asyncio.wait_for(part.keep(stop), 60)
    assert (len(tries), part.starts) == (3, 1)


@pytest.mark.parametrize(
    ("handler", "patience_s", "code"), [("SIG_DFL", 60.0, -signal.SIGTERM), ("SIG_IGN", 0.3, -signal.SIGKILL)]
)
async def test_a_part_is_asked_to_end_and_killed_where_it_does_not(
    handler: str, patience_s: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM first, SIGKILL after the time it has; what it printed came out with its name in front."""
    lines = f"import signal; signal.signal(signal.SIGTERM, signal.{handler}); print('up', flush=True); signal.pause()"
    stop, part = asyncio.Event(), Part("child", [*PYTHON, lines])
    keeping = asyncio.create_task(part.keep(stop))
    async with asyncio.timeout(60):
        while "child | up" not in capsys.readouterr().err:  # noqa: ASYNC110  # its output is the event
            await asyncio.sleep(0.01)
        stop.set()
        await part.end(patience_s)
        await keeping
    assert part.process is not None
    assert part.process.returncode == code


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no signal for a parent's death")
def test_parts_die_with_their_parent_even_when_it_is_killed() -> None:
    """A `kill -9` of the one process leaves no worker behind that would work beside the next one."""
    lines = (
        "import asyncio; from flows.serve import Part\n"
        "part = Part('child', ['python3', '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'])\n"
        "asyncio.run(part.keep(asyncio.Event()))"
    )
    parent = subprocess.Popen([*PYTHON, lines], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stderr is not None
    printed = next(line for line in parent.stderr if "child |" in line)
    child = psutil.Process(int(printed.split("|")[1]))
    parent.kill()
    parent.wait()
    parent.stderr.close()
    child.wait(timeout=60)


async def test_a_second_serve_is_refused(tmp_path: Path) -> None:
    """Two of them would be two workers and two live flows; the message names the lock."""
    settings = Settings(state_dir=tmp_path)
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}),
        serve._only_one(tmp_path / "serve.lock"),
        pytest.raises(ConfigurationError, match=r"serve\.lock"),
    ):
        await serve.serve(settings, [], limit=1, stop=asyncio.Event())


def test_only_loopback_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of ours listens on 127.0.0.1 whatever the settings say; a foreign address must answer by itself."""
    assert serve.server_command("http://localhost:4300/api")[-4:] == ["--host", "127.0.0.1", "--port", "4300"]
    with temporary_settings({PREFECT_API_URL: f"http://192.0.2.1:{free_port()}/api"}):
        monkeypatch.setattr("flows.deploy.is_healthy", lambda url: False)
        with pytest.raises(ConfigurationError, match="PREFECT_API_URL"):
            server_url()


def test_prefects_state_lies_with_ours_unless_it_has_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PREFECT_HOME wins, so that what a machine has is used again."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "chosen"))
    assert serve.prefect_home(Settings(state_dir=tmp_path)) == tmp_path / "chosen"
    monkeypatch.delenv("PREFECT_HOME")
    assert serve.prefect_home(Settings(state_dir=tmp_path)) == tmp_path / "prefect"


@pytest.mark.skipif("KLINEHOUSE_PROOF" not in os.environ, reason="two minutes with a server; make proof-serve runs it")
@pytest.mark.timeout(600)
def test_everything_comes_up_survives_kills_and_ends_clean(tmp_path: Path) -> None:
    """One command serves all; killed workers come back, killed runs are called crashed, and no run stays Running."""
    port, log = free_port(), tmp_path / "log"
    environment = os.environ | {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "KLINEHOUSE_STATE_DIR": str(tmp_path / "state"),
        "KLINEHOUSE_LAKE_ROOT": str(tmp_path / "lake"),
        "KLINEHOUSE_REPORT_DIR": str(tmp_path / "reports"),
        "KLINEHOUSE_MARKET": "simulator",
        "KLINEHOUSE_PLAN": "enterprise",
        "KLINEHOUSE_CONTROL_PORT": str(free_port()),
    }

    def until(words: str, times: int = 1) -> None:
        deadline = time.monotonic() + 180
        while log.read_text().count(words) < times:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            assert served.poll() is None, log.read_text()[-3000:]
            time.sleep(0.2)

    def backfills() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "prefect" / "prefect.db")) as database:
            found = database.execute("SELECT state_type FROM flow_run WHERE name LIKE 'backfill%'")
            return [state for (state,) in found]

    def until_crashed(times: int) -> None:
        deadline = time.monotonic() + 180
        while backfills().count("CRASHED") < times:
            assert time.monotonic() < deadline, backfills()
            time.sleep(0.5)

    def begin() -> None:
        year = ["-p", 'start="2024-01-01"', "-p", 'symbols=["BTCUSDT","ETHUSDT","SOLUSDT","XRPUSDT"]']
        command = [sys.executable, "-m", "prefect", "deployment", "run", "backfill/adhoc", *year]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def part(words: str) -> psutil.Process:
        children = psutil.Process(served.pid).children(recursive=True)
        return next(one for one in children if words in " ".join(one.cmdline()))

    command = [sys.executable, "-m", "flows.cli", "serve", "BTCUSDT"]
    with log.open("w") as sink:
        served = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=sink)
    try:
        until("started!")
        begin()
        until("Beginning flow run 'backfill")
        part("prefect.engine").kill()
        until("exited with status code: -9")
        begin()
        until("Beginning flow run 'backfill", 2)
        part("worker start").kill()
        until("started!", 2)
        until_crashed(2)  # its orphan, by `tidy`; or by itself, at the first line that nobody reads any more
        begin()
        until("Beginning flow run 'backfill", 3)
        served.send_signal(signal.SIGINT)
        assert served.wait(120) == 0
    finally:
        served.terminate()  # nothing where it has ended; a failure above must not leave it behind
        served.wait(120)
    with closing(sqlite3.connect(tmp_path / "prefect" / "prefect.db")) as database:
        found = database.execute("SELECT name, state_type FROM flow_run WHERE state_type != 'SCHEDULED'").fetchall()
    assert sorted(backfills()) == ["CANCELLED", "CRASHED", "CRASHED"], found
    assert not [state for _, state in found if state in ("RUNNING", "PENDING", "CANCELLING")], found
