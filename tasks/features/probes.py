"""What the leak prover does to bars: where it cuts them, how it changes what comes after, which holes it tears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from tasks.features.intervals import close_time

_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class Scene:
    """What a computation is given: bars, and the bars of longer intervals by interval.

    Attributes:
        bars: Sorted by timestamp.
        longer: Interval → its bars, each labelled by its open; empty where the computation takes bars alone.
    """

    bars: pl.DataFrame
    longer: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    def before(self, cut: int, interval: str | None) -> Scene:
        """Return the scene as it was known when bar ``cut - 1`` closed."""
        bars = self.bars[:cut]
        if not self.longer:
            return Scene(bars)
        return Scene(bars, {name: frame.filter(_closed(bars, interval, name)) for name, frame in self.longer.items()})

    def part(self, start: int, stop: int) -> Scene:
        """Return the scene with the bars ``[start, stop)`` and every longer bar."""
        return Scene(self.bars[start:stop], self.longer)


def _closed(bars: pl.DataFrame, interval: str | None, longer: str) -> pl.Expr:
    known = bars.tail(1).select(close_time(interval or "0us")).item()
    return close_time(longer) <= known


def change_future(scene: Scene, cut: int, factor: float, rng: np.random.Generator, *, keep_open: bool) -> Scene:
    """Return the scene with every bar from `cut` on multiplied by about `factor`, timestamps and the past untouched.

    Args:
        scene: What to change.
        cut: First row that may differ.
        factor: Prices of a row change together, so that they stay a bar.
        rng: Draws a factor for each row and column group.
        keep_open: Leave the open of row `cut`: it is known to whoever acts at that open.
    """
    changed = _multiplied(scene.bars, np.arange(scene.bars.height) >= cut, factor, rng)
    if keep_open and cut < scene.bars.height and "open" in scene.bars.columns:
        first = pl.int_range(pl.len()) == cut
        changed = changed.with_columns(pl.when(first).then(scene.bars["open"]).otherwise("open").alias("open"))
    return Scene(changed, scene.longer)


def change_unclosed(scene: Scene, cut: int, interval: str, factor: float, rng: np.random.Generator) -> Scene:
    """Return the scene with its bars as they are and every longer bar changed that had not closed with bar cut - 1."""
    longer = {
        name: _multiplied(
            frame, ~frame.select(_closed(scene.bars[:cut], interval, name)).to_series().to_numpy(), factor, rng
        )
        for name, frame in scene.longer.items()
    }
    return Scene(scene.bars, longer)


def _multiplied(frame: pl.DataFrame, rows: np.ndarray, factor: float, rng: np.random.Generator) -> pl.DataFrame:
    def factors() -> pl.Series:
        drawn = factor * rng.uniform(0.9, 1.1, frame.height)
        return pl.Series(np.where(rows, drawn, 1.0))

    together = factors()
    columns = [name for name, kind in frame.schema.items() if kind.is_float()]
    return frame.with_columns(
        (frame[name] * (together if name in _PRICES or name.endswith("_price") else factors())).alias(name)
        for name in columns
    )


def tear_holes(scene: Scene, rng: np.random.Generator, share: float = 0.02) -> tuple[Scene, np.ndarray]:
    """Return the scene with rows nulled and as many dropped, and the rows right after nulls, where backfills show."""
    draws = rng.random(scene.bars.height)
    kept = draws >= share
    kept[:1] = True
    null = (draws < 2 * share)[kept]
    bars = scene.bars.filter(pl.Series(kept)).with_columns(
        pl.when(~pl.Series(null)).then(pl.col(name)).alias(name)
        for name, kind in scene.bars.schema.items()
        if kind.is_float()
    )
    return Scene(bars, scene.longer), np.flatnonzero(null[:-1] & ~null[1:]) + 1


def eventful_cuts(bars: pl.DataFrame, each: int) -> np.ndarray:
    """Return rows worth hiding, `each` of a kind: first bars of days, largest moves, quiet bars, new highs."""
    kinds = [_spread(_new_days(bars), each)]
    if "close" in bars.columns:
        close = bars["close"].to_numpy()
        with np.errstate(all="ignore"):
            moves = np.nan_to_num(np.abs(np.diff(close, prepend=close[:1])), posinf=0.0)
        kinds.append(np.argsort(moves)[-each:])
        kinds.append(_spread(np.flatnonzero(np.diff(np.maximum.accumulate(close), prepend=close[:1]) > 0), each))
    if "volume" in bars.columns:
        kinds.append(_spread(np.flatnonzero(bars["volume"].to_numpy() == 0), each))
    return np.unique(np.concatenate(kinds))


def _new_days(bars: pl.DataFrame) -> np.ndarray:
    days = bars["timestamp"].dt.date().to_physical().to_numpy()
    return np.flatnonzero(np.diff(days, prepend=days[:1]) != 0)


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.linspace(0, rows.size - 1, min(count, rows.size)).astype(int)] if rows.size else rows
