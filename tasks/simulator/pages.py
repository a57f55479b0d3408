"""What a page of bars really contains once the faults have had their way with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import numpy as np

from tasks.simulator.faults import HEALING, LASTING, Faults, Injection, chances
from tasks.simulator.instruments import Instrument
from tasks.simulator.market import EPOCH
from tasks.simulator.series import Bars, render

_BLANKS = (None, "", "NaN")


class Pages:
    """Cuts pages, spoils them, and remembers which bars were struck.

    Attributes:
        injected: Every fault that happened, in order; one of a lasting kind is recorded once.
    """

    def __init__(self) -> None:
        self.injected: list[Injection] = []
        self._struck: set[tuple[str, str, str, str, int]] = set()

    def cut(
        self, faults: Faults, item: Instrument, bars: Bars, start: int, stop: int, *, forming: str | None, target: str
    ) -> bytes:
        """Return the JSON of the bars ``[start, stop)``, comma-separated, as the faults leave it.

        Args:
            faults: What goes wrong now.
            item: Whose bars they are.
            bars: All of them.
            start: Index of the first bar.
            stop: Index after the last bar.
            forming: The JSON of the bar still being formed if the asked range reaches it.
            target: The request, for the record.
        """
        if not faults.touches_bars:
            return bars.text(start, stop)
        rows = self._spoiled(faults, item, bars, start, stop, target)
        where = f"{item.symbol}:{item.type}:{bars.interval}"
        dice = chances(faults.seed, "page", f"{where}:{target}", np.arange(2))
        if forming is not None and dice[0] < faults.forming_p:
            rows.append(forming)
            self.injected.append(Injection("forming", target, item.symbol, bars.interval))
        if dice[1] < faults.shuffle_p and len(rows) > 1:
            order = np.random.default_rng([faults.seed, start, stop]).permutation(len(rows))
            rows = [rows[place] for place in order]
            self.injected.append(Injection("shuffle", target, item.symbol, bars.interval))
        return ",".join(rows).encode()

    def _spoiled(self, faults: Faults, item: Instrument, bars: Bars, start: int, stop: int, target: str) -> list[str]:
        kept: list[list[str]] = [[row] for row in render(bars.frame.slice(start, stop - start))]
        times = bars.times[start:stop]
        frozen = self._frozen(faults, item, bars, start, stop)
        for name in (*LASTING, *HEALING):
            probability = getattr(faults, name)
            if not probability:
                continue
            fault = name.removesuffix("_p")
            where = f"{item.symbol}:{item.type}:{bars.interval}"
            hit = chances(faults.seed, fault, where, times) < probability if fault != "frozen" else frozen >= 0
            for place in np.flatnonzero(hit):
                if self._record(fault, item, bars.interval, int(times[place]), target, heals=name in HEALING):
                    source = int(frozen[place]) if fault == "frozen" else start + int(place)
                    kept[place] = _SPOILERS[fault](kept[place], bars, source)
        return [row for rows in kept for row in rows]

    def _frozen(self, faults: Faults, item: Instrument, bars: Bars, start: int, stop: int) -> np.ndarray:
        """Return, for each bar of the page, the bar whose price it is stuck at, or -1."""
        stuck = np.full(stop - start, -1, np.int64)
        if faults.frozen_p:
            first = max(start - faults.frozen_bars + 1, 0)
            where = f"{item.symbol}:{item.type}:{bars.interval}"
            begins = chances(faults.seed, "frozen", where, bars.times[first:stop]) < faults.frozen_p
            for begin in first + np.flatnonzero(begins):
                stuck[max(begin - start, 0) : begin - start + faults.frozen_bars] = begin
        return stuck

    def _record(self, fault: str, item: Instrument, interval: str, time: int, target: str, *, heals: bool) -> bool:
        """Note that a bar is struck; return False where it was struck before and the fault has healed."""
        key = (fault, item.symbol, item.type, interval, time)
        seen = key in self._struck
        if not seen:
            self._struck.add(key)
            stamp = EPOCH + timedelta(milliseconds=time)
            self.injected.append(Injection(fault, target, item.symbol, interval, stamp))
        return not (seen and heals)


def _rewritten(rows: list[str], change: Callable[[dict], None]) -> list[str]:
    changed = []
    for row in rows:
        bar = json.loads(row)
        change(bar)
        changed.append(json.dumps(bar, separators=(",", ":")))
    return changed


def _gone(rows: list[str], bars: Bars, source: int) -> list[str]:
    return []


def _twice(rows: list[str], bars: Bars, source: int) -> list[str]:
    return rows + rows


def _provisional(rows: list[str], bars: Bars, source: int) -> list[str]:
    """Serve the bar as it might have stood before its last trades: the close is the open, half of the volume."""
    bar = bars.frame.row(source, named=True)
    volume = f"{bar['volume'] / 2:.8f}".rstrip("0").rstrip(".")
    return _rewritten(rows, lambda row: row.update(close=row["open"], volume=volume))


def _blank(rows: list[str], bars: Bars, source: int) -> list[str]:
    value = _BLANKS[int(bars.times[source] // 60_000) % len(_BLANKS)]
    return _rewritten(rows, lambda row: row.update(close=value))


def _inverted(rows: list[str], bars: Bars, source: int) -> list[str]:
    bar = bars.frame.row(source, named=True)
    low = bar["low"] if bar["high"] > bar["low"] else bar["low"] / 2
    return _rewritten(rows, lambda row: row.update(high=repr(low), low=repr(bar["high"])))


def _negative(rows: list[str], bars: Bars, source: int) -> list[str]:
    return _rewritten(rows, lambda row: row.update(volume=f"-{row['volume']}"))


def _spike(rows: list[str], bars: Bars, source: int) -> list[str]:
    high = repr(round(bars.frame["high"][source] * 10, 9))
    return _rewritten(rows, lambda row: row.update(high=high, close=high))


def _still(rows: list[str], bars: Bars, source: int) -> list[str]:
    price = repr(bars.frame["close"][source])
    return _rewritten(rows, lambda row: row.update(open=price, high=price, low=price, close=price))


_SPOILERS: dict[str, Callable[[list[str], Bars, int], list[str]]] = {
    "lost": _gone,
    "missing": _gone,
    "duplicate": _twice,
    "revise": _provisional,
    "blank": _blank,
    "inverted": _inverted,
    "negative": _negative,
    "spike": _spike,
    "frozen": _still,
}
