"""Rows on their way into a table: types a table can hold, columns it has, and the partition of each row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import polars as pl

from lake.snapshot import Snapshot
from lake.table import Table
from tasks.errors import ConflictError, SchemaError

#: Delta has no unsigned integers, no nanoseconds and no categories; these casts lose nothing.
_WIDER = {pl.UInt8: pl.Int16(), pl.UInt16: pl.Int32(), pl.UInt32: pl.Int64()}


def as_storable(rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` with types that a Delta table can hold, without loss.

    Raises:
        SchemaError: A column has a type that a table cannot hold; the message names it.
    """
    try:
        return rows.select(pl.col(name).cast(_storable(name, kind)) for name, kind in rows.schema.items())
    except pl.exceptions.InvalidOperationError as error:
        raise SchemaError(f"table: a column does not fit the type tables can hold: {error}") from error


def _storable(name: str, kind: pl.DataType) -> pl.DataType:
    if isinstance(kind, pl.Categorical | pl.Enum):
        return pl.String()
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is None:
            raise SchemaError(
                f"table: expected {name!r} in UTC, found a time without a zone; use replace_time_zone('UTC')"
            )
        return pl.Datetime("us", "UTC")
    if isinstance(kind, pl.List):
        return pl.List(_storable(name, kind.inner))  # type: ignore[arg-type]
    if isinstance(kind, pl.UInt64):
        return pl.Int64()
    if isinstance(kind, pl.Null | pl.Object | pl.Duration | pl.Time | pl.Array | pl.Int128):
        raise SchemaError(f"table: expected {name!r} of a type that tables hold, found {kind}; cast it first")
    return _WIDER.get(type(kind), kind)  # type: ignore[arg-type]


def matching(table: Table, base: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` in the columns of the table.

    Raises:
        ConflictError: The table lacked a column and has it now; whoever computed from `base` reads again.
        SchemaError: A column's type differs from the table's and cannot be cast without loss.
    """
    added = {name: kind for name, kind in rows.schema.items() if name not in base.schema}
    if added:
        table.add_columns(added)
        raise ConflictError(f"lake: {table.location.uri}: columns {list(added)} were added; read again")
    lacking = [pl.lit(None, kind).alias(name) for name, kind in base.schema.items() if name not in rows.columns]
    try:
        return rows.with_columns(lacking).select(_cast(name, kind, rows) for name, kind in base.schema.items())
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"table: expected columns {base.schema}, found {dict(rows.schema)}: {error}") from error


def _cast(name: str, kind: pl.DataType, rows: pl.DataFrame) -> pl.Expr:
    found = rows.schema.get(name, kind)
    if (found.is_float() and kind.is_integer()) or (kind == pl.String) != (found == pl.String):
        raise SchemaError(f"table: expected {name!r} as {kind}, found {found}; cast it before writing")
    return pl.col(name).cast(kind)


def split(rows: pl.DataFrame, base: Snapshot) -> Iterator[tuple[pl.DataFrame, dict[str, object]]]:
    """Yield the rows of each partition of the table, with the partition's values."""
    if not base.partition_by:
        if rows.height:
            yield rows, {}
        return
    for values, part in rows.group_by(base.partition_by, maintain_order=True):
        yield part, dict(zip(base.partition_by, values, strict=True))


def partition_key(partition: Mapping[str, object]) -> str:
    """Return the key under which writers of one partition find out about each other."""
    return json.dumps({name: str(value) for name, value in partition.items()}, sort_keys=True)


def replacement(
    table: Table, base: Snapshot, where: Mapping[str, object]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return the files that hold rows matching `where`, the other rows of these files, and the matching rows."""
    pruned = {name: value for name, value in where.items() if name in base.partition_by}
    files = base.files.filter(equal({f"partition.{name}": value for name, value in pruned.items()}))
    if not files.height:
        return files, pl.DataFrame(schema=base.schema), pl.DataFrame(schema=base.schema)
    found = table.scan(files, base.schema, path_column="__path").filter(equal(where)).collect()
    touched = files.filter(pl.Series(table.paths(files), dtype=pl.String).is_in(found["__path"].unique().to_list()))
    if touched.height:
        kept = table.scan(touched, base.schema).filter(~equal(where)).collect()
    else:
        kept = pl.DataFrame(schema=base.schema)
    return touched, kept, found.drop("__path")


def equal(where: Mapping[str, object]) -> pl.Expr:
    """Return the filter of rows whose columns equal `where`, null equal to null; every row for an empty one."""
    keep = pl.lit(True)
    for name, value in where.items():
        keep &= pl.col(name).eq_missing(pl.lit(value))
    return keep
