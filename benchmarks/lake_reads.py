"""Point reads and the cross-section: a year of minutes of many symbols, the lake against a plain hive tree.

The plain tree is what a monthly download with `to_parquet(partition_cols=["symbol", "year", "month"])` leaves: the same
rows, pandas' defaults. Both sides return the same frame, which is checked before anything is measured.

    python -m benchmarks.lake_reads            # a quick look at 1/50 of the rows; bars do not apply
    python -m benchmarks.lake_reads --full     # 26 million rows
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq

from benchmarks.lake_bars import MINUTES_A_YEAR, START, symbols, years
from benchmarks.runner import Table
from lake.arrow import read_pandas
from lake.cross_section import cross_section
from lake.store import Lake

FIRST, LAST = START + timedelta(days=90), START + timedelta(days=181)
QUERY = """
SELECT symbol, date_trunc('hour', timestamp) AS hour, AVG(close) AS avg_close, SUM(volume) AS total_volume
FROM {source}
WHERE timestamp >= '2023-04-01' AND timestamp < '2023-07-01'
GROUP BY symbol, hour
ORDER BY symbol, hour
"""


def build(root: Path, names: list[str], rows: int) -> Lake:
    """Write the same bars into a lake and into a plain hive tree below `root`."""
    lake = Lake(root / "lake")
    for number, symbol in enumerate(names):
        for bars in years(rows, seed=number):
            start, last = bars["timestamp"][0], bars["timestamp"][-1]
            lake.write_bars(bars, symbol=symbol, interval="1m", start=start, end=last + timedelta(minutes=1))
            time = pl.col("timestamp").dt
            parts = bars.with_columns(symbol=pl.lit(symbol), year=time.year(), month=time.month())
            columns = ["symbol", "year", "month"]
            pq.write_to_dataset(
                parts.to_arrow(compat_level=pl.CompatLevel.oldest()), root / "tree", partition_cols=columns
            )
    return lake


def point_from_tree(root: Path, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
    """Read three months of one symbol the way pandas' users do."""
    filters = [("symbol", "==", symbol), ("timestamp", ">=", start), ("timestamp", "<", end)]
    return pd.read_parquet(root / "tree", columns=["timestamp", "close"], filters=filters)


def cross_section_from_lake(lake: Lake) -> pl.DataFrame:
    """Answer the article's question with the lake's own query for it."""
    aggregates = [pl.mean("close").alias("avg_close"), pl.sum("volume").alias("total_volume")]
    return cross_section(lake, "1m", "1h", aggregates, start=FIRST, end=LAST).rename({"bucket": "hour"})


def cross_section_from_glob(root: Path) -> pl.DataFrame:
    """Answer it with DuckDB on a glob, as the article does."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        source = f"read_parquet('{root}/tree/**/*.parquet', hive_partitioning = true)"
        return connection.sql(QUERY.format(source=source)).pl()


def check(lake: Lake, root: Path, symbol: str) -> None:
    """Stop where the two sides do not say the same."""
    ours = read_pandas(lake, symbol, "1m", FIRST, LAST, columns=["timestamp", "close"])
    pd.testing.assert_frame_equal(ours, point_from_tree(root, symbol, FIRST, LAST), check_dtype=False)
    mine, theirs = cross_section_from_lake(lake), cross_section_from_glob(root)
    assert mine.select("symbol", "hour").equals(theirs.select("symbol", "hour"))
    assert (mine["avg_close"] - theirs["avg_close"]).abs().max() < 1e-6  # type: ignore[operator]


def main() -> None:
    """Build, check, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=5)
    parser.add_argument("--rows", type=int, default=MINUTES_A_YEAR, help="rows a symbol (default: a year)")
    parser.add_argument("--full", action="store_true", help="50 symbols; the bars apply")
    chosen = parser.parse_args()
    names = symbols(50 if chosen.full else chosen.symbols)
    table = Table(f"Lake reads, {len(names) * chosen.rows:,} rows", bars_apply=chosen.full)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lake, symbol = build(root, names, chosen.rows), names[len(names) // 2]
        check(lake, root, symbol)
        table.compare(
            "point read: 3 months, 2 columns → pandas, against pd.read_parquet(filters=…)",
            lambda: read_pandas(lake, symbol, "1m", FIRST, LAST, columns=["timestamp", "close"]),
            lambda: point_from_tree(root, symbol, FIRST, LAST),
            bar=6.0,
            repeats=15,
        )
        table.compare(
            "cross-section: hourly averages of a quarter, against DuckDB on a glob",
            lambda: cross_section_from_lake(lake),
            lambda: cross_section_from_glob(root),
            bar=3.0,
            repeats=5,
        )
    table.finish()


if __name__ == "__main__":
    main()
