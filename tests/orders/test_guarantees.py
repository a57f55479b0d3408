"""What may be done about an order in doubt, by what its broker guarantees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile, Step, next_step

A = IdempotencyProfile(IdempotencyClass.A, deadline_s=5, lag_s=1)
B = IdempotencyProfile(IdempotencyClass.B, deadline_s=5, lag_s=1)
C = IdempotencyProfile(IdempotencyClass.C, deadline_s=None, lag_s=2, residence_s=60)
D = IdempotencyProfile(IdempotencyClass.D, deadline_s=None, lag_s=2, residence_s=60)
FORGETFUL = IdempotencyProfile(IdempotencyClass.B, deadline_s=5, lag_s=1, retention_s=100)


@pytest.mark.parametrize(
    ("profile", "since", "not_found", "step"),
    [
        (A, 0.5, 0, Step.WAIT),
        (A, 1, 0, Step.QUERY),
        (A, 1, 1, Step.PROVED_ABSENT),
        (B, 6.9, 0, Step.WAIT),
        (B, 6.9, 5, Step.WAIT),
        (B, 7, 0, Step.QUERY),
        (B, 7, 1, Step.PROVED_ABSENT),
        (C, 62, 0, Step.WAIT),
        (C, 63, 0, Step.QUERY),
        (C, 63, 1, Step.QUERY),
        (C, 66, 3, Step.QUERY),
        (C, 67, 3, Step.GIVE_UP),
        (D, 67, 3, Step.GIVE_UP),
        (FORGETFUL, 99, 1, Step.PROVED_ABSENT),
        (FORGETFUL, 100, 0, Step.QUERY),
        (FORGETFUL, 100, 2, Step.QUERY),
        (FORGETFUL, 100, 3, Step.GIVE_UP),
    ],
)
def test_the_rules(profile: IdempotencyProfile, since: float, not_found: int, step: Step) -> None:
    """Wait, ask, then send again where that is safe and call a person where it is not."""
    assert next_step(profile, since_sent_s=since, not_found=not_found) is step


def test_a_refused_resend_waits_for_the_first_request() -> None:
    """Where sending again was refused, uniqueness helps no more: only the first request's deadline settles it."""
    assert next_step(A, since_sent_s=6.9, not_found=5, refused=True) is Step.WAIT
    assert next_step(A, since_sent_s=7, not_found=0, refused=True) is Step.QUERY
    assert next_step(A, since_sent_s=7, not_found=1, refused=True) is Step.PROVED_ABSENT


@given(st.sampled_from([B, C, D, FORGETFUL]), st.floats(0, 200), st.integers(0, 5))
def test_nothing_is_proved_while_the_request_may_live(
    profile: IdempotencyProfile, since: float, not_found: int
) -> None:
    """Before the deadline no answer counts, nor once the order may be forgotten; without one nothing is sent twice."""
    step = next_step(profile, since_sent_s=since, not_found=not_found)
    if step is Step.PROVED_ABSENT:
        assert profile.may_resend
        assert profile.conclusive_after_s(1.0) <= since < profile.retention_s
