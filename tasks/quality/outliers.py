"""Partitions whose volatility changed as that of no other symbol: wrong symbol, wrong unit, a feed that went mad."""

from __future__ import annotations

import polars as pl

#: A change is compared only where at least this many symbols have one for the same partition.
MIN_PEERS = 5
#: Volatility changes by less than this (in logs) between any two months: the smallest spread a score divides by.
MIN_SPREAD = 0.15


def outlier_scores(profiles: pl.DataFrame) -> pl.Series:
    """Return a robust score for each profile, null where there is nothing to compare with.

    The change is the log of a partition's volatility over the symbol's own median, so that a calm symbol is not an
    outlier for being calm. The score is its distance to the median change of all symbols over the same partition, in
    median absolute deviations (scaled to standard deviations), so that a crash of the whole market is none either.

    Args:
        profiles: Columns `symbol`, `partition_start` and `volatility`; one row a partition.
    """
    level = pl.when(pl.col("volatility") > 0).then(pl.col("volatility").log())
    changes = profiles.select("symbol", "partition_start", change=level - level.median().over("symbol"))
    peers = pl.col("change").count().over("partition_start")
    away = pl.col("change") - pl.col("change").median().over("partition_start")
    scored = changes.with_columns(away=away, peers=peers).with_columns(
        spread=1.4826 * pl.col("away").abs().median().over("partition_start")
    )
    score = pl.col("away") / pl.max_horizontal("spread", pl.lit(MIN_SPREAD))
    return scored.select(outlier_score=pl.when(pl.col("peers") >= MIN_PEERS).then(score))["outlier_score"]
