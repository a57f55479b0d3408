"""`python -m lake "SELECT …"`: SQL over the lake from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import polars as pl

from lake.damage import mend
from lake.store import Lake
from tasks.errors import KlinehouseError

_EPILOG = """views: one for each table, / spelled _ (klines_1m, quality_verdicts, …); klines is the 1m bars,
or the only bars there are. Without a query, the views are listed.

example: python -m lake "SELECT symbol, count(*) AS bars FROM klines GROUP BY symbol" """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one query, print its rows, and return the exit code."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m lake", description=__doc__, epilog=_EPILOG, formatter_class=shape)
    parser.add_argument("query", nargs="?", help="SQL as DuckDB speaks it")
    parser.add_argument("--root", default="data", help="the lake's folder or s3:// address (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=50, help="rows to print at most (default: %(default)s)")
    parser.add_argument("--csv", action="store_true", help="print all rows as CSV")
    parser.add_argument("--mend", action="store_true", help="let go of the rows of files that are gone or cut short")
    chosen = parser.parse_args(arguments)
    lake = Lake(chosen.root)
    try:
        if chosen.mend:
            gone = [f"{table}: let go of {path}" for table, paths in mend(lake).items() for path in paths]
            print("\n".join(gone) or "nothing to mend")
            return 0
        if chosen.query is None:
            print("\n".join(table.replace("/", "_") for table in lake.tables()) or f"no tables in {chosen.root}")
            return 0
        found = lake.sql(chosen.query)
    except KlinehouseError as error:
        print(error, file=sys.stderr)
        return 1
    if chosen.csv:
        print(found.write_csv(), end="")
    else:
        with pl.Config(tbl_rows=chosen.rows, tbl_cols=-1, fmt_str_lengths=100):
            print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
