"""One small market and one running simulator for the whole room."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.simulator.faults import Faults
from tasks.simulator.market import Market, generated
from tasks.simulator.server import Simulator

#: One day of minutes; the clock stands seventeen seconds into a minute.
START, END = datetime(2025, 3, 3, tzinfo=UTC), datetime(2025, 3, 5, tzinfo=UTC)
NOW = datetime(2025, 3, 4, 15, 30, 17, tzinfo=UTC)
START_MS = int(START.timestamp()) * 1000

Answer = tuple[int, dict[str, str], Any]
Get = Callable[..., Answer]


@pytest.fixture(scope="session")
def small_market() -> Market:
    """Two days of a pair, a stock, a future and an ambiguous name."""
    symbols = ("BTCUSDT", "ACME.US", "BU2609", "SPX:stock", "SPX:indices")
    return generated(seed=5, symbols=symbols, start=START, end=END)


@pytest.fixture(scope="module")
def running(small_market: Market) -> Iterator[Simulator]:
    """A simulator without limits, shared by a module."""
    with Simulator(small_market, plan="unlimited", now=NOW) as sim:
        yield sim


@pytest.fixture
def sim(running: Simulator) -> Iterator[Simulator]:
    """The shared simulator, its faults cleared afterwards."""
    yield running
    running.faults = Faults()


def get(sim: Simulator, path: str, key: str | None = None, **query: object) -> Answer:
    """Return status, headers and decoded body of a GET; ``key=""`` sends none."""
    text = "&".join(f"{name}={value}" for name, value in query.items())
    headers = {"X-API-Key": sim.api_key if key is None else key} if key != "" else {}
    request = urllib.request.Request(f"{sim.url}{path}?{text}", headers=headers)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
            return answer.status, dict(answer.headers), json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.loads(error.read())


def klines(sim: Simulator, **query: object) -> list[dict[str, Any]]:
    """Return the bars of a page that must be served."""
    status, _, body = get(sim, "/v1/market/kline", **{"symbol": "BTCUSDT", "interval": "1m", "limit": 1000, **query})
    assert status == 200, body
    return body["data"]["klines"]
