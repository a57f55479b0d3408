"""Faults of whole answers: which request they strike, and what the client gets instead."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tasks.simulator.faults import ANSWERS, Faults, Injection, chance
from tasks.simulator.refusals import Refusal

_SERVER_ERRORS = (5000, 5001, 5002)


class Strikes:
    """Throws the dice for each request.

    Attributes:
        injected: Every answer struck, in order.
    """

    def __init__(self) -> None:
        self.injected: list[Injection] = []
        self._asked: Counter[str] = Counter()
        self._storm_left = 0

    def asked(self, target: str) -> int:
        """Return how often this very request was made."""
        return self._asked[target]

    def strike(self, faults: Faults, target: str) -> str | None:
        """Return ``drop`` or ``truncate`` where one of them strikes this answer.

        Raises:
            Refusal: The fault is an error code: the forced one, a storm's 3001, or a 5xx.
        """
        self._asked[target] += 1
        if faults.code is not None:
            self.injected.append(Injection("code", target))
            raise Refusal(faults.code)
        if self._storm_left:
            self._storm_left -= 1
            raise self._storm(faults, target)
        for name in ANSWERS:
            if chance(faults.seed, name, target, self._asked[target]) < getattr(faults, name):
                return self._struck(faults, name, target)
        return None

    def _struck(self, faults: Faults, name: str, target: str) -> str:
        if name == "storm_p":
            self._storm_left = faults.storm_requests - 1
            raise self._storm(faults, target)
        self.injected.append(Injection(name.removesuffix("_p"), target))
        if name == "server_error_p":
            raise Refusal(_SERVER_ERRORS[self._asked[target] % len(_SERVER_ERRORS)])
        return name.removesuffix("_p")

    def _storm(self, faults: Faults, target: str) -> Refusal:
        self.injected.append(Injection("storm", target))
        until = datetime.now(UTC) + timedelta(seconds=faults.retry_after_s)
        said = format_datetime(until, usegmt=True) if faults.retry_after_as_date else str(faults.retry_after_s)
        return Refusal(3001, headers={"Retry-After": said})
