"""Limits are settings: by market and interval, replaceable one by one, and identified by what they say."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from lake.timeline import INTERVALS
from tasks.errors import InputError
from tasks.quality.thresholds import MARKETS, Thresholds, for_market


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("interval", INTERVALS)
def test_every_market_and_interval_has_limits(market: str, interval: str) -> None:
    """No pair is without limits, and longer bars may never move less than shorter ones."""
    limits = for_market(market, interval)
    assert limits.max_jump >= for_market(market, "1m").max_jump
    assert limits.max_missing_fraction <= for_market(market, "1m").max_missing_fraction


def test_an_override_replaces_one_limit() -> None:
    """A setting changes the limit it names, and with it the version that verdicts carry."""
    mine = for_market("crypto", "1m", {"max_jump": 0.25, "quote_volume_tolerance": None})
    assert (mine.max_jump, mine.quote_volume_tolerance, mine.max_wick) == (0.25, None, 0.2)
    assert mine.version != for_market("crypto", "1m").version
    assert for_market("crypto", "1m", {"max_jump": 0.25}).version != mine.version


def test_equal_limits_have_one_version() -> None:
    """The version depends on the limits alone."""
    assert Thresholds(max_jump=0.1).version == Thresholds().version


def test_wrong_names_are_errors() -> None:
    """A misspelt market or limit is refused by name."""
    with pytest.raises(InputError, match="expected one of crypto futures equity"):
        for_market("bonds", "1m")
    with pytest.raises(ValidationError, match="max_jmp"):
        for_market("crypto", "1m", {"max_jmp": 1.0})
