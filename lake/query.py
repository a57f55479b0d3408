"""SQL over the lake: DuckDB on the files that are current, never on a glob that would see superseded ones too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import polars as pl

from lake.damage import check_whole
from lake.schema import BARS
from tasks.errors import InputError

if TYPE_CHECKING:
    from lake.tables import Tables

_BARS = "klines/"


def run(lake: Tables, query: str) -> pl.DataFrame:
    """Run `query` and return its rows.

    Every table is a view named as the table with ``/`` as ``_``: `klines_1m`, `quality_verdicts`, …; `klines` is the
    one bar table there is, or the 1m one. Bar views have the columns `symbol` and those of `lake.schema.BARS`.

    Raises:
        InputError: The query cannot be run; DuckDB's message, and the views there are.
        DataError: A file of the lake is gone or cut.
    """
    if not query.strip():
        raise InputError("sql: expected a query, found none")
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")  # else date_trunc cuts days in the machine's own zone
        views = list[str]()
        try:
            views = _register(connection, lake)
            found = connection.sql(query)
            return pl.DataFrame() if found is None else found.pl()
        except duckdb.Error as error:
            for table in lake.tables():
                snapshot = lake.snapshot(table)
                check_whole(lake.table(table).location, pl.DataFrame() if snapshot is None else snapshot.files)
            raise InputError(f"sql: {error}\nviews: {', '.join(sorted(views)) or 'none, the lake is empty'}") from error


def _register(connection: duckdb.DuckDBPyConnection, lake: Tables) -> list[str]:
    tables = lake.tables()
    for table in tables:
        _view(connection, lake, table)
    views = [_name(table) for table in tables]
    intervals = [table for table in tables if table.startswith(_BARS)]
    main = "klines/1m" if "klines/1m" in intervals or len(intervals) != 1 else intervals[0]
    if main in intervals:
        connection.execute(f'CREATE VIEW klines AS SELECT * FROM "{_name(main)}"')  # noqa: S608  # a name of ours
        views.append("klines")
    return views


def _view(connection: duckdb.DuckDBPyConnection, lake: Tables, table: str) -> None:
    snapshot = lake.snapshot(table)
    if snapshot is None:
        return
    columns = ["symbol", *BARS] if table.startswith(_BARS) else list(snapshot.schema)
    chosen = ", ".join(f'"{column}"' for column in columns)
    handle = lake.table(table)
    if not snapshot.files.height:
        source = f"{_name(table)}__empty"
        connection.register(source, pl.DataFrame(schema=snapshot.schema).to_arrow())
    elif handle.location.is_local:
        paths = ", ".join("'" + path.replace("'", "''") + "'" for path in handle.paths(snapshot.files))
        source = f"read_parquet([{paths}], hive_partitioning = false, union_by_name = {not table.startswith(_BARS)})"
    else:
        source = f"{_name(table)}__files"
        connection.register(source, handle.dataset(snapshot))
    select = f"SELECT {chosen} FROM {source}"  # noqa: S608  # names and paths of ours, quoted
    connection.execute(f'CREATE VIEW "{_name(table)}" AS {select}')


def _name(table: str) -> str:
    return table.replace("/", "_")
