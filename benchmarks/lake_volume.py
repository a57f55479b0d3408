"""Three years of minutes of fifty symbols: written, verified by hash and queried, in under 1 GiB of memory.

python -m benchmarks.lake_volume           # 5 symbols × 3 months; bars do not apply
python -m benchmarks.lake_volume --full    # 78.8 million rows
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta

import polars as pl

from benchmarks.lake_bars import MINUTES_A_YEAR, symbols, years
from benchmarks.runner import Table
from lake.digest import content_hash
from lake.maintenance import health
from lake.store import Lake


def write(lake: Lake, names: list[str], rows: int) -> tuple[float, float, dict[str, str]]:
    """Write all bars a year at a time; return wall and CPU seconds inside `write_bars`, and each symbol's hash."""
    wall: list[float] = []
    busy: list[float] = []

    def written(symbol: str, seed: int) -> Iterator[pl.DataFrame]:
        for bars in years(rows, seed=seed):
            start, end = bars["timestamp"][0], bars["timestamp"][-1] + timedelta(minutes=1)
            began, busy_began = time.perf_counter(), time.process_time()
            lake.write_bars(bars, symbol=symbol, interval="1m", start=start, end=end)
            wall.append(time.perf_counter() - began)
            busy.append(time.process_time() - busy_began)
            yield bars

    hashes = {symbol: content_hash(written(symbol, number)) for number, symbol in enumerate(names)}
    return sum(wall), sum(busy), hashes


def verify(lake: Lake, hashes: dict[str, str]) -> float:
    """Return the seconds it takes to find every symbol's hash in the lake again."""
    began = time.perf_counter()
    for symbol, content in hashes.items():
        assert lake.content_hash("1m", symbol) == content, f"{symbol} does not read as it was written"
    return time.perf_counter() - began


def query(lake: Lake) -> float:
    """Return the seconds of the hourly cross-section over everything."""
    began = time.perf_counter()
    hour = pl.col("timestamp").dt.truncate("1h").alias("hour")
    lazy = lake.scan_bars("1m").group_by("symbol", hour).agg(pl.mean("close"), pl.sum("volume"))
    assert lazy.collect(engine="streaming").height > 0
    return time.perf_counter() - began


def main() -> None:
    """Write, verify, query and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=5)
    parser.add_argument("--rows", type=int, default=90 * 1440, help="rows a symbol")
    parser.add_argument("--full", action="store_true", help="50 symbols × 3 years; the bars apply")
    chosen = parser.parse_args()
    names, rows = (symbols(50), 3 * MINUTES_A_YEAR) if chosen.full else (symbols(chosen.symbols), chosen.rows)
    total = len(names) * rows
    table = Table(f"Lake volume, {total:,} rows", bars_apply=chosen.full)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        write_s, busy_s, hashes = write(lake, names, rows)
        verify_s, query_s = verify(lake, hashes), query(lake)
        row = health(lake).row(0, named=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    millions = total / 1e6
    rate = f"{write_s:.1f} s in write_bars; {millions / busy_s:.2f} M rows a CPU second"
    table.figure("write", millions / write_s, at_least=1.5, unit=" M rows/s", detail=rate)
    table.figure("on disk", row["bytes_per_row"], at_most=18.0, unit=" bytes a row", detail=f"{row['files']} files")
    table.figure("resident at most", peak, at_most=1024.0, unit=" MiB", detail="write, verify and query in one process")
    table.figure("verify by hash", millions / verify_s, unit=" M rows/s", detail=f"{verify_s:.1f} s")
    table.figure("hourly cross-section of all", millions / query_s, unit=" M rows/s", detail=f"{query_s:.1f} s")
    table.finish()


if __name__ == "__main__":
    main()
