"""When and how long to wait before a request is sent again. Pure: clock and randomness are passed in."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Bounds on what a server may make us wait (live trading must not sleep for a day on one bad header).
MIN_RETRY_AFTER_S = 0.5
MAX_RETRY_AFTER_S = 3_600.0
#: Waiters that were told the same second must not come back in the same millisecond.
RETRY_AFTER_JITTER = 0.1

_SECONDS = re.compile(r"^\d+$", re.ASCII)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of the retries of one request.

    Attributes:
        attempts: Requests sent at most, the first one included.
        base_s: Ceiling of the first wait; it doubles with every further one.
        cap_s: Ceiling of any wait.
        total_s: Ceiling of all waits of one request together.
    """

    attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 20.0
    total_s: float = 60.0

    def backoff_s(self, attempt: int, rng: random.Random) -> float:
        """Return the wait after failed attempt number `attempt` (from 1): full jitter below a doubling ceiling.

        Full jitter spreads colliding clients best: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        ceiling = min(self.cap_s, self.base_s * 2 ** (attempt - 1))
        return rng.uniform(0.0, ceiling)


def parse_retry_after(value: str | None, *, now: datetime, server_date: str | None = None) -> float | None:
    """Return the seconds a ``Retry-After`` header asks for, within bounds; None where it says nothing usable.

    The header holds seconds or an HTTP date (RFC 9110 §10.2.3). A date is compared with the answer's own ``Date``
    where there is one, so that a wrong clock on our side does not matter.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.match(text):
        return _bounded(float(text))
    until, since = _http_date(text), _http_date(server_date) or now
    if until is None or until < since:
        return None
    return _bounded((until - since).total_seconds())


def jittered(delay_s: float, rng: random.Random) -> float:
    """Return a wait of at least `delay_s`, up to a tenth longer; never earlier than the server asked."""
    return delay_s * (1.0 + RETRY_AFTER_JITTER * rng.random())


def _bounded(seconds: float) -> float:
    return min(max(seconds, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)


def _http_date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
