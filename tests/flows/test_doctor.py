"""The doctor: each thing that can be wrong is made wrong, and the finding says so and how to mend it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import doctor
from flows.settings import Settings
from tests.flows.conftest import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _install(folder: Path, name: str, version: str, *needs: str) -> None:
    """Lay a distribution's metadata into a folder, as pip would."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {one}" for one in needs),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


@contextmanager
def _vendor_whose_clock_is(seconds_ahead: float) -> Iterator[str]:
    """Serve refusals, as a vendor does without a key, with a Date that far ahead."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(401)
            self.send_header("Date", formatdate(time.time() + seconds_ahead, usegmt=True))
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_fit_machine_fails_nothing_and_never_shows_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends with 0, leaves the folder as it was, and prints no key."""
    monkeypatch.setenv("KLINEHOUSE_API_KEY", "canary-key")
    monkeypatch.setenv("KLINEHOUSE_VENDOR_URL", f"http://127.0.0.1:{free_port()}")
    done = subprocess.run([sys.executable, "-m", "flows.cli", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "set (not shown)" in " ".join(done.stdout.split()) or "the free plan has no" in " ".join(done.stdout.split())
    assert "not checked" in done.stdout
    assert "canary-key" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_ends_with_1_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs settings is not looked at; the variable is named and its value is not repeated."""
    monkeypatch.setenv("KLINEHOUSE_PLAN", "canary-value")
    done = subprocess.run([sys.executable, "-m", "flows.cli", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "KLINEHOUSE_PLAN" in done.stdout
    assert "canary-value" not in done.stdout
    assert "Traceback" not in done.stderr


def test_the_pythons_are_those_of_the_project() -> None:
    """The range the doctor accepts is the range pip accepts."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = (".".join(map(str, numbers)) for numbers in doctor.PYTHONS)
    assert wanted == f">={low},<{high}"


def test_a_vital_pin_fails_and_another_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FastAPI that breaks Prefect's server is a failure, a different rich is not."""
    _install(tmp_path, "pretend", "1.0", "fastapi==0.1", "rich==0.1", "prefect==3.8.8")
    monkeypatch.syspath_prepend(tmp_path)
    grades = {one.check: one for one in doctor.check_pins("pretend")}
    assert grades["pins of the server"].grade == "fail"
    assert "fastapi" in grades["pins of the server"].found
    assert "prefect" not in grades["pins of the server"].found
    assert grades["pins"].grade == "warn"
    assert next(iter(doctor.check_pins("nowhere-installed"))).grade == "warn"


def test_unequal_engines_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VectorBT falls back in silence where its compiled engine is of another minor version; the doctor does not."""
    assert doctor.check_engines().grade == "ok"
    _install(tmp_path, "vectorbt-rust", "1.3.0")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor.check_engines().grade == "fail"


def test_folders_that_cannot_be_written_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where a folder should be stops lake, reports and state; for the kernel cache it is a warning."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    settings = Settings(lake_root=str(blocked / "lake"), report_dir=blocked, state_dir=blocked / "state")
    for finding in (doctor.check_lake(settings), doctor.check_reports(settings), doctor.check_secret_files(settings)):
        assert (finding.grade, str(blocked) in finding.found) == ("fail", True)
        assert "KLINEHOUSE_" in finding.cure
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(blocked))
    assert doctor.check_kernel_cache().grade == "warn"


def test_a_secret_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    """The control token and .env are their owner's; the cure is the command to type."""
    settings = Settings(state_dir=tmp_path / "state")
    settings.state_dir.mkdir()
    token = settings.state_dir / "control.token"
    token.write_text("secret")
    token.chmod(0o644)
    found = doctor.check_secret_files(settings)
    assert (found.grade, found.cure) == ("warn", f"chmod 600 {token}")
    token.chmod(0o600)
    assert doctor.check_secret_files(settings).grade == "ok"


@pytest.mark.parametrize(("ahead", "grade"), [(0.0, "ok"), (-10.0, "warn"), (3600.0, "fail")])
def test_the_clock_is_compared_with_the_vendors(ahead: float, grade: str) -> None:
    """Bars close by our clock: seconds are a warning, half a minute a failure; a refusal tells the time too."""
    with _vendor_whose_clock_is(ahead) as url:
        assert doctor.check_clock(Settings(vendor_url=url, api_key="key")).grade == grade  # type: ignore[arg-type]


def test_an_unreachable_vendor_leaves_the_clock_unchecked() -> None:
    """Offline nothing is claimed about the clock."""
    settings = Settings(vendor_url=f"http://127.0.0.1:{free_port()}", api_key="key")  # type: ignore[arg-type]
    assert doctor.check_clock(settings).grade == "not checked"
    assert doctor.check_clock(Settings(market="simulator")).grade == "not checked"


def test_a_whole_second_of_doubt_is_no_skew() -> None:
    """The vendor's header has whole seconds, and the answer takes time: only what is outside both counts."""
    assert doctor.skew_s(100.9, 100.0, 101.2) == 0.0
    assert doctor.skew_s(100.0, 105.0, 101.0) == 4.0
    assert doctor.skew_s(110.0, 105.0, 111.0) == 4.0


def test_a_configured_server_must_answer(orchestrated: str) -> None:
    """Where PREFECT_API_URL is set, a run would fail without the server; where it is not, a run starts one."""
    assert doctor.check_server().grade == "ok"
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert doctor.check_server().grade == "fail"


def test_a_misspelt_variable_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment lets any name pass; one that looks like a setting and is none is named."""
    monkeypatch.setenv("KLINEHOUSE_LAKEROOT", "elsewhere")
    found = doctor.check_settings(Settings())
    assert (found.grade, "KLINEHOUSE_LAKEROOT" in found.found) == ("warn", True)
