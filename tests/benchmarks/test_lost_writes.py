"""Power is cut while orders are sent; the long version is `make proof-powercut`."""

from __future__ import annotations

import pytest

from benchmarks.lost_writes import OURS, WAYS, cut_power


def test_what_was_sent_is_on_record_after_a_power_cut() -> None:
    """Whatever was not synced is lost, and still every order whose bytes reached the broker is in the journal."""
    tally = cut_power(OURS, 60, seed=2)
    assert tally.cuts == 60
    assert tally.sent > 60
    assert tally.holds, tally


@pytest.mark.parametrize("way", [way for way in WAYS if way != OURS])
def test_a_broken_way_of_writing_is_caught(way: str) -> None:
    """Without a sync before the send the same test finds orders that nobody wrote down."""
    assert not cut_power(way, 30, seed=2).holds
