"""A writer in a process of its own, for the tests that run two at once or kill one.

Usage: python writer.py <root> <writer> <rounds>: writes rounds of bars of its own minutes of one
partition, and revises one shared bar in each, so that every round conflicts with the other writer's.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import polars as pl

from lake.schema import BARS
from lake.store import Lake

START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=300)


def bars_of(writer: int, round_number: int) -> pl.DataFrame:
    """Return the bars of a round: the shared bar at minute 0, then two minutes that only this writer writes."""
    minutes = [0, 4 * round_number + 2 * writer + 1, 4 * round_number + 2 * writer + 2]
    close = [float(2 * round_number + writer + 1), *(10.0 * minute + writer for minute in minutes[1:])]
    times = [START + timedelta(minutes=minute) for minute in minutes]
    values = {name: close for name in BARS if name != "timestamp"}
    return pl.DataFrame({"timestamp": times, **values}, schema=BARS)


def main() -> None:
    """Write every round and print a line after each."""
    root, writer, rounds = sys.argv[1:]
    lake = Lake(root)
    for number in range(int(rounds)):
        lake.write_bars(bars_of(int(writer), number), symbol="BTCUSDT", interval="1m", start=START, end=END)
        print(number, flush=True)


if __name__ == "__main__":
    main()
