"""Requests and windows as values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.timeline import INTERVALS, interval, to_ms
from tasks.errors import InputError
from tasks.exchange import request
from tasks.exchange.request import Window, kline_request, plan_windows, request_window, slots

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC))


@given(MOMENTS, st.integers(0, 5_000), st.sampled_from(sorted(INTERVALS)), st.integers(1, 1_000))
def test_windows_tile_the_range(start: datetime, bars: int, name: str, page_bars: int) -> None:
    """Windows touch, none is empty or larger than a page, and together they hold every open of the range once."""
    grid = interval(name)
    end = start + bars * (grid.step or timedelta(days=30))
    windows = list(plan_windows(name, start, end, page_bars))
    assert all(1 <= slots(name, one) <= page_bars for one in windows)
    assert all(left.end == right.start for left, right in pairwise(windows))
    assert sum(slots(name, one) for one in windows) == sum(1 for _ in grid.opens(start, end))


def test_the_last_millisecond_is_never_a_bars_open() -> None:
    """`end_time` lies between the last open and the next, so that it selects the same bars included or not."""
    window = Window(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 10, tzinfo=UTC))
    params = dict(kline_request("BTCUSDT", "1m", window).params)
    assert params["start_time"] == str(to_ms(window.start))
    assert params["end_time"] == str(to_ms(window.end) - 1)
    assert params["limit"] == "10"


def test_a_request_names_its_window() -> None:
    """The window can be read back from the request."""
    window = Window(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC))
    assert request_window(kline_request("BTCUSDT", "1h", window)) == window


def test_months_are_spelled_the_vendors_way() -> None:
    """Our `1mo` is the vendor's `1M`, in both directions; the other names are the same."""
    assert [request.vendor_interval(name) for name in ("1mo", "1m")] == ["1M", "1m"]
    assert [request.our_interval(name) for name in ("1M", "1m")] == ["1mo", "1m"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda: list(plan_windows("1m", datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC))),
        lambda: list(plan_windows("1m", datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC), 0)),
        lambda: request.depth_request("BTCUSDT", 51),
        lambda: request.trades_request("BTCUSDT", 1_001),
        lambda: request.tickers_request([]),
        lambda: request.tickers_request([f"S{i}" for i in range(51)]),
        lambda: request.vendor_interval("7m"),
    ],
)
def test_a_wrong_argument_is_refused_before_it_is_sent(ask) -> None:
    """What the vendor would refuse costs no request: the message says what was expected and what was found."""
    with pytest.raises(InputError, match=r"expected .* found"):
        ask()


def test_a_request_prints_without_secrets() -> None:
    """A request is path and query; it never holds host or key."""
    assert str(request.depth_request("BTCUSDT", 5)) == "/v1/market/depth?symbol=BTCUSDT&limit=5"
    assert str(request.intervals_request()) == "/v1/market/intervals/kline"
