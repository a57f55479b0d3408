"""Features that are plain Polars expressions: returns, the bar itself, and the best level of an order book.

Expressions look back only with `shift`; a missing input gives null, which `compute_features` hands out as NaN.
"""

from __future__ import annotations

import polars as pl


def simple_return(column: str, bars: int) -> pl.Expr:
    """Return the relative change over `bars` bars, a fraction."""
    return pl.col(column) / pl.col(column).shift(bars) - 1.0


def log_return(column: str, bars: int) -> pl.Expr:
    """Return the log of the ratio to the value `bars` bars before."""
    return (pl.col(column) / pl.col(column).shift(bars)).log()


def bar_range() -> pl.Expr:
    """Return high minus low as a fraction of the close."""
    return (pl.col("high") - pl.col("low")) / pl.col("close")


def close_location() -> pl.Expr:
    """Return where the close lies in the bar's range: -1 at the low, 1 at the high, null where the bar has no range."""
    span = pl.col("high") - pl.col("low")
    return pl.when(span > 0).then((2.0 * pl.col("close") - pl.col("high") - pl.col("low")) / span)


def _both_sides(value: pl.Expr) -> pl.Expr:
    present = [pl.col(name).is_finite() for name in ("bid_price", "bid_size", "ask_price", "ask_size")]
    positive = (pl.col("bid_size") > 0) & (pl.col("ask_size") > 0)
    return pl.when(pl.all_horizontal(*present) & positive).then(value)


def microprice() -> pl.Expr:
    """Return the mean of bid and ask, each weighted by the size on the other side; null where a side is missing."""
    bid, ask = pl.col("bid_price"), pl.col("ask_price")
    bid_size, ask_size = pl.col("bid_size"), pl.col("ask_size")
    return _both_sides((ask * bid_size + bid * ask_size) / (bid_size + ask_size))


def imbalance() -> pl.Expr:
    """Return (bid_size - ask_size) / (bid_size + ask_size), -1 to 1; null where a side is missing."""
    bid_size, ask_size = pl.col("bid_size"), pl.col("ask_size")
    return _both_sides((bid_size - ask_size) / (bid_size + ask_size))


def pressure_ratio() -> pl.Expr:
    """Return bid_size / ask_size at the best level; null where a side is missing."""
    return _both_sides(pl.col("bid_size") / pl.col("ask_size"))
