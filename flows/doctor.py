"""What a person asks first when something is wrong: is this machine fit to run the platform, and how is it mended?

Each check looks at one thing and answers with one finding. Nothing is changed: what is written to find out whether
it can be written is removed again. The key is used for nothing and never shown.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from prefect.settings import PREFECT_API_URL, get_current_settings
from rich.table import Table

from flows.adhoc import is_healthy
from flows.settings import Settings, load
from flows.standing import standing
from flows.tidy import is_held
from lake.store import Lake
from tasks.errors import ConfigurationError

Grade = Literal["ok", "warn", "fail", "not checked"]

#: Pythons that the platform runs on, as pyproject.toml says: from the first, below the second.
PYTHONS = ((3, 11), (3, 14))
#: Without these in their exact versions Prefect's server does not start, or never runs a schedule.
VITAL = ("prefect", "fastapi", "sqlalchemy")
#: Free bytes below which work is refused, and below which a person should know. A year of minutes of one symbol takes
#: 8 MB; compaction holds a table twice.
FULL_BYTES, NEARLY_FULL_BYTES = 1 << 30, 5 << 30
#: Seconds between the vendor's clock and ours. Bars count as closed by our clock, and are fetched seconds later.
SKEWED_S, BROKEN_S = 2.0, 30.0
_TIMEOUT_S = 3.0
_COLOURS: dict[Grade, str] = {"ok": "green", "warn": "yellow", "fail": "bold red", "not checked": "dim"}


@dataclass(frozen=True)
class Finding:
    """The answer of one check.

    Attributes:
        check: What was looked at.
        grade: `fail` where something will not work, `warn` where it works and a person should know.
        found: What is the case.
        cure: How to mend it; empty where there is nothing to mend.
    """

    check: str
    grade: Grade
    found: str
    cure: str = ""


def examine() -> list[Finding]:
    """Return what every check found, in the order in which a person should mend it."""
    findings = [check_python(), *check_pins(), check_engines(), check_kernel_cache()]
    try:
        settings = load()
    except ConfigurationError as error:
        return [*findings, Finding("settings", "fail", str(error), "correct the variable, in the environment or .env")]
    checks: list[Callable[[Settings], Finding]] = [
        check_settings,
        check_key,
        check_secret_files,
        check_lake,
        check_reports,
        check_disk,
        check_clock,
    ]
    findings += [*(check(settings) for check in checks), check_server()]
    return [*findings, check_operations(settings), check_live(settings)]


def table(findings: list[Finding]) -> Table:
    """Return the findings as a table for a terminal."""
    shown = Table("check", "", title="klinehouse doctor", title_justify="left")
    for name in ("found", "how to mend it"):
        shown.add_column(name, overflow="fold")  # a path is shown whole or it is of no use
    for one in findings:
        shown.add_row(one.check, f"[{_COLOURS[one.grade]}]{one.grade}[/]", one.found, one.cure)
    return shown


def check_python() -> Finding:
    """Compare the interpreter with the versions the platform runs on."""
    (low, high), here = PYTHONS, sys.version_info[:2]
    found = f"{sys.version.split()[0]} in {sys.prefix}"
    if low <= here < high:
        return Finding("Python", "ok", found)
    return Finding("Python", "fail", found, f"use Python {_dotted(low)} or newer, below {_dotted(high)}")


def check_pins(distribution: str = "klinehouse") -> Iterator[Finding]:
    """Compare the installed direct dependencies with their pins; the vital three fail, the others warn."""
    try:
        pins = dict(line.split("==") for line in requires(distribution) or [] if "==" in line and ";" not in line)
    except PackageNotFoundError:
        yield Finding(
            "pins", "warn", f"{distribution} is not installed", "run `make install`, or pip install the wheel"
        )
        return
    wrong = {name: f"{_installed(name)} instead of {pin}" for name, pin in pins.items() if _installed(name) != pin}
    vital = [f"{name} {wrong[name]}" for name in VITAL if name in wrong]
    others = [f"{name} {text}" for name, text in wrong.items() if name not in VITAL]
    cure = "run `make install`; docs/decisions/0002-pins.md says what breaks"
    if vital:
        yield Finding("pins of the server", "fail", "; ".join(vital), cure)
    else:
        yield Finding("pins of the server", "ok", ", ".join(f"{name} {_installed(name)}" for name in VITAL))
    if others:
        yield Finding("pins", "warn", "; ".join(others), cure)
    else:
        yield Finding("pins", "ok", f"{len(pins)} direct dependencies as pinned")


def check_engines() -> Finding:
    """Compare VectorBT with its compiled engine; unequal ones fall back to a slower one with a warning."""
    python, rust = _installed("vectorbt"), _installed("vectorbt-rust")
    found = f"vectorbt {python}, vectorbt-rust {rust}"
    if find_spec("vectorbt_rust") is None or python.split(".")[:2] != rust.split(".")[:2]:
        return Finding("backtest engines", "fail", found, "they must share major and minor: run `make install`")
    return Finding("backtest engines", "ok", found)


def check_kernel_cache() -> Finding:
    """Find out whether compiled kernels can be kept; where they cannot, every process compiles anew."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen) if chosen else Path(__file__).parent.parent / "tasks" / "features" / "kernels"
    problem = _write_problem(folder)
    if problem is None:
        return Finding("kernel cache", "ok", f"{folder} is writable")
    cure = "set NUMBA_CACHE_DIR to a folder that you can write, or every process compiles anew"
    return Finding("kernel cache", "warn", problem, cure)


def check_settings(settings: Settings) -> Finding:
    """Name the variables that look like settings and are none, which an environment, unlike .env, lets pass."""
    known = {f"KLINEHOUSE_{name.upper()}" for name in type(settings).model_fields} | {"KLINEHOUSE_PROOF"}
    unknown = sorted(name for name in os.environ if name.startswith("KLINEHOUSE_") and name not in known)
    if unknown:
        return Finding(
            "settings", "warn", f"no such setting: {', '.join(unknown)}", f"one of {' '.join(sorted(known))}"
        )
    return Finding(
        "settings", "ok", f"market {settings.market}, plan {settings.plan}, {settings.rate} requests a minute"
    )


def check_key(settings: Settings) -> Finding:
    """Say whether the vendor's key is there, without showing it, and whether its plan has any history."""
    if settings.market == "simulator":
        return Finding("vendor key", "ok", "none needed: the market is simulated")
    try:
        settings.vendor_key()
    except ConfigurationError:
        cure = "set KLINEHOUSE_API_KEY, or KLINEHOUSE_MARKET=simulator for the built-in market"
        return Finding("vendor key", "warn", "none: only ccxt sources and imported files", cure)
    if settings.plan == "free" and settings.history_days is None:
        return Finding("vendor key", "warn", "set; the free plan has no history", "set KLINEHOUSE_PLAN to your plan")
    return Finding("vendor key", "ok", f"set (not shown), plan {settings.plan}")


def check_secret_files(settings: Settings) -> Finding:
    """Look for secrets that other users of the machine can read, and for a state folder that cannot be written."""
    state = settings.state_dir
    problem = _write_problem(state)
    if problem is not None:
        return Finding("state folder", "fail", problem, "set KLINEHOUSE_STATE_DIR to a local folder that you can write")
    secrets = [path for path in (Path(".env"), state / "control.token") if path.exists()]
    open_ones = [str(path) for path in secrets if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if open_ones:
        return Finding(
            "state folder", "warn", f"others can read {', '.join(open_ones)}", f"chmod 600 {' '.join(open_ones)}"
        )
    return Finding("state folder", "ok", f"{state} is writable, secrets are their owner's alone")


def check_lake(settings: Settings) -> Finding:
    """Read the lake's tables and, where it is a folder, write beside them."""
    lake = Lake(settings.lake_root)
    if lake.location.is_local:
        problem = _write_problem(Path(lake.location.uri))
        if problem is not None:
            return Finding("lake", "fail", problem, "set KLINEHOUSE_LAKE_ROOT, or mend the folder's owner and mode")
    try:
        tables = lake.tables()
    except Exception as error:  # noqa: BLE001  # whatever the storage's client raises is what the person must read
        cure = "docs/lake.md has the AWS_* variables, which .env cannot set; check address, bucket and access"
        return Finding("lake", "fail", f"{settings.lake_root}: {_first_line(error)}", cure)
    written = "" if lake.location.is_local else " (writing not tried)"
    return Finding("lake", "ok", f"{settings.lake_root}: {len(tables)} tables{written}")


def check_reports(settings: Settings) -> Finding:
    """Find out whether reports can be written."""
    problem = _write_problem(settings.report_dir)
    if problem is None:
        return Finding("reports", "ok", f"{settings.report_dir} is writable")
    return Finding("reports", "fail", problem, "set KLINEHOUSE_REPORT_DIR to a folder that you can write")


def check_disk(settings: Settings) -> Finding:
    """Measure the space left where the lake, the reports and the state are."""
    local = [settings.state_dir, settings.report_dir]
    local += [Path(settings.lake_root)] if "://" not in settings.lake_root else []
    free, place = min((shutil.disk_usage(_existing(path)).free, path) for path in local)
    found = f"{free / 2**30:.1f} GiB free at {place}"
    if free < NEARLY_FULL_BYTES:
        cure = "free some space: `klinehouse maintain --keep-days 1` deletes what nobody can ask for"
        return Finding("disk", "fail" if free < FULL_BYTES else "warn", found, cure)
    return Finding("disk", "ok", found)


def check_clock(settings: Settings) -> Finding:
    """Compare the clock with the vendor's, where one is configured and answers; the request carries no key."""
    if settings.market == "simulator" or settings.api_key is None:
        return Finding("clock", "not checked", "no vendor is configured")
    before = time.time()
    try:
        told = _date_header(settings.vendor_url)
    except (OSError, ValueError) as error:
        return Finding("clock", "not checked", f"{settings.vendor_url} does not answer: {_first_line(error)}")
    skew = skew_s(before, told, time.time())
    found = f"{skew:.1f} s away from the vendor's" if skew else "within a second of the vendor's"
    if skew > SKEWED_S:
        return Finding("clock", "fail" if skew > BROKEN_S else "warn", found, "switch time synchronisation (NTP) on")
    return Finding("clock", "ok", found)


def check_server() -> Finding:
    """Ask whether a Prefect server answers where the next run will look for it."""
    configured = PREFECT_API_URL.value()
    if configured:
        if is_healthy(configured):
            return Finding("Prefect server", "ok", f"answers at {configured}")
        cure = "start it (`prefect server start --background`), or unset PREFECT_API_URL"
        return Finding("Prefect server", "fail", f"PREFECT_API_URL is {configured}, where none answers", cure)
    api = get_current_settings().server.api
    url = f"http://{api.host}:{api.port}/api"
    if is_healthy(url):
        return Finding("Prefect server", "ok", f"answers at {url}")
    return Finding("Prefect server", "ok", f"none yet: the first run starts one at {url}")


def check_operations(settings: Settings) -> Finding:
    """Say whether anything runs by itself: a worker, deployments, automations, and somebody who hears of trouble."""
    found = standing()
    if found is None or not found.deployments:
        return Finding("scheduled runs", "not checked", "nothing is deployed: `klinehouse serve` does it all")
    if not found.workers or found.paused:
        cure = "`klinehouse serve`, or `prefect worker start --pool klinehouse`; `prefect work-pool resume klinehouse`"
        return Finding("scheduled runs", "warn", str(found), cure)
    if not found.automations:
        return Finding("scheduled runs", "warn", str(found), "`klinehouse deploy` in the project's folder")
    if settings.alert_block and not found.alerts:
        return Finding("scheduled runs", "warn", str(found), "`klinehouse deploy`: KLINEHOUSE_ALERT_BLOCK is new")
    return Finding("scheduled runs", "ok", str(found))


def check_live(settings: Settings) -> Finding:
    """Say whether a live flow holds this machine's lock, and whether its page answers."""
    lock = settings.state_dir / "live.lock"
    if not lock.exists() or not is_held(lock):
        return Finding("live flow", "ok", "none runs on this machine")
    page = f"http://127.0.0.1:{settings.control_port}"
    try:
        with urllib.request.urlopen(f"{page}/healthz", timeout=_TIMEOUT_S):  # noqa: S310  (loopback)
            return Finding("live flow", "ok", f"runs; {page}")
    except OSError as error:
        return Finding("live flow", "warn", f"runs; {page}: {_first_line(error)}", "read docs/live.md")


def skew_s(sent: float, told: float, received: float) -> float:
    """Return how many seconds a clock is surely away from one that showed `told`, in whole seconds, in between."""
    return max(0.0, sent - (told + 1.0), told - received)


def _date_header(url: str) -> float:
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  (the address is the operator's own setting)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            date = answer.headers["Date"]
    except urllib.error.HTTPError as refusal:
        date = refusal.headers["Date"]  # a refusal has the time too
    if date is None:
        raise ValueError("no Date in the answer")
    return parsedate_to_datetime(date).timestamp()


def _write_problem(folder: Path) -> str | None:
    """Return why nothing can be written into a folder, or into the one it would be made in; None where it can."""
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return f"{place}: {error.strerror}"


def _existing(path: Path) -> Path:
    path = path.expanduser().absolute()
    return path if path.exists() or path == path.parent else _existing(path.parent)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "nothing"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _dotted(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))
