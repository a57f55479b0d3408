"""Each fault strikes what it says, as often as it says, and is written down."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import numpy as np
import pytest

from tasks.errors import InputError
from tasks.simulator.faults import Faults, chances
from tasks.simulator.server import Simulator
from tests.simulator.conftest import NOW, START_MS, get, klines

MINUTE = 60_000
PAGE = {"start_time": START_MS, "end_time": START_MS + 999 * MINUTE + 1}


def _struck(sim: Simulator, fault: str) -> list[datetime]:
    return [item.timestamp for item in sim.injected if item.fault == fault and item.timestamp is not None]


def _opens(bars: list[dict]) -> list[int]:
    return [bar["time"] for bar in bars]


@pytest.fixture
def fresh(small_market: object) -> object:
    """A simulator whose record of faults is empty."""
    with Simulator(small_market, plan="unlimited", now=NOW) as sim:  # type: ignore[arg-type]
        yield sim


def test_chances_are_fair_and_repeatable() -> None:
    """The dice are uniform, depend on every argument, and never on a running generator."""
    times = np.arange(100_000) * MINUTE
    draws = chances(1, "missing", "BTCUSDT", times)
    assert np.array_equal(draws, chances(1, "missing", "BTCUSDT", times))
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs((draws < 0.01).mean() - 0.01) < 0.002
    for other in (chances(2, "missing", "BTCUSDT", times), chances(1, "lost", "BTCUSDT", times)):
        assert abs(np.corrcoef(draws, other)[0, 1]) < 0.02


def test_a_probability_outside_0_to_1_is_refused() -> None:
    """The message names the field."""
    with pytest.raises(InputError, match="drop_p"):
        Faults(drop_p=1.5)


def test_without_faults_nothing_is_injected(fresh: Simulator) -> None:
    """A clean page is the truth and leaves no record."""
    assert len(klines(fresh, **PAGE)) == 1000
    assert fresh.injected == ()


def test_missing_bars_heal_when_asked_again(fresh: Simulator) -> None:
    """A second ask has the bars that the first had not, and the record names them."""
    fresh.faults = Faults(seed=1, missing_p=0.02)
    first, second = klines(fresh, **PAGE), klines(fresh, **PAGE)
    gone = sorted(set(_opens(second)) - set(_opens(first)))
    assert 5 < len(gone) < 50
    assert len(second) == 1000
    assert gone == [int(stamp.timestamp()) * 1000 for stamp in _struck(fresh, "missing")]


def test_lost_bars_never_come(fresh: Simulator) -> None:
    """However often a lost bar is asked for, it is not there."""
    fresh.faults = Faults(seed=1, lost_p=0.02)
    first, second = klines(fresh, **PAGE), klines(fresh, **PAGE)
    assert first == second
    assert len(first) == 1000 - len(_struck(fresh, "lost")) < 1000


def test_duplicated_bars_come_twice_in_one_page(fresh: Simulator) -> None:
    """The page holds the truth and the copies."""
    fresh.faults = Faults(seed=1, duplicate_p=0.02)
    counts = Counter(_opens(klines(fresh, **PAGE)))
    twice = sorted(time for time, count in counts.items() if count == 2)
    assert len(counts) == 1000
    assert twice == [int(stamp.timestamp()) * 1000 for stamp in _struck(fresh, "duplicate")]
    assert twice


def test_revised_bars_settle_on_the_truth(fresh: Simulator) -> None:
    """First served provisional, then as they really were."""
    truth = klines(fresh, **PAGE)
    fresh.faults = Faults(seed=1, revise_p=0.02)
    first, second = klines(fresh, **PAGE), klines(fresh, **PAGE)
    changed = [bar["time"] for bar, true in zip(first, truth, strict=True) if bar != true]
    assert second == truth
    assert changed == [int(stamp.timestamp()) * 1000 for stamp in _struck(fresh, "revise")]
    assert changed


def test_a_shuffled_page_has_the_same_bars(fresh: Simulator) -> None:
    """Only the order is wrong."""
    truth = klines(fresh, **PAGE)
    fresh.faults = Faults(shuffle_p=1.0)
    page = klines(fresh, **PAGE)
    assert page != truth
    assert sorted(page, key=lambda bar: bar["time"]) == truth


def test_a_forming_bar_can_be_served_as_complete(fresh: Simulator) -> None:
    """The page ends with the bar that opened seventeen seconds ago, unless its range stops before."""
    fresh.faults = Faults(forming_p=1.0)
    now_ms = int(NOW.timestamp()) * 1000
    assert klines(fresh, limit=3)[-1]["time"] == now_ms - 17_000
    assert klines(fresh, limit=3, end_time=now_ms - 60_000)[-1]["time"] < now_ms - 60_000
    assert [item.fault for item in fresh.injected] == ["forming"]


@pytest.mark.parametrize("fault", ["blank", "inverted", "negative", "spike", "frozen"])
def test_bad_values_stay_and_are_recorded(fresh: Simulator, fault: str) -> None:
    """A spoiled bar is spoiled at every ask; all others are the truth."""
    truth = klines(fresh, **PAGE)
    fresh.faults = Faults(seed=2, **{f"{fault}_p": 0.004})  # type: ignore[arg-type]
    page = klines(fresh, **PAGE)
    assert klines(fresh, **PAGE) == page
    struck = {int(stamp.timestamp()) * 1000 for stamp in _struck(fresh, fault)}
    changed = {bar["time"] for bar, true in zip(page, truth, strict=True) if bar != true}
    assert changed <= struck
    assert len(changed) >= len(struck) - 1  # a frozen bar may equal the price it is stuck at
    for bar in (bar for bar in page if bar["time"] in struck):
        match fault:
            case "blank":
                assert bar["close"] in (None, "", "NaN")
            case "inverted":
                assert float(bar["high"]) < float(bar["low"])
            case "negative":
                assert float(bar["volume"]) < 0
            case "spike":
                assert float(bar["close"]) > 5 * float(bar["open"])
            case "frozen":
                assert bar["open"] == bar["high"] == bar["low"] == bar["close"]


def test_a_frozen_price_stands_for_its_run_across_pages(fresh: Simulator) -> None:
    """A run that began on the page before goes on at the start of the next."""
    fresh.faults = Faults(seed=2, frozen_p=0.004, frozen_bars=40)
    whole = klines(fresh, **PAGE)
    halves = [
        *klines(fresh, start_time=START_MS, end_time=START_MS + 500 * MINUTE),
        *klines(fresh, start_time=START_MS + 500 * MINUTE, end_time=START_MS + 1000 * MINUTE),
    ]
    assert halves == whole


def test_storms_refuse_in_a_row(fresh: Simulator) -> None:
    """A storm is a run of 429 with code 3001, and ends when the faults are lifted."""
    fresh.faults = Faults(storm_p=1.0, retry_after_s=2)
    status, headers, body = get(fresh, "/v1/market/intervals/kline")
    assert (status, body["code"], headers["Retry-After"]) == (429, 3001, "2")
    fresh.faults = Faults(storm_requests=5)
    codes = [get(fresh, "/v1/market/intervals/kline")[2]["code"] for _ in range(5)]
    assert codes == [3001] * 4 + [0]


def test_retry_after_may_be_a_date(fresh: Simulator) -> None:
    """The header's other form is an HTTP date in the future."""
    fresh.faults = Faults(storm_p=1.0, retry_after_s=30, retry_after_as_date=True)
    asked_at = datetime.now(UTC)
    _, headers, _ = get(fresh, "/v1/market/intervals/kline")
    opens_at = parsedate_to_datetime(headers["Retry-After"])
    assert timedelta(seconds=29) < opens_at - asked_at
    assert opens_at - datetime.now(UTC) <= timedelta(seconds=30)


def test_server_errors_are_5xx_with_their_codes(fresh: Simulator) -> None:
    """All three server codes occur."""
    fresh.faults = Faults(server_error_p=1.0)
    answers = {get(fresh, "/v1/market/intervals/kline")[::2][0] for _ in range(3)}
    assert answers == {500, 503, 504}


@pytest.mark.parametrize("code", [1001, 1002, 1003, 1004, 2001, 2002, 2003, 2004, 3001, 3002, 5000, 5001, 5002])
def test_every_code_can_be_forced(fresh: Simulator, code: int) -> None:
    """A client can be shown any code of the protocol."""
    fresh.faults = Faults(code=code)
    assert get(fresh, "/v1/market/intervals/kline")[2]["code"] == code


def test_dropped_connections_end_without_an_answer(fresh: Simulator) -> None:
    """The client sees a reset or an empty reply, and the record says so."""
    fresh.faults = Faults(drop_p=1.0)
    with pytest.raises((urllib.error.URLError, http.client.RemoteDisconnected, ConnectionError)):
        get(fresh, "/v1/market/intervals/kline")
    assert [item.fault for item in fresh.injected] == ["drop"]
    assert fresh.requests["/v1/market/intervals/kline", 0] == 1


def test_truncated_bodies_end_early(fresh: Simulator) -> None:
    """Half of the time Content-Length tells, half of the time only the JSON does."""
    fresh.faults = Faults(truncate_p=1.0)
    seen = set()
    for _ in range(4):
        try:
            klines(fresh, limit=5)
        except (http.client.IncompleteRead, json.JSONDecodeError) as error:
            seen.add(type(error))
    assert seen == {http.client.IncompleteRead, json.JSONDecodeError}


def test_latency_is_waited(fresh: Simulator) -> None:
    """Every answer takes at least that long."""
    fresh.faults = Faults(latency_s=0.05)
    began = time.perf_counter()
    klines(fresh, limit=1)
    assert time.perf_counter() - began >= 0.05


def test_faults_do_not_depend_on_the_order_of_requests(small_market: object) -> None:
    """Two simulators asked in opposite orders spoil the same bars."""
    windows = [
        {"start_time": START_MS + n * 250 * MINUTE, "end_time": START_MS + (n + 1) * 250 * MINUTE} for n in range(4)
    ]
    seen = []
    for order in (windows, windows[::-1]):
        faults = Faults(seed=9, lost_p=0.01, spike_p=0.01, missing_p=0.01)
        with Simulator(small_market, plan="unlimited", now=NOW, faults=faults) as sim:  # type: ignore[arg-type]
            for window in order:
                klines(sim, **window)
            seen.append({(item.fault, item.timestamp) for item in sim.injected})
    assert seen[0] == seen[1]
    assert len(seen[0]) > 10
