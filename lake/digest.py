"""A hash of bars that depends on their values alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import polars as pl

from lake.schema import BARS


def content_hash(chunks: Iterable[pl.DataFrame]) -> str:
    """Return the SHA-256 of sorted `BARS` given in any chunks: equal bars, equal hash, however they were stored.

    Each bar is its timestamp in microseconds, its values bit by bit, and which of them are null; 0.0 and -0.0 differ.
    """
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(_as_words(chunk).data)
    return digest.hexdigest()


def _as_words(bars: pl.DataFrame) -> np.ndarray:
    values = [name for name in BARS if name != "timestamp"]
    words = np.empty((bars.height, len(BARS) + 1), np.int64)
    words[:, 0] = bars["timestamp"].dt.timestamp("us").to_numpy()
    nulls = np.zeros(bars.height, np.int64)
    for place, name in enumerate(values):
        words[:, place + 1] = bars[name].fill_null(0.0).to_numpy().view(np.int64)
        nulls |= bars[name].is_null().to_numpy().astype(np.int64) << place
    words[:, -1] = nulls
    return words
