"""What every test shares: no Prefect state of the user's is touched, and nothing phones home."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from functools import cache

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.redis_server import redis_server

# Before anything imports Prefect, which reads these once.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="klinehouse-tests-")
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ.pop("PREFECT_API_URL", None)

# Many images forbid bytecode; the tests start some forty processes, and each would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same cases each time: a new one is looked for by `make proof-properties`, not by whoever's change is tested.
# That a busy machine draws them slowly says nothing of them either.
hypothesis.settings.register_profile(
    "suite",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("search", derandomize=False, deadline=None, print_blob=True)
hypothesis.settings.load_profile("suite")


def pytest_unconfigure() -> None:
    """Leave nothing of this process's Prefect behind."""
    shutil.rmtree(os.environ["PREFECT_HOME"], ignore_errors=True)  # a server that is still ending may write there


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the tests without a look at the garbage: there is none yet, and looking took two seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _imports_are_not_garbage() -> None:
    """Keep the collector away from what importing every test has made: it took half a second each time it looked."""
    if not gc.get_freeze_count():  # at first, and after a live flow has thawed what it froze itself
        gc.collect()  # so that no garbage is kept with it
        gc.freeze()


@pytest.fixture(autouse=True)
def _one_day() -> None:
    """Begin no test in the last seconds of a day: what is counted by the day would be counted in two."""
    left_s = 86_400 - time.time() % 86_400
    if left_s < 10:
        time.sleep(left_s)


@pytest.fixture
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Redis server of the test's own; yields its address."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        if url is None:
            pytest.skip("redis-server is not installed")
        yield url


class OneServerScheduling(LoadFileScheduling):
    """Deals the tests out by file, and the files that need the Prefect server all to one worker.

    A server's start costs ten seconds of a core: it is paid once, not by every worker.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "prefect server" if self._needs_server(file) else file

    @cache  # noqa: B019  (one scheduler a run)
    def _needs_server(self, file: str) -> bool:
        text = (self.config.rootpath / file).read_text()
        return re.search(r"\b(prefect_server|orchestrated): str", text) is not None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneServerScheduling | None:
    """Take the place of ``--dist loadfile``."""
    return OneServerScheduling(config, log) if config.getoption("dist") == "loadfile" else None
