"""One symbol's book, and what may be derived from it: every value carries its validity, none comes from a bad book."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from operator import ge, le

from tasks.stream.messages import Depth, Level


class Fault(StrEnum):
    """Why nothing may be derived from a book."""

    NO_DATA = "no snapshot yet"
    GAP = "data is missing"
    WARM_UP = "too few snapshots since the last gap"
    OLD = "the last snapshot is too old"
    OUT_OF_ORDER = "the snapshot is older than the newest"
    THIN = "a side is empty"
    BAD_LEVEL = "a price or size is not a sensible positive number"
    UNSORTED = "levels are not sorted best first"
    CROSSED = "the best bid is not below the best ask"
    DEGRADED = "polled by REST, because the channel is unavailable"


#: Faults that a person should know of but that leave the book's figures right.
HARMLESS = frozenset({Fault.DEGRADED})


@dataclass(frozen=True, slots=True)
class BookPolicy:
    """When a book is good enough.

    Attributes:
        max_age_s: Since we received the last snapshot.
        max_venue_age_s: Since the venue made it, by the venue's clock; catches a server that repeats old data.
        warm_up: Snapshots needed after a gap.
        levels: Levels kept on each side.
    """

    max_age_s: float = 2.0
    max_venue_age_s: float = 5.0
    warm_up: int = 3
    levels: int = 10


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether values may be used, and if not, every reason."""

    faults: tuple[Fault, ...]
    age_s: float
    levels: int

    @property
    def ok(self) -> bool:
        """Whether the values may be used."""
        return not set(self.faults) - HARMLESS


@dataclass(frozen=True, slots=True)
class Quote:
    """What the book says now; every figure is NaN unless `validity.ok`."""

    symbol: str
    timestamp_ms: int
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    spread: float
    pressure_ratio: float
    imbalance: float
    microprice: float
    validity: Validity


def pressure_ratio(bid_size: float, ask_size: float) -> float:
    """Return ``bid_size / ask_size`` of the best level; NaN where a side is missing."""
    return bid_size / ask_size if bid_size > 0.0 and ask_size > 0.0 else math.nan


def imbalance(bid_size: float, ask_size: float) -> float:
    """Return ``(bid_size − ask_size) / (bid_size + ask_size)``, in [−1, 1]; NaN where a side is missing."""
    return (bid_size - ask_size) / (bid_size + ask_size) if bid_size > 0.0 and ask_size > 0.0 else math.nan


def microprice(bid: float, bid_size: float, ask: float, ask_size: float) -> float:
    """Return the mid weighted by the opposite side's size; NaN where a side is missing."""
    if not (bid_size > 0.0 and ask_size > 0.0):
        return math.nan
    return (ask * bid_size + bid * ask_size) / (bid_size + ask_size)


class Book:
    """The latest snapshot of one symbol. Snapshots replace; nothing is ever merged across messages or connections."""

    __slots__ = (
        "_late",
        "_newest",
        "_policy",
        "_received",
        "_unsound",
        "_warm",
        "degraded",
        "gap",
        "snapshot",
        "symbol",
    )

    def __init__(self, symbol: str, policy: BookPolicy) -> None:
        self.symbol = symbol
        self.snapshot: Depth | None = None
        self.gap = False
        self.degraded = False
        self._policy = policy
        self._received = -math.inf
        self._warm = 0
        self._newest = -math.inf
        self._late = False
        self._unsound: list[Fault] | None = []

    @property
    def is_sound(self) -> bool:
        """Whether the levels of the last snapshot make sense, whatever its age."""
        return not self._level_faults()

    def apply(self, depth: Depth, now: float) -> None:
        """Replace the book by a snapshot received at `now`."""
        behind_ms = self._newest - depth.timestamp
        self._late = behind_ms > 0
        # What is further behind is told by its age, or the newest one was stamped wrong: that must not shut the book.
        if not self._late or behind_ms > 1000.0 * self._policy.max_venue_age_s:
            self._newest = depth.timestamp
        self.snapshot = depth
        self._unsound = None
        self._received = now
        self._warm += 1

    def begin_gap(self) -> None:
        """Forget the snapshot: what happens now is not known."""
        self.gap, self.snapshot, self._unsound, self._warm, self._newest = True, None, [], 0, -math.inf

    def end_gap(self) -> None:
        """Trust snapshots again, after the warm-up."""
        self.gap = False

    def quote(self, now: float, venue_ms: float | None = None) -> Quote:
        """Return what the book says at `now`.

        Args:
            now: Monotonic seconds.
            venue_ms: The venue's clock now, where it is known.
        """
        faults = tuple(self._faults(now, venue_ms))
        depth = self.snapshot
        levels = 0 if depth is None else min(len(depth.bids), len(depth.asks))
        validity = Validity(faults, now - self._received, levels)
        timestamp = 0 if depth is None else depth.timestamp
        if depth is None or not validity.ok:
            nan = math.nan
            return Quote(self.symbol, timestamp, nan, nan, nan, nan, nan, nan, nan, nan, validity)
        (bid, bid_size), (ask, ask_size) = depth.bids[0], depth.asks[0]
        return Quote(
            self.symbol,
            timestamp,
            bid,
            bid_size,
            ask,
            ask_size,
            ask - bid,
            pressure_ratio(bid_size, ask_size),
            imbalance(bid_size, ask_size),
            microprice(bid, bid_size, ask, ask_size),
            validity,
        )

    def _faults(self, now: float, venue_ms: float | None) -> list[Fault]:
        depth, policy = self.snapshot, self._policy
        found = [Fault.GAP] if self.gap else []
        if self.degraded:
            found.append(Fault.DEGRADED)
        if depth is None:
            return [*found, Fault.NO_DATA]
        if self._warm < policy.warm_up:
            found.append(Fault.WARM_UP)
        venue_age_s = 0.0 if venue_ms is None else (venue_ms - depth.timestamp) / 1000.0
        if now - self._received > policy.max_age_s or venue_age_s > policy.max_venue_age_s:
            found.append(Fault.OLD)
        if self._late:
            found.append(Fault.OUT_OF_ORDER)
        return found + self._level_faults()

    def _level_faults(self) -> list[Fault]:
        """Judge the levels of a snapshot once, when somebody first asks."""
        if self._unsound is None:
            assert self.snapshot is not None  # noqa: S101  (only a snapshot leaves them unjudged)
            self._unsound = level_faults(self.snapshot.bids, self.snapshot.asks)
        return self._unsound


def level_faults(bids: list[Level], asks: list[Level]) -> list[Fault]:
    """Return what is wrong with a snapshot's levels, whatever its age."""
    if not bids or not asks:
        return [Fault.THIN]
    if not (_is_sound(bids) and _is_sound(asks)):
        return [Fault.BAD_LEVEL]
    found = []
    if _has_pair(le, bids) or _has_pair(ge, asks):
        found.append(Fault.UNSORTED)
    if bids[0][0] >= asks[0][0]:
        found.append(Fault.CROSSED)
    return found


def _is_sound(side: list[Level]) -> bool:
    for price, size in side:  # noqa: SIM110  (twice as fast as `all`, for every book of the stream)
        if not (1e-30 < price < 1e30 and 1e-30 < size < 1e30):  # beyond these, ratios and products overflow
            return False
    return True


def _has_pair(compare: Callable[[float, float], bool], side: list[Level]) -> bool:
    """Return whether any price compares so with the next one."""
    prices = [price for price, _ in side]
    return any(map(compare, prices, islice(prices, 1, None)))
