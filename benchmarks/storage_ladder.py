"""Where each rung of the storage ladder begins to pay: CSV, the lake in a folder, in object storage, Redis.

One symbol of minutes grows from a day to three years. Three questions are asked of every rung: all bars, one week of
them, the newest bar. Object storage is a local S3 server, so its figures are the requests' own work; what distance adds
is shown as the number of requests. ``make bench-ladder``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import pandas as pd
import polars as pl

from benchmarks.lake_bars import START, make_bars
from benchmarks.runner import Table, measured_s
from lake.hot import read_hot
from lake.ladder import export_to
from lake.store import Lake
from lake.timeline import months
from tests.redis_server import redis_server

SIZES = (1_440, 14_400, 144_000, 525_600, 1_576_800)
WEEK = timedelta(days=7)
ABOUT_S, MOST_REPEATS = 1.0, 100
ROOT = Path(__file__).parents[1]
Question = Callable[[], object]


@contextmanager
def s3(folder: Path) -> Iterator[dict[str, str]]:
    """Serve a bucket `market` from a folder; yields what a lake needs to reach it."""
    (folder / "market").mkdir(parents=True)
    command = [sys.executable, str(ROOT / "tests" / "lake" / "bucket.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"
        access = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
        yield {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", **access}
        server.kill()


def fill(lake: Lake, bars: pl.DataFrame) -> None:
    """Write the bars month by month, as a backfill does."""
    for start, end in months(START, bars["timestamp"][-1] + timedelta(minutes=1)):
        month = bars.filter(pl.col("timestamp").is_between(start, end, closed="left"))
        lake.write_bars(month, symbol="A", interval="1m", start=start, end=end)


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV file as most people do; the importer, which looks at each value twice, takes eight times as long."""
    return pd.read_csv(path, parse_dates=["timestamp"])


def questions(csv: Path, lakes: dict[str, Lake], hot: str | None, end: datetime) -> dict[str, dict[str, Question]]:
    """Return question → rung → how that rung answers it."""
    week = end - WEEK
    everything: dict[str, Question] = {"csv": lambda: read_csv(csv)}
    some: dict[str, Question] = {"csv": lambda: read_csv(csv).query("timestamp >= @week", local_dict={"week": week})}
    newest: dict[str, Question] = {"csv": lambda: read_csv(csv).tail(1)}
    for name, lake in lakes.items():
        everything[name] = lambda lake=lake: lake.read_bars("A", "1m")
        some[name] = lambda lake=lake: lake.read_bars("A", "1m", week, end)
        newest[name] = lambda lake=lake: lake.read_bars("A", "1m", end - timedelta(minutes=1), end)
    if hot is not None:
        newest["redis"] = lambda: read_hot(hot, symbol="A", interval="1m").tail(1)
    return {"all bars": everything, "a week": some, "the newest bar": newest}


def milliseconds(ask: Question) -> float:
    """Return the median time of an answer, asked for about a second long, at least twice after the first."""
    first = measured_s(ask)
    repeats = max(2, min(MOST_REPEATS, int(ABOUT_S / first)))
    return 1_000 * median(measured_s(ask) for _ in range(repeats))


def measured(rows: int, folder: Path, options: dict[str, str], hot: str | None) -> dict[str, dict[str, float]]:
    """Fill every rung with so many bars; return question → rung → milliseconds."""
    bars = make_bars(rows, seed=1)
    place = folder / str(rows)
    place.mkdir()
    lakes = {"lake": Lake(str(place / "lake")), "s3": Lake(f"s3://market/{rows}", storage_options=options)}
    for lake in lakes.values():
        fill(lake, bars)
    csv = place / "bars.csv"
    export_to(lakes["lake"], str(csv), symbol="A", interval="1m")
    if hot is not None:
        export_to(lakes["lake"], hot, symbol="A", interval="1m")
    asked = questions(csv, lakes, hot, bars["timestamp"][-1] + timedelta(minutes=1))
    found = {name: {rung: milliseconds(ask) for rung, ask in rungs.items()} for name, rungs in asked.items()}
    stored = sum(path.stat().st_size for path in (place / "lake").rglob("*.parquet"))
    found["megabytes"] = {"csv": csv.stat().st_size / 1e6, "lake": stored / 1e6}
    return found


def main() -> None:
    """Measure every size and print the table."""
    table = Table("The storage ladder, milliseconds of one answer")
    found: dict[int, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name, s3(Path(name) / "buckets") as options, redis_server(Path(name)) as hot:
        for rows in SIZES:
            found[rows] = measured(rows, Path(name), options, hot)
            for question, rungs in found[rows].items():
                told = ", ".join(f"{rung} {figure:,.3g}" for rung, figure in rungs.items())
                print(f"{rows:>9,} bars, {question}: {told}", flush=True)
    small, large = found[SIZES[0]], found[SIZES[-1]]
    table.figure("a day: CSV answers everything within", small["all bars"]["csv"], at_most=50, unit=" ms")
    table.figure(
        "three years, a week of them: CSV / lake", large["a week"]["csv"] / large["a week"]["lake"], at_least=5
    )
    table.figure("three years: bytes of CSV / lake", large["megabytes"]["csv"] / large["megabytes"]["lake"], at_least=3)
    if "redis" in large["the newest bar"]:
        ratio = large["the newest bar"]["lake"] / large["the newest bar"]["redis"]
        table.figure("the newest bar: lake / Redis", ratio, at_least=1.2)
    table.finish()


if __name__ == "__main__":
    main()
