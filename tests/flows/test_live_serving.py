"""The process that serves the live flow ends with code 1 when its run did not end clean, and not before."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from flows import live_serving
from flows.live import single_instance
from flows.live_serving import check_alone, ending_with_its_run, note_clean_end
from flows.live_switch import lock_path
from tasks.errors import ConfigurationError


def run_of(what: Callable[..., object], *arguments: object) -> multiprocessing.process.BaseProcess:
    """Start a process as Prefect's runner starts a run."""
    process = multiprocessing.get_context("spawn").Process(target=what, args=arguments)
    process.start()
    return process


def test_a_run_that_dies_takes_its_server_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped leaves the server; the next, which fails, ends it as SIGTERM does, with code 1."""
    ended, told = Event(), []
    monkeypatch.setattr(live_serving, "_RECORD_S", 0.0)
    monkeypatch.setattr(live_serving, "_LOOK_S", 0.01)
    monkeypatch.setattr(os, "kill", lambda *what: (told.append(what), ended.set()))
    note_clean_end(tmp_path)
    note = tmp_path / "live.ended"
    assert note.read_text() == str(os.getpid())
    serving = ending_with_its_run(tmp_path)
    serving.__enter__()
    may_end = multiprocessing.get_context("spawn").Event()
    stopped = run_of(may_end.wait)
    note.write_text(str(stopped.pid))
    may_end.set()
    stopped.join()
    failed = run_of(os._exit, 7)
    assert ended.wait(60.0)
    failed.join()
    assert failed.exitcode == 7  # still there for Prefect to read
    with pytest.raises(SystemExit) as raised:
        serving.__exit__(None, None, None)
    assert raised.value.code == 1
    assert told == [(os.getpid(), signal.SIGTERM)]


def test_a_clean_end_is_no_alibi_for_a_later_run(tmp_path: Path) -> None:
    """Process numbers come again, in a container at each start: what an earlier server's run left is no proof."""
    note_clean_end(tmp_path)
    with ending_with_its_run(tmp_path):
        assert not live_serving._ended_clean(tmp_path, os.getpid())
        note_clean_end(tmp_path)
        assert live_serving._ended_clean(tmp_path, os.getpid())


def test_nothing_is_served_beside_a_run(tmp_path: Path) -> None:
    """A run whose server was killed still holds the lock: another server is refused before it makes a run."""
    check_alone(tmp_path)
    with single_instance(lock_path(tmp_path)), pytest.raises(ConfigurationError, match="expected no other live flow"):
        check_alone(tmp_path)
    check_alone(tmp_path)
