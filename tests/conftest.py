"""What every test shares: no Prefect state of the user's is touched, and nothing phones home."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.redis_server import redis_server

# Before anything imports Prefect, which reads these once.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="klinehouse-tests-")
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ.pop("PREFECT_API_URL", None)

# Many images forbid bytecode; the tests start some forty processes, and each would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Redis server of the test's own; yields its address."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        if url is None:
            pytest.skip("redis-server is not installed")
        yield url
