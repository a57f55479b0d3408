"""Judge a whole lake of one-minute bars: how long, how much memory, and does it find exactly what was injected.

    python -m benchmarks.quality_lake                     # two million bars, bars of the claims not applied
    python -m benchmarks.quality_lake --rows 78840000     # fifty symbols, three years: the claim
    python -m benchmarks.quality_lake --rows 78840000 --lake /big/disk/quality   # keep the lake for another run

The whole-lake run is timed in a process of its own, importing Great Expectations included, against an empty record of
verdicts. The comparison runs in this process, both sides warm: the whole-lake tier against the write path's row suite
over a pandas frame for each partition (the same rules; what else the write path does is left out of its time).
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.runner import Table
from lake.schema import as_bars
from lake.store import Lake
from lake.timeline import interval, months

START = datetime(2021, 1, 1, tzinfo=UTC)
YEARS = 3
SYMBOL_ROWS = (START.replace(year=START.year + YEARS) - START) // timedelta(minutes=1)
CLAIM_ROWS = 50 * SYMBOL_ROWS
#: One partition in so many gets a defect.
DEFECT_EVERY = 60
#: How many symbols the comparison is made on.
SLICE_SYMBOLS = 4


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect to write into one bar: the columns it overwrites, or none at all for a bar that is left out."""

    name: str
    values: dict[str, float]


DEFECTS = (
    Defect("missing", {}),
    Defect("null_value", {"close": float("nan")}),
    Defect("infinite", {"volume": float("inf")}),
    Defect("negative_volume", {"volume": -1.0}),
    Defect("bad_price", {"low": 0.0}),
    Defect("price_order", {"high": 1e-6}),
)


def year_of_bars(seed: int, start: datetime, end: datetime) -> pl.DataFrame:
    """Return sound minutes: a random walk on a grid of cents with a daily rhythm of volume."""
    random = np.random.default_rng(seed)
    count = (end - start) // timedelta(minutes=1)
    close = np.round(500 * np.exp(np.cumsum(random.normal(0, 2e-5, count))), 2)
    opened = np.concatenate([close[:1], close[:-1]])
    reach = np.round(random.exponential(0.05, (2, count)), 2)
    volume = np.round(random.gamma(2.0, 3.0, count) * (1.5 + np.sin(np.arange(count) / 229)), 3) + 0.001
    return as_bars(
        pl.DataFrame(
            {
                "timestamp": pl.datetime_range(start, end, "1m", closed="left", eager=True, time_unit="us"),
                "open": opened,
                "high": np.maximum(opened, close) + reach[0],
                "low": np.minimum(opened, close) - reach[1],
                "close": close,
                "volume": volume,
                "quote_volume": np.round(volume * (opened + close) / 2, 2),
            }
        )
    )


def build(lake: Lake, rows: int) -> dict[str, str]:
    """Write bars with defects into the lake; return the rule each injected partition must break."""
    injected: dict[str, str] = {}
    turns = itertools.count(1)
    for number, (symbol, start, end) in enumerate(symbol_years(rows)):
        bars = year_of_bars(number, start, end)
        for first, last in months(start, end):
            turn = next(turns)
            if turn % DEFECT_EVERY == DEFECT_EVERY // 2:
                defect = DEFECTS[turn // DEFECT_EVERY % len(DEFECTS)]
                bars = planted(bars, first + (last - first) / 2, defect)
                injected[f"{symbol} {first:%Y-%m}"] = defect.name
        lake.write_bars(bars, symbol=symbol, interval="1m", start=start, end=end)
        print(f"\rbuilding: {symbol} {start:%Y}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return injected


def planted(bars: pl.DataFrame, moment: datetime, defect: Defect) -> pl.DataFrame:
    """Return the bars with a defect in the bar that holds `moment`."""
    struck = pl.col("timestamp") == interval("1m").floor(moment)
    if not defect.values:
        return bars.filter(~struck)
    changes = {name: pl.when(struck).then(value).otherwise(name) for name, value in defect.values.items()}
    return bars.with_columns(**changes)


def symbol_years(rows: int) -> Iterator[tuple[str, datetime, datetime]]:
    """Yield symbol and range, a year at a time, until there are about `rows` bars."""
    left = rows
    for number in itertools.count():
        for year in range(START.year, START.year + YEARS):
            if left <= 0:
                return
            start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
            yield f"SYM{number:02d}", start, end
            left -= (end - start) // timedelta(minutes=1)


#: Run in a process of its own: judge, then say what was found and the largest resident size.
JUDGE = """
import json, resource, sys, time
began = time.perf_counter()
from lake.store import Lake
from tasks.quality.verdicts import current
from tasks.quality.whole_lake import check_lake
receipt = check_lake(Lake(sys.argv[1]), "1m")
seconds = time.perf_counter() - began
found = current(Lake(sys.argv[1]), "1m").filter(status="reject")
rejected = {f"{s} {p:%Y-%m}": sorted({f["rule"] for f in json.loads(j) if f["severity"] == "reject"})
            for s, p, j in found.select("symbol", "partition_start", "findings_json").iter_rows()}
use = resource.getrusage(resource.RUSAGE_SELF)
found = {"seconds": seconds, "cpu_s": use.ru_utime + use.ru_stime, "mib": use.ru_maxrss / 1024,
         "rows": receipt.rows, "judged": receipt.judged, "rejected": rejected}
print(json.dumps(found))
"""


def judged(root: Path) -> dict[str, Any]:
    """Judge the lake at `root` in a fresh process; earlier verdicts must have been removed."""
    done = subprocess.run([sys.executable, "-c", JUDGE, str(root)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def by_lake(lake: Lake, symbols: list[str]) -> Iterator[int]:
    """Judge the slice by the whole-lake tier at each step, under limits that differ so that nothing is kept."""
    from tasks.quality.plan import Market
    from tasks.quality.thresholds import Thresholds
    from tasks.quality.whole_lake import check_lake

    for turn in itertools.count(1):
        market = Market(thresholds=Thresholds(max_outlier_score=10 + turn / 1e6))
        yield check_lake(lake, "1m", symbols=symbols, markets=dict.fromkeys(symbols, market)).rows


def by_partition(lake: Lake, symbols: list[str]) -> int:
    """Judge the slice by Great Expectations over a pandas frame for each partition, the same rules."""
    from tasks.quality import suite
    from tasks.quality.parts import parts
    from tasks.quality.plan import plan

    judged_rows = 0
    now = lake.now()
    for chunk in plan(lake, "1m", as_of=now, symbols=symbols):
        for start, _ in chunk.bounds:
            for part in parts(lake, chunk, now, {start}):
                suite.judge_rows(part.seen.rows, chunk.market.thresholds, "1m")
                judged_rows += part.bars.height
    return judged_rows


def main() -> None:
    """Build or reuse a lake, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help=f"bars in the lake; the claim is {CLAIM_ROWS:,}")
    parser.add_argument("--lake", type=Path, help="keep the lake in this folder, or use the one that is there")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of the comparison")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quality-lake-") as scratch:
        root = arguments.lake or Path(scratch)
        measure(root, arguments.rows, arguments.repeats)


def measure(root: Path, rows: int, repeats: int) -> None:
    """Measure the claims on the lake at `root` and print the table; ends the process."""
    lake, key = Lake(root / "lake"), root / "injected.json"
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_text(json.dumps(build(lake, rows)))
    injected = json.loads(key.read_text())
    table = Table("Quality of a whole lake", bars_apply=rows >= CLAIM_ROWS)
    forget_verdicts(root / "lake")
    found = judged(root / "lake")
    exact = {name: rules for name, rules in found["rejected"].items() if injected.get(name) in rules}
    seconds, count = float(found["seconds"]), int(found["rows"])
    rate = f"{count / seconds:,.0f} bars/s, {found['cpu_s']:.0f} s of CPU"
    table.figure(f"whole lake, {count:,} bars", seconds, at_most=60, unit=" s", detail=rate)
    table.figure("largest resident size", found["mib"], at_most=600, unit=" MiB", detail="Great Expectations included")
    table.figure("partitions rejected", len(found["rejected"]), at_least=len(injected), at_most=len(injected))
    table.figure("of them by the rule injected", len(exact), at_least=len(injected), detail=f"of {found['judged']:,}")
    forget_verdicts(root / "lake")
    slice_of = lake.symbols("1m")[:SLICE_SYMBOLS]
    again = by_lake(Lake(root / "lake"), slice_of)
    table.compare(
        "against GX on pandas, a partition at a time",
        lambda: next(again),
        lambda: by_partition(lake, slice_of),
        bar=8,
        repeats=repeats,
        work=min(rows, SLICE_SYMBOLS * SYMBOL_ROWS),
    )
    forget_verdicts(root / "lake")
    table.finish()


def forget_verdicts(root: Path) -> None:
    """Remove what earlier runs found, so that everything is judged anew."""
    import shutil

    shutil.rmtree(root / "quality", ignore_errors=True)


if __name__ == "__main__":
    main()
