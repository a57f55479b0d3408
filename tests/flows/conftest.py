"""A real Prefect server on a free port, one for the whole session."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import adhoc


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """Start a Prefect server of the session's own and stop it at the end; yields its /api address."""
    port = free_port()
    adhoc.start_server("127.0.0.1", port)
    yield f"http://127.0.0.1:{port}/api"
    subprocess.run([sys.executable, "-m", "prefect", "server", "stop"], env=os.environ, check=True, capture_output=True)


@pytest.fixture
def orchestrated(prefect_server: str) -> Iterator[str]:
    """Point this process's Prefect client at the session's server."""
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield prefect_server
