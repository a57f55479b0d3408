"""A server of ours collects its garbage where nobody waits for it."""

from __future__ import annotations

import gc
import threading

import psutil
import pytest
from prefect.settings import get_current_settings

from flows.prefect_server import collected_aside


class Knot:
    """Garbage that only the collector clears away, and that says where it did."""

    def __init__(self, cleared: list[str], told: threading.Event) -> None:
        self.itself, self.cleared, self.told = self, cleared, told

    def __del__(self) -> None:
        """Say which thread it was."""
        self.cleared.append(threading.current_thread().name)
        self.told.set()


def test_garbage_is_collected_in_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes it never waits for what clears it away; afterwards everything is as it was."""
    monkeypatch.setattr("flows.prefect_server.EVERY_S", 0.01)
    cleared, told = list[str](), threading.Event()
    with collected_aside():
        assert not gc.isenabled()
        Knot(cleared, told)
        assert told.wait(60)
    assert gc.isenabled()
    assert cleared == ["garbage"]


def test_the_server_that_a_flow_starts_is_such_a_one(prefect_server: str) -> None:
    """The server that is started where none is there runs Prefect's own command in this way."""
    number = int((get_current_settings().home / "server.pid").read_text())
    command = psutil.Process(number).cmdline()
    assert command[1:5] == ["-m", "flows.prefect_server", "server", "start"]
