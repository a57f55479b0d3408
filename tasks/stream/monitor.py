"""The pressure monitor: one alert for one episode, none while the book cannot be trusted.

An episode begins when the ratio has stayed beyond its threshold for the dwell time, and ends when it comes back inside
the re-arm level. Between the two nothing more is told, however often the ratio crosses. While the book is invalid time
stands still: no dwell accrues, no episode begins or ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.errors import InputError
from tasks.stream.book import Quote

Pressure = Literal["buy", "sell"]


@dataclass(frozen=True, slots=True)
class MonitorPolicy:
    """Thresholds of the pressure ratio.

    Attributes:
        buy_above, sell_below: An episode begins beyond these.
        rearm_buy, rearm_sell: It ends back inside these.
        dwell_s: How long the ratio must stay beyond before anybody is told.
    """

    buy_above: float = 2.5
    sell_below: float = 0.4
    rearm_buy: float = 2.3
    rearm_sell: float = 0.435
    dwell_s: float = 1.0

    @classmethod
    def beyond(cls, buy_above: float, sell_below: float) -> MonitorPolicy:
        """Return thresholds with re-arm levels as far inside as 2.3 is inside 2.5, and 0.435 inside 0.4."""
        inside = (2.3 - 1.0) / (2.5 - 1.0)
        return cls(
            buy_above, sell_below, rearm_buy=1.0 + (buy_above - 1.0) * inside, rearm_sell=sell_below * (0.435 / 0.4)
        )

    def __post_init__(self) -> None:
        if not 0.0 < self.sell_below < self.rearm_sell < self.rearm_buy < self.buy_above:
            raise InputError(
                "monitor: expected 0 < sell_below < rearm_sell < rearm_buy < buy_above, found "
                f"{self.sell_below} {self.rearm_sell} {self.rearm_buy} {self.buy_above}"
            )


@dataclass(frozen=True, slots=True)
class Alert:
    """One episode of pressure has begun."""

    episode: str  #: symbol, direction and the venue's time of its first snapshot: the same after a replay
    symbol: str
    pressure: Pressure
    ratio: float
    threshold: float
    timestamp_ms: int
    at: float


@dataclass(frozen=True, slots=True)
class EpisodeEnded:
    """The episode is over; the next one alerts again."""

    episode: str
    symbol: str
    at: float


class PressureMonitor:
    """Watches one symbol's pressure ratio."""

    __slots__ = ("_beyond_since", "_episode", "_first_ms", "_leaning", "_policy", "_symbol")

    def __init__(self, symbol: str, policy: MonitorPolicy) -> None:
        self._symbol = symbol
        self._policy = policy
        self._leaning: Pressure | None = None
        self._beyond_since: float | None = None
        self._first_ms = 0
        self._episode: str | None = None

    @property
    def episode(self) -> str | None:
        """The episode under way, None between episodes."""
        return self._episode

    def observe(self, quote: Quote, now: float) -> Alert | EpisodeEnded | None:
        """Take the book as it stands at `now`; return what that begins or ends."""
        if not quote.validity.ok:
            if self._episode is None:
                self._beyond_since = None
            return None
        if self._episode is not None:
            return self._observe_episode(quote, now)
        leaning = self._beyond(quote.pressure_ratio)
        if leaning is None:
            self._beyond_since = None
            return None
        if self._beyond_since is None or leaning != self._leaning:
            self._leaning, self._beyond_since, self._first_ms = leaning, now, quote.timestamp_ms
        if now - self._beyond_since < self._policy.dwell_s:
            return None
        return self._begin(leaning, quote, now)

    def _beyond(self, ratio: float) -> Pressure | None:
        if ratio > self._policy.buy_above:
            return "buy"
        return "sell" if ratio < self._policy.sell_below else None

    def _begin(self, leaning: Pressure, quote: Quote, now: float) -> Alert:
        self._episode = f"{self._symbol}:{leaning}:{self._first_ms}"
        threshold = self._policy.buy_above if leaning == "buy" else self._policy.sell_below
        return Alert(self._episode, self._symbol, leaning, quote.pressure_ratio, threshold, quote.timestamp_ms, now)

    def _observe_episode(self, quote: Quote, now: float) -> EpisodeEnded | None:
        policy, ratio = self._policy, quote.pressure_ratio
        over = ratio < policy.rearm_buy if self._leaning == "buy" else ratio > policy.rearm_sell
        if not over or self._episode is None:
            return None
        ended, self._episode, self._beyond_since = self._episode, None, None
        return EpisodeEnded(ended, self._symbol, now)
