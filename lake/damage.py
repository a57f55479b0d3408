"""Files of a table that are gone or cut short: which they are, how that is said, and how to go on without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from lake.location import Location
from lake.table import Change, Table
from tasks.errors import DataError

if TYPE_CHECKING:
    from lake.store import Lake

#: What readers raise where a file is gone, cut or overwritten.
_RAISED = (OSError, pl.exceptions.PolarsError, pa.ArrowException)


def damaged(location: Location, files: pl.DataFrame) -> list[str]:
    """Return the paths of files (rows of `Snapshot.files`) that are gone, or not as long as the log says."""
    if not files.height:
        return []
    told = location.filesystem().get_file_info(files["path"].to_list())
    sizes = zip(files["path"], files["size"], told, strict=True)
    return [path for path, size, info in sizes if not info.is_file or info.size != size]


@contextmanager
def reading(location: Location, files: pl.DataFrame) -> Iterator[None]:
    """Say which of the files is damaged where reading them fails for that.

    Raises:
        DataError: A file is gone or cut; the message names it and what to do.
    """
    try:
        yield
    except _RAISED:
        check_whole(location, files)
        raise


def check_whole(location: Location, files: pl.DataFrame) -> None:
    """Check files (rows of `Snapshot.files`) without reading them.

    Raises:
        DataError: A file is gone or cut; the message names it and what to do.
    """
    found = damaged(location, files)
    if found:
        raise DataError(
            f"lake: {location.uri}: expected whole files, found {len(found)} gone or cut, such as {found[0]}. An "
            "older version than maintenance keeps is gone for good; otherwise put the files back from a backup, or let "
            "go of their rows with `python -m lake --mend --root …` and run the backfill"
        )


def mend(lake: Lake) -> dict[str, list[str]]:
    """Take damaged files out of every table, each in one commit, and return their paths by table.

    What they held is no longer there for any reader, and a backfill asks for bars again. Versions from before the
    commit stay as damaged as they are, so that files put back from a backup are found by them.
    """
    found = {}
    for name in lake.tables():
        snapshot = lake.snapshot(name)
        assert snapshot is not None  # noqa: S101  # it was listed
        if damaged(lake.table(name).location, snapshot.files):
            found[name] = lake.transact(name, _let_go, snapshot.schema)
    return found


def _let_go(table: Table) -> list[str]:
    base = table.snapshot()
    gone = damaged(table.location, base.files)
    if gone:
        table.commit(Change(removes=gone), base)
    return gone
