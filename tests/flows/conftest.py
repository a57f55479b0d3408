"""A real Prefect server on a free port, one for the whole session."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

#: Below those that a system gives away by itself, one of which another test may have by the time it is listened on.
_PORTS = range(20_000, 32_000)
_tried = count(os.getpid() * 131)


def free_port() -> int:
    """Return a port nobody listens on, and none of this process's tests was given before."""
    for number in _tried:
        port = _PORTS[number % len(_PORTS)]
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the ports never end")


def call_first_flow(port: int) -> str:
    """Call a flow from a script of its own on a machine that has no server configured; returns what it printed."""
    script = (
        "import asyncio, flows.adhoc as adhoc\n"
        "from prefect.settings import PREFECT_API_URL\n"
        "@adhoc.flow(name='first')\n"
        "async def first() -> str: return PREFECT_API_URL.value()\n"
        "print(first())\n"
    )
    environment = os.environ | {"PREFECT_SERVER_API_PORT": str(port)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """Start the session's Prefect server as a script does that finds none; stop it at the end; yields its address."""
    address = call_first_flow(free_port())
    yield address
    subprocess.run([sys.executable, "-m", "prefect", "server", "stop"], env=os.environ, check=True, capture_output=True)


@pytest.fixture
def orchestrated(prefect_server: str) -> Iterator[str]:
    """Point this process's Prefect client at the session's server."""
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield prefect_server
