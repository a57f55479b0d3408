"""Waiting before a request is sent again."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.exchange.retry import RetryPolicy, jittered, parse_retry_after

NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "server_date", "seconds"),
    [
        ("5", None, 5.0),
        (" 60 ", None, 60.0),
        ("0", None, 0.5),
        ("99999999", None, 3600.0),
        ("Mon, 01 Jan 2024 00:00:30 GMT", None, 30.0),
        ("Monday, 01-Jan-24 00:00:30 GMT", None, 30.0),
        ("Mon, 01 Jan 2024 00:00:30", None, 30.0),
        ("Mon, 01 Jan 2024 00:00:30 GMT", "Mon, 01 Jan 2024 00:00:20 GMT", 10.0),
        ("Mon, 01 Jan 2024 00:00:30 GMT", "not a date", 30.0),
        ("Wed, 01 Jan 2025 00:00:00 GMT", None, 3600.0),
        ("Sun, 31 Dec 2023 00:00:00 GMT", None, None),
        ("-1", None, None),
        ("1.5", None, None),
        ("٣", None, None),
        ("soon", None, None),
        ("Mon, 99 Jan 2024 00:00:30 GMT", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_retry_after_is_read_in_every_form(header: str | None, server_date: str | None, seconds: float | None) -> None:
    """Seconds and HTTP dates are read within bounds, a date against the server's own clock; garbage means nothing."""
    assert parse_retry_after(header, now=NOW, server_date=server_date) == seconds


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_header_can_crash_the_client(header: str, server_date: str) -> None:
    """Whatever stands in the header, the answer is None or a wait within bounds."""
    seconds = parse_retry_after(header, now=NOW, server_date=server_date)
    assert seconds is None or 0.5 <= seconds <= 3600.0


@given(st.integers(1, 50), st.integers())
def test_backoff_stays_below_its_ceiling(attempt: int, seed: int) -> None:
    """Full jitter: anywhere between zero and a ceiling that doubles up to the cap."""
    policy = RetryPolicy(base_s=0.5, cap_s=20.0)
    assert 0.0 <= policy.backoff_s(attempt, random.Random(seed)) <= min(20.0, 0.5 * 2 ** (attempt - 1))


@given(st.floats(0.5, 3600.0), st.integers())
def test_a_named_wait_is_never_shortened(delay_s: float, seed: int) -> None:
    """Jitter on Retry-After only lengthens, by a tenth at most."""
    assert delay_s <= jittered(delay_s, random.Random(seed)) <= delay_s * 1.1
