"""Series that several features start from, computed once for all of them."""

from __future__ import annotations

import polars as pl

from tasks.features.expressions import log_return

#: Name → expression over the bars. `benchmark_log_return` needs the column `benchmark_close`.
SERIES: dict[str, pl.Expr] = {
    "timestamp_us": pl.col("timestamp").dt.timestamp("us"),
    "log_close": pl.col("close").log(),
    "close_log_return": log_return("close", 1),
    "benchmark_log_return": log_return("benchmark_close", 1),
}

#: Columns of the frame that each series needs.
SERIES_COLUMNS: dict[str, tuple[str, ...]] = {
    name: tuple(dict.fromkeys(expression.meta.root_names())) for name, expression in SERIES.items()
}
