"""What a broker guarantees about one submission, and what may be done about an order whose outcome is unknown. Pure.

The rules come from killing a prototype 1,388 times against a broker with requests still on their way when the client
died: only two never placed an order twice nor lost one. Send the same id again where the broker keeps ids unique for
ever; otherwise wait until the request's own deadline has passed, ask, and only then send again (docs/orders.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf


class IdempotencyClass(StrEnum):
    """What a broker does with a client order id it has seen; see docs/orders.md for which broker is which."""

    A = "lifetime"
    """Unique for ever: the same id can be sent again until a definite answer comes. Exactly once."""
    B = "deadline"
    """Unique among open orders, but requests carry a deadline: "not found" after it is conclusive. Exactly once."""
    C = "lookup"
    """Can be looked up, but neither unique nor bounded in time: never sent twice. At most once."""
    D = "none"
    """No id at all: never sent twice, and doubt is for a person to resolve. At most once."""


@dataclass(frozen=True, slots=True)
class IdempotencyProfile:
    """What a broker guarantees about one submission, declared by its adapter and trusted by the manager.

    Attributes:
        grade: See `IdempotencyClass`.
        deadline_s: How long a request may take effect after it was sent, None where the broker knows no such bound.
        lag_s: How long a query may still miss an order that was accepted.
        residence_s: Where there is no deadline: how long a request is assumed to linger at most.
        retention_s: How long an ended order can be looked up; "not found" so long after sending proves nothing.
        max_id_length: Of a client order id.
    """

    grade: IdempotencyClass
    deadline_s: float | None
    lag_s: float
    residence_s: float = 60.0
    retention_s: float = inf
    max_id_length: int = 36

    @property
    def may_resend(self) -> bool:
        """Whether the same id may be sent again once its absence is conclusive."""
        return self.grade in (IdempotencyClass.A, IdempotencyClass.B)

    def conclusive_after_s(self, skew_s: float) -> float:
        """Return how long after sending "not found" proves that the order was never placed."""
        bound = self.residence_s if self.deadline_s is None else self.deadline_s
        return bound + skew_s + self.lag_s


class Step(StrEnum):
    """What to do next about an order in doubt."""

    WAIT = "wait"
    """Too early: the first request may still take effect."""
    QUERY = "query"
    """Ask the broker."""
    PROVED_ABSENT = "proved_absent"
    """It was never placed, and never will be by the first request."""
    GIVE_UP = "give_up"
    """Nobody can tell: it stays in doubt, blocks its symbol, and a person is called."""


#: Answers "not found" until a broker without a deadline is not asked any more.
_QUERIES = 3


def next_step(
    profile: IdempotencyProfile, *, since_sent_s: float, not_found: int, skew_s: float = 1.0, refused: bool = False
) -> Step:
    """Return what to do about an order whose outcome is unknown.

    Args:
        profile: What the broker guarantees.
        since_sent_s: Time since the last request that may yet take effect was sent (since its intent was committed,
            after a crash).
        not_found: Answers "not found" that were given after the moment from which they count.
        skew_s: How far our clock and the broker's may be apart.
        refused: Sending it again was refused, which tells the fate of that request alone: an earlier one may be alive,
            and none will be sent any more.
    """
    # Class A: a second request under the same id can only become the same order, so only the index can lag.
    unique = profile.grade is IdempotencyClass.A and not refused
    counts_from = profile.lag_s if unique else profile.conclusive_after_s(skew_s)
    if since_sent_s < counts_from:
        return Step.WAIT
    if not_found == 0:
        return Step.QUERY
    if profile.may_resend and since_sent_s < profile.retention_s:
        return Step.PROVED_ABSENT
    if not_found < _QUERIES or since_sent_s < counts_from + 2 * profile.lag_s:
        return Step.QUERY
    return Step.GIVE_UP
