"""The live flow through its door: it streams, keeps others out, and ends clean however it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from pydantic import SecretStr

from flows import settings as settings_module
from flows.adhoc import SERVER_ENVIRONMENT, is_healthy
from flows.live import live, serve, single_instance
from flows.live_vendor import open_live_vendor
from flows.settings import Settings
from lake.revisions import revisions
from lake.store import Lake
from tasks.errors import ConfigurationError
from tasks.journal.entries import Kind
from tasks.journal.journal import Journal
from tasks.simulator.clock import MarketClock
from tasks.simulator.faults import Faults, StreamFaults
from tasks.simulator.market import generated
from tasks.simulator.server import Simulator
from tests.flows.conftest import free_port

#: Every way to end takes half a minute with a real server; the suite runs the hardest, `make proof-live` all of them.
EVERY_WAY = "KLINEHOUSE_PROOF" in os.environ


def health(port: int) -> str:
    """Return what the flow's page says of its health, empty while there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            return json.load(answer)["detail"]
    except (urllib.error.URLError, OSError):
        return ""


def fills(port: int) -> int:
    """Return how many fills the flow's page tells of."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/state", timeout=30) as answer:
        return json.load(answer)["trading"]["counts"]["fills"]


@contextlib.contextmanager
def served(tmp_path: Path, api: str, speed: int = 1) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run ``python -m flows.live`` against a Prefect server until it streams; yields its process and page.

    It trades on paper; at `speed` 20 bars close every three seconds, so that it really does.
    """
    port = free_port()
    environment = os.environ | {
        "PREFECT_API_URL": api,
        "KLINEHOUSE_MARKET": "simulator",
        "KLINEHOUSE_PLAN": "enterprise",
        "KLINEHOUSE_LAKE_ROOT": str(tmp_path / "lake"),
        "KLINEHOUSE_STATE_DIR": str(tmp_path / "state"),
        "KLINEHOUSE_CONTROL_PORT": str(port),
        "KLINEHOUSE_MARKET_SPEED": str(speed),
    }
    trading = ["--strategy", "ma_crossover", "--strategy-params.fast", "1", "--strategy-params.slow", "2"]
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.live", "BTCUSDT", *trading],
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        until(lambda: health(port).startswith("live"), 90.0, lambda: (tmp_path / "log").read_text())
        yield process, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def until(condition, timeout_s: float, explain=lambda: "") -> None:
    """Poll a condition of another process."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.1)


def run_of(deployment: str) -> FlowRun:
    """Return the newest run of a deployment."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        runs = [run for run in client.read_flow_runs() if run.deployment_id == found.id]
    return max(runs, key=lambda run: run.created or datetime.min.replace(tzinfo=UTC))


def cancel() -> None:
    """Cancel the run as the UI does."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_of("live/live").id, Cancelling())


def twice(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to the main process, and again while it is ending."""
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)


def halted(process: subprocess.Popen[bytes]) -> None:
    """Stop trading by the signal to the main process, as an operator in a hurry does, and then end the run."""
    process.send_signal(signal.SIGUSR1)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)


ENDINGS = {
    "SIGTERM to all, as systemd does": lambda process: os.killpg(process.pid, signal.SIGTERM),
    "SIGTERM to the main process": lambda process: process.send_signal(signal.SIGTERM),
    "SIGTERM twice": twice,
    "SIGUSR1, then SIGTERM": halted,
    "SIGINT to all, as a terminal does": lambda process: os.killpg(process.pid, signal.SIGINT),
    "cancel from the UI": lambda process: cancel(),
}


@pytest.mark.parametrize("how", list(ENDINGS) if EVERY_WAY else list(ENDINGS)[:1])
def test_every_ending_is_clean(how: str, tmp_path: Path, orchestrated: str) -> None:
    """In 20 s trading has stopped, orders are accounted for, all is recorded; the run is Cancelled, the lock free."""

    def told() -> str:
        return (tmp_path / "log").read_text()

    with served(tmp_path, orchestrated, speed=20) as (process, port):
        until(lambda: fills(port) > 0, 60.0)
        ENDINGS[how](process)
        until(lambda: "live.stopped" in told(), 20.0, told)
        until(lambda: run_of("live/live").state.type.value == "CANCELLED", 120.0, told)  # when Prefect comes to it
        if how == "cancel from the UI":
            until(lambda: not health(port), 20.0)
            process.send_signal(signal.SIGTERM)  # the server of the deployment goes on, as it should
        process.wait(timeout=60.0)
    log = told()
    assert "after=idle" in log
    with single_instance(tmp_path / "state" / "live.lock"):
        pass
    assert Lake(tmp_path / "lake").exists("live/depth")
    with get_client(sync_client=True) as client:
        assert "day-paper" in {one.key for one in client.read_artifacts()}  # what the day came to
    journal = tmp_path / "state" / "journal.db"
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    with Journal(journal) as opened:  # checks every line
        *_, end, _ = opened.lines()
        assert (end.kind, end.body()) == ("shutdown", {"in_doubt": []})
        assert (opened.last(Kind.OPERATOR) is not None) == how.startswith("SIGUSR1")
        assert all(order.is_terminal for order in opened.state.orders.values())


@pytest.mark.skipif(not EVERY_WAY, reason="two starts of a Prefect server; `make proof-live` runs it")
def test_a_restart_of_the_server_does_not_touch_the_stream(tmp_path: Path) -> None:
    """With the Prefect server gone and back the same connection streams on, and the end is still clean."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    with temporary_settings({PREFECT_API_URL: api}):
        server = start_prefect(tmp_path, port)
        with served(tmp_path, api) as (process, page):
            stop(server)
            time.sleep(20.0)  # longer than the runner's polls
            assert health(page).startswith("live")
            server = start_prefect(tmp_path, port)
            assert health(page).startswith("live")
            os.killpg(process.pid, signal.SIGTERM)
            until(lambda: run_of("live/live").state.type.value == "CANCELLED", 20.0)
            process.wait(timeout=20.0)
        stop(server)
    log = (tmp_path / "log").read_text()
    assert log.count("after=connecting") == 1
    assert "live.stopped" in log


@pytest.mark.skipif(not EVERY_WAY, reason="half a minute; `make proof-live` runs it")
def test_a_kill_loses_a_batch_at_most_and_the_next_start_says_so(tmp_path: Path, orchestrated: str) -> None:
    """After kill -9 the lake reads whole, and the next run stores the stretch since the last row as an outage."""
    lake = Lake(tmp_path / "lake")
    with served(tmp_path, orchestrated) as (process, _):
        until(lambda: lake.exists("live/trades") and lake.scan("live/trades").collect().height > 0, 40.0)
        os.killpg(process.pid, signal.SIGKILL)
        killed = datetime.now(UTC)
    trades = lake.scan("live/trades").collect()
    assert trades["id"].is_unique().all()
    assert killed - trades["received_at"].max() < timedelta(seconds=15)
    with served(tmp_path, orchestrated) as (process, _):
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=25.0)
    trades = lake.scan("live/trades").collect()
    assert trades["id"].is_unique().all()
    with Journal(tmp_path / "state" / "journal.db") as journal:  # two runs, the first of which ended in the middle
        assert journal.epoch == 3
    away = lake.scan("live/outages").filter(pl.col("reason") == "not running").collect()
    assert set(away["channel"]) == {"depth", "trade"}
    assert all(start <= killed <= end for start, end in away.select("start", "end").iter_rows())


@pytest.mark.skipif(not EVERY_WAY, reason="half a minute; `make proof-live` runs it")
def test_a_run_that_dies_ends_its_server(tmp_path: Path, orchestrated: str) -> None:
    """The run's process killed, the serving one ends with code 1, so that a supervisor sees it; the next one recovers.

    A process that serves no run would look alive, and a second one beside a run that lives is refused.
    """
    with served(tmp_path, orchestrated) as (process, _):
        state = tmp_path / "state"
        own = settings_module.use(Settings(_env_file=None, state_dir=state))  # type: ignore[call-arg]
        with own, pytest.raises(ConfigurationError, match="expected no other live flow"):
            serve(["BTCUSDT"])
        os.kill(int((state / "live.pid").read_text()), signal.SIGKILL)
        assert process.wait(timeout=30.0) == 1
    assert "live.failed" in (tmp_path / "log").read_text()
    until(lambda: run_of("live/live").state.type.value == "CRASHED", 10.0)
    with served(tmp_path, orchestrated) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=25.0) == 0


def prefect_records() -> list[str]:
    """Return everything in Prefect's database: runs, states, logs and artifacts."""
    return [path.read_bytes().decode("latin-1") for path in Path(os.environ["PREFECT_HOME"]).glob("prefect.db*")]


def start_prefect(tmp_path: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a Prefect server of the test's own and return when it answers."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | SERVER_ENVIRONMENT | {"PREFECT_HOME": str(tmp_path / "prefect")}
    with (tmp_path / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    until(lambda: is_healthy(f"http://127.0.0.1:{port}/api"), 120.0)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server as a crash would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def market():
    """Return two symbols that trade now."""
    first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    return generated(seed=3, symbols=("BTCUSDT", "ETHUSDT"), start=first, end=first + timedelta(hours=6))


def settings_for(simulator: Simulator, tmp_path: Path, **more) -> Settings:
    """Return settings that point the flow at a simulator."""
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        stream_url=simulator.stream_url,
        vendor_url=simulator.url,
        api_key=SecretStr(simulator.api_key),
        plan="enterprise",
        lake_root=str(tmp_path / "lake"),
        state_dir=tmp_path / "state",
        control_port=free_port(),
        **more,
    )


async def eventually(condition, timeout_s: float = 60.0) -> None:
    """Poll a condition of the running flow."""
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  # the flow is another process in all but name
            await asyncio.sleep(0.05)


async def test_without_a_server_the_same_code_streams_and_stops(market, tmp_path: Path) -> None:
    """`live.fn` needs no Prefect: it streams, survives a cut, fetches the closed bars, and SIGTERM ends it."""
    now = MarketClock(datetime.now(UTC))
    with Simulator(market, now=now, api_key="canary-51d0") as simulator:
        settings = settings_for(simulator, tmp_path)
        with settings_module.use(settings):
            running = asyncio.create_task(live.fn(["BTCUSDT", "ETHUSDT"]))
            await eventually(lambda: health(settings.control_port).startswith("live"))
            await asyncio.to_thread(simulator.strike, "rst")
            await eventually(lambda: simulator.connections_opened == 2)
            await eventually(lambda: health(settings.control_port).startswith("live"))
            lake = Lake(settings.lake_root)
            await eventually(lambda: set(lake.symbols("1m")) == {"BTCUSDT", "ETHUSDT"})
            os.kill(os.getpid(), signal.SIGTERM)
            state = await asyncio.wait_for(running, 60.0)
    assert state.is_cancelled()
    bars = lake.read_bars("BTCUSDT", "1m")
    newest = bars["timestamp"][-1]
    assert newest + timedelta(minutes=1) <= datetime.now(UTC)
    truth = market.bars("BTCUSDT", "1m", bars["timestamp"][0], newest + timedelta(minutes=1))
    assert bars.equals(truth.select(bars.columns))
    assert lake.scan("live/outages").collect().height >= 4


async def test_bars_are_fetched_closed_and_again_while_they_are_young(market, tmp_path: Path) -> None:
    """A vendor that serves the forming bar as complete gets none of it stored; what it corrects is taken over."""
    faults = Faults(forming_p=1.0)
    with Simulator(market, now=MarketClock(datetime.now(UTC)), faults=faults) as simulator:
        settings = settings_for(simulator, tmp_path)
        lake = Lake(settings.lake_root)
        async with open_live_vendor(settings, ["BTCUSDT"]) as vendor:
            await vendor.fill_bars(lake, "BTCUSDT", "1m")
            whole = lake.read_bars("BTCUSDT", "1m")
            assert whole["timestamp"][-1] + timedelta(minutes=1) <= datetime.now(UTC)
            wrong = whole[-10:-1].with_columns(pl.col("volume") + 1.0)  # as if the newest had not come in yet
            other = Lake(str(tmp_path / "other"))
            span = {"symbol": "BTCUSDT", "interval": "1m", "start": wrong["timestamp"][0], "end": datetime.now(UTC)}
            other.write_bars(wrong, **span)
            assert await vendor.fill_bars(other, "BTCUSDT", "1m") >= 1
    mended = other.read_bars("BTCUSDT", "1m")
    assert mended[4:9].equals(whole[-6:-1])
    assert mended[:4].equals(wrong[:4])
    assert revisions(other, "1m", "BTCUSDT").height == 5


async def test_a_second_one_is_kept_out(market, tmp_path: Path) -> None:
    """While one live flow holds the lock, another says so and ends without touching anything."""
    with Simulator(market, now=MarketClock(datetime.now(UTC))) as simulator:
        settings = settings_for(simulator, tmp_path)
        with (
            settings_module.use(settings),
            single_instance(tmp_path / "state" / "live.lock"),
            pytest.raises(ConfigurationError, match="expected no other live flow"),
        ):
            await live.fn(["BTCUSDT"])
        assert simulator.connections_opened == 0


def contents(folder: Path) -> list[str]:
    """Return every file beneath a folder, as text as far as it is."""
    return [path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file()]


async def test_the_key_is_in_no_log_and_no_file(market, tmp_path: Path, capfd, orchestrated: str) -> None:
    """Bad connections leave no trace of the key in output, lake, state folder, page or Prefect's database."""
    faults = StreamFaults(garbage_p=0.2, endings=("rst", "mid_frame"), ending_after_frames=10)
    with Simulator(
        market, now=MarketClock(datetime.now(UTC)), api_key="canary-51d0", stream_faults=faults
    ) as simulator:
        secrets = dict.fromkeys(
            ("sandbox_key", "sandbox_secret", "trade_key", "trade_secret"), SecretStr("canary-51d0")
        )
        settings = settings_for(simulator, tmp_path, **secrets)
        with settings_module.use(settings):
            running = asyncio.create_task(live(["BTCUSDT"], return_state=True))
            await eventually(lambda: simulator.connections_opened >= 2)
            page = f"http://127.0.0.1:{settings.control_port}"
            texts = [
                await asyncio.to_thread(lambda path=path: urllib.request.urlopen(page + path).read().decode())  # noqa: S310
                for path in ("/state", "/metrics", "/", "/page.js")
            ]
            simulator.stream_faults = StreamFaults(connect_code=1001)
            await asyncio.to_thread(simulator.strike, "rst")
            await eventually(lambda: '"fatal"' in urllib.request.urlopen(page + "/state").read().decode())  # noqa: S310
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(running, 60.0)
    texts += capfd.readouterr()
    texts += contents(tmp_path)
    texts += prefect_records()
    assert not [text for text in texts if "canary-51d0" in text]
    with get_client(sync_client=True) as client:
        assert "live 1m" in {run.name for run in client.read_flow_runs()}  # without a strategy, and no blank after it
