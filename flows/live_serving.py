"""The process that serves the live flow ends when its run ended in any other way than clean.

A run that fails leaves Prefect's runner behind: alive, served, and trading nothing. Whoever supervises the process
(systemd, `klinehouse serve`) sees nothing to restart. So the server of the deployment ends too, with exit code 1, and
starting it again, later each time, is the supervisor's work. It never starts a second run itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from threading import Event, Thread

import structlog

from flows.live_switch import lock_path
from flows.tidy import is_held
from tasks.errors import ConfigurationError

log = structlog.get_logger("flows.live")

#: How long Prefect gets to record how a run ended before its server ends too.
_RECORD_S = 3.0
_LOOK_S = 0.5


def note_clean_end(folder: Path) -> None:
    """Leave word that the run of this process ended as it should: stopped, its orders accounted for."""
    _note(folder).write_text(str(os.getpid()), encoding="utf-8")


def check_alone(folder: Path) -> None:
    """Refuse to serve while another live run holds the lock, also one whose server was killed.

    Raises:
        ConfigurationError: One does.
    """
    if lock_path(folder).exists() and is_held(lock_path(folder)):
        raise ConfigurationError(
            f"live: expected no other live flow, found one holding {lock_path(folder)}; stop it first"
        )


@contextmanager
def ending_with_its_run(folder: Path) -> Iterator[None]:
    """End this process as SIGTERM does, with exit code 1, once a run in a process of its own was not clean.

    Raises:
        SystemExit: With code 1, in the place of whatever ended the block after such a run.
    """
    _note(folder).unlink(missing_ok=True)  # an earlier server's: process numbers come again
    broken, over = Event(), Event()
    Thread(target=_watch, args=(folder, broken, over), name="live-run", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        if broken.is_set():
            raise SystemExit(1)


def _watch(folder: Path, broken: Event, over: Event) -> None:
    """Wait for every run's process to end, until one was not clean or nothing is served any more."""
    while not over.wait(_LOOK_S):
        for process in multiprocessing.active_children():
            wait([process.sentinel])  # does not take the exit status that Prefect waits for
            if _ended_clean(folder, process.pid):
                continue
            log.error("live.failed", pid=process.pid, advice="its lines above say why; this process ends with code 1")
            broken.set()
            time.sleep(_RECORD_S)
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _ended_clean(folder: Path, pid: int | None) -> bool:
    try:
        return _note(folder).read_text(encoding="utf-8") == str(pid)
    except FileNotFoundError:
        return False


def _note(folder: Path) -> Path:
    return folder / "live.ended"
