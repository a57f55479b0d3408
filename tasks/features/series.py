"""Series that several features start from, computed once for all of them.

Logarithms are NumPy's, which takes eight at a time where the machine can; Numba's takes one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Series:
    """A series made from columns of the bars.

    Attributes:
        columns: Which it needs.
        make: Takes their arrays, in that order.
    """

    columns: tuple[str, ...]
    make: Callable[..., np.ndarray]


def log_ratio(top: np.ndarray, bottom: np.ndarray | np.float64, out: np.ndarray | None = None) -> np.ndarray:
    """Return ln(top / bottom) in `out` or a new array, NaN or infinite where a price is missing or not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(top, bottom, out=out)
        return np.log(ratio, out=ratio)


def log_change(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return ln(now / the `before` of one bar earlier), NaN at the first bar."""
    out = np.empty(now.size)
    out[:1] = np.nan
    log_ratio(now[1:], before[:-1], out=out[1:])
    return out


#: Name → how it is made. `benchmark_log_return` needs the column `benchmark_close`.
SERIES: dict[str, Series] = {
    "timestamp_us": Series(("timestamp",), lambda timestamp: timestamp),
    "log_close": Series(("close",), lambda close: log_ratio(close, np.float64(1.0))),
    "close_log_return": Series(("close",), lambda close: log_change(close, close)),
    "benchmark_log_return": Series(("benchmark_close",), lambda close: log_change(close, close)),
    "log_jump": Series(("open", "close"), log_change),
    "log_body": Series(("close", "open"), log_ratio),
    "log_up": Series(("high", "open"), log_ratio),
    "log_down": Series(("low", "open"), log_ratio),
    "log_range": Series(("high", "low"), log_ratio),
}
