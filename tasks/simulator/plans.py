"""The vendor's plans, the keys that hold them, and the exact window that counts a key's requests."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil

from tasks.errors import InputError
from tasks.simulator.intervals import DAY_MS
from tasks.simulator.refusals import Refusal


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
        while self._admitted and self._admitted[0] + self.period_s <= now_s:  # as below: a wait is never rounded to 0
            self._admitted.popleft()
        if len(self._admitted) < self.limit:
            self._admitted.append(now_s)
            return 0.0
        return self._admitted[0] + self.period_s - now_s


@dataclass(slots=True)
class Key:
    """An API key: its plan and what is left of it.

    Attributes:
        text: What the client sends.
        plan: What it may do.
        window: Its requests of the last minute.
        quota: Requests left until a reset that never comes; None for no quota.
        addresses: The client addresses it is valid from; empty for all.
    """

    text: str
    plan: Plan
    window: RequestWindow
    quota: int | None = None
    addresses: frozenset[str] = frozenset()


class Keyring:
    """Every valid key.

    Args:
        period_s: The length of the vendor's minute.
    """

    def __init__(self, period_s: float = 60.0) -> None:
        self._period_s = period_s
        self._keys: dict[str, Key] = {}

    def add(self, text: str, plan_name: str, quota: int | None, addresses: frozenset[str]) -> None:
        """Make a key valid, or change what it holds; its window starts empty."""
        held = plan(plan_name)
        window = RequestWindow(held.requests_per_minute, self._period_s)
        self._keys[text] = Key(text, held, window, quota, addresses)

    def find(self, text: str, address: str | None) -> Key:
        """Return a key, uncounted.

        Raises:
            Refusal: 1001 for an unknown key, 1002 for none, 1003 for an address it is not valid from.
        """
        if not text:
            raise Refusal(1002)
        key = self._keys.get(text)
        if key is None:
            raise Refusal(1001)
        if key.addresses and address not in key.addresses:
            raise Refusal(1003, str(address))
        return key

    def admit(self, text: str, address: str | None, now_s: float) -> Key:
        """Return a key, the request counted against its limits.

        Raises:
            Refusal: What `find` raises; 3001 for the key's minute, 3002 for its quota.
        """
        key = self.find(text, address)
        if key.quota is not None and key.quota <= 0:
            raise Refusal(3002)
        wait_s = key.window.admit(now_s)
        if wait_s > 0:
            raise Refusal(3001, headers={"Retry-After": str(max(1, ceil(wait_s)))})
        if key.quota is not None:
            key.quota -= 1
        return key
