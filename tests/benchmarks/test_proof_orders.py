"""The order desk is killed for real; the long version is `make proof-orders`."""

from __future__ import annotations

import pytest

from benchmarks.killed_orders import POINTS
from benchmarks.naive_orders import NAIVE
from benchmarks.proof_orders import prove
from tasks.orders.guarantees import IdempotencyClass


@pytest.mark.parametrize("grade", [IdempotencyClass.A, IdempotencyClass.B])
def test_every_kill_leaves_every_order_placed_once(grade: IdempotencyClass) -> None:
    """Killed once at every point, the desk places nothing twice, loses nothing, and ends in agreement."""
    tally = prove(grade, "ours", len(POINTS), seed=1)
    assert tally.kills == len(POINTS)
    assert tally.orders > len(POINTS)
    assert tally.holds, tally


@pytest.mark.parametrize(("rule", "kills"), [(NAIVE, 4), ("resend at once", 6)])
def test_a_broken_rule_is_caught(rule: str, kills: int) -> None:
    """The same test finds what the usual ways do wrong, or it would prove nothing."""
    tally = prove(IdempotencyClass.B, rule, kills)
    assert tally.duplicates > 0
