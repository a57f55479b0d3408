"""The vendor's plans, the keys that hold them, and the exact window that counts a key's requests."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tasks.errors import InputError
from tasks.simulator.intervals import DAY_MS


@dataclass(frozen=True, slots=True)
class Plan:
    """What a key may do.

    Attributes:
        name: As the vendor calls it.
        requests_per_minute: None for no limit.
        history_days: How far back bars are served; 0 for none, None for all.
        connections: WebSocket connections at once.
        subscriptions: Symbols subscribed over all channels of one key.
        depth_and_trades: Whether the stream's depth and trade channels are open.
    """

    name: str
    requests_per_minute: int | None
    history_days: int | None
    connections: int
    subscriptions: int
    depth_and_trades: bool

    def oldest_ms(self, now_ms: int) -> int | None:
        """Return the earliest bar open this plan is served, None where there is no bound."""
        return None if self.history_days is None else now_ms - self.history_days * DAY_MS


#: The vendor's four plans, and `unlimited`: the local market's own, for long replays and benchmarks.
PLANS: dict[str, Plan] = {
    plan.name: plan
    for plan in (
        Plan("free", 30, 0, 1, 5, depth_and_trades=False),
        Plan("basic", 60, 366, 1, 50, depth_and_trades=True),
        Plan("pro", 600, 3 * 366, 3, 300, depth_and_trades=True),
        Plan("enterprise", 1_800, 10 * 366, 10, 5_000, depth_and_trades=True),
        Plan("unlimited", None, None, 1_000, 1_000_000, depth_and_trades=True),
    )
}


def plan(name: str) -> Plan:
    """Return the plan of that name.

    Raises:
        InputError: There is no such plan; the message lists them.
    """
    found = PLANS.get(name)
    if found is None:
        raise InputError(f"plan: expected one of {' '.join(PLANS)}, found {name!r}")
    return found


class RequestWindow:
    """An exact sliding window: at no instant do more than `limit` admitted requests lie in the last `period_s`."""

    def __init__(self, limit: int | None, period_s: float = 60.0) -> None:
        self.limit = limit
        self.period_s = period_s
        self._admitted: deque[float] = deque()

    def admit(self, now_s: float) -> float:
        """Count a request and return 0, or count nothing and return the seconds until one would be admitted."""
        if self.limit is None:
            return 0.0
        while self._admitted and self._admitted[0] <= now_s - self.period_s:
            self._admitted.popleft()
        if len(self._admitted) < self.limit:
            self._admitted.append(now_s)
            return 0.0
        return self._admitted[0] + self.period_s - now_s


@dataclass(slots=True)
class Key:
    """An API key: its plan and what is left of it.

    Attributes:
        plan: What it may do.
        window: Its requests of the last minute.
        quota: Requests left until a reset that never comes; None for no quota.
        addresses: The client addresses it is valid from; empty for all.
    """

    plan: Plan
    window: RequestWindow
    quota: int | None = None
    addresses: frozenset[str] = field(default_factory=frozenset)
