"""What a Delta table holds at one version: its files, their bounds, its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, Schema

from lake.timeline import from_ms


@dataclass(frozen=True)
class Snapshot:
    """The table at one version.

    Attributes:
        version: Delta version.
        files: One row a data file: `path` (relative), `size`, `rows`, `first`, `last` (timestamps, null where the
            table has none) and `partition.<column>` for each partition column.
        schema: Columns and types as polars sees them, the partition columns included.
        partition_by: Names of the partition columns.
    """

    version: int
    files: pl.DataFrame
    schema: dict[str, pl.DataType]
    partition_by: list[str]

    @cached_property
    def bounds(self) -> dict[str, list[tuple[str, datetime, datetime]]]:
        """Path, first and last timestamp of each symbol's files, in order: for reads too short for a query engine."""
        found: dict[str, list[tuple[str, datetime, datetime]]] = {}
        for symbol, *file in self.files.select("partition.symbol", "path", "first", "last").iter_rows():
            found.setdefault(symbol, []).append((file[0], file[1], file[2]))
        return found


def snapshot_of(handle: DeltaTable) -> Snapshot:
    """Return the state of a table at the version its handle stands at."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    names = {"size_bytes": "size", "num_records": "rows", "min.timestamp": "first", "max.timestamp": "last"}
    files = files.rename({old: new for old, new in names.items() if old in files.columns})
    keep = ["path", "size", "rows"]
    keep += [name for name in files.columns if name in ("first", "last") or name.startswith("partition.")]
    # The log holds paths as URLs; on disk and in actions they are plain.
    paths = pl.Series("path", [unquote(path) if "%" in path else path for path in files["path"]], pl.String)
    # Sorted here once, since every read picks some of them and wants them in order.
    order = [name for name in keep if name.startswith("partition.") or name == "first"]
    files = files.select(keep).with_columns(paths).sort([*order, "path"])
    return Snapshot(
        handle.version(), files, _polars_schema(handle.schema().to_json()), handle.metadata().partition_columns
    )


@lru_cache(maxsize=64)
def _polars_schema(schema: str) -> dict[str, pl.DataType]:
    return dict(pl.DataFrame(pa.schema(Schema.from_json(schema)).empty_table()).schema)


def arrow_schema(columns: Mapping[str, pl.DataType]) -> pa.Schema:
    """Return columns and types as Delta and pyarrow know them."""
    return pl.DataFrame(schema=dict(columns)).to_arrow(compat_level=pl.CompatLevel.oldest()).schema


def statistics(rows: pl.DataFrame) -> dict[str, object]:
    """Return Delta's file statistics; bounds of `timestamp` only, rounded outwards to its milliseconds."""
    found: dict[str, object] = {"numRecords": rows.height, "minValues": {}, "maxValues": {}, "nullCount": {}}
    if "timestamp" in rows.columns and isinstance(rows.schema["timestamp"], pl.Datetime) and rows.height:
        moments = rows["timestamp"].cast(pl.Int64)
        first, last, nulls = moments.min(), moments.max(), moments.null_count()
        if nulls < rows.height:
            found["minValues"] = {"timestamp": _iso_ms(first // 1000)}  # type: ignore[operator]
            found["maxValues"] = {"timestamp": _iso_ms(-(-last // 1000))}  # type: ignore[operator]
        found["nullCount"] = {"timestamp": nulls}
    return found


def _iso_ms(milliseconds: int) -> str:
    return from_ms(milliseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
