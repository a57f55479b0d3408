"""One Delta table: its current files, new data files, and commits that detect conflicts.

Data files are written by us (so that encoding, order and row groups are ours to choose) and become visible in one
atomic commit of the Delta log. Files carry the partition columns too, so that a reader needs nothing but the file
list. A commit names the keys it has read; a concurrent commit of the same key makes it fail, and the caller reads
again. Keys are Delta application transactions (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#transaction-identifiers).
"""

from __future__ import annotations

import json
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from lake.location import Location, StoredFile
from lake.snapshot import Snapshot, arrow_schema, snapshot_of, statistics
from lake.timeline import from_ms
from tasks.errors import ConflictError, DataError, InputError

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

#: The log is never cut by Delta itself: that would break pinned versions. `lake.maintenance` knows the pins.
#: A checkpoint each 20 commits keeps a commit's latency flat (docs/lake.md, benchmarks/commit_latency.py).
CONFIGURATION = {"delta.checkpointInterval": "20", "delta.enableExpiredLogCleanup": "false"}

#: Rows in a row group: small enough that three months out of a year skip the rest, large enough to encode well.
ROW_GROUP_ROWS = 1 << 15

#: Attempts of one commit call inside delta-rs, against writers of other keys; conflicts on a key are ours to retry.
COMMIT_ATTEMPTS = 100

#: Key of a commit's metadata that names the file it staged.
STAGED = "staged"

#: Folder of files that commits name but that are no part of the table; Delta leaves names with _ alone.
_STAGING = "_staged"

_COMMIT_ID = "commitId"
_COMMITTED_AT = "committedAt"
_LOG = "_delta_log"
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(slots=True)
class Change:
    """What one commit does.

    Attributes:
        adds: Data files written by `Table.write_file`.
        removes: Paths of data files that cease to be current.
        reads: Keys whose files the change was computed from; a concurrent commit of one of them is a conflict.
        staged: A file written by `Table.stage`, named in the commit's metadata under `STAGED`.
        data_change: False where the rows stay the same and only lie in other files.
        transactions: Application id to version, stored in the commit (for exactly-once hand-overs between tables).
    """

    adds: list[AddAction] = field(default_factory=list)
    removes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    staged: str | None = None
    data_change: bool = True
    transactions: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of the log.

    Attributes:
        version: The version it made.
        at: When, by the clock of the lake that committed.
        commit_id: Names the commit, None where Delta itself made it.
        staged: The file it staged, see `Change.staged`.
    """

    version: int
    at: datetime
    commit_id: str | None
    staged: str | None


class Table:
    """One Delta table under a lake's root. Not shared between threads: `Lake` gives each use its lock."""

    def __init__(self, location: Location, clock: Callable[[], datetime]) -> None:
        self.location = location
        self._clock = clock
        self._handle: DeltaTable | None = None
        self._snapshot: Snapshot | None = None
        self._old = lru_cache(maxsize=8)(self._load_version)

    def exists(self) -> bool:
        """Return whether the table has been created."""
        return self._refresh() is not None

    def create(self, schema: Mapping[str, pl.DataType], partition_by: Sequence[str]) -> None:
        """Create the table; one that exists, or that another process created first, is as good."""
        if self._handle is not None or self.exists():
            return
        try:
            DeltaTable.create(
                self.location.uri,
                arrow_schema(schema),
                partition_by=list(partition_by),
                configuration=CONFIGURATION,
                storage_options=self.location.storage_options,
            )
        except (DeltaError, OSError):
            if not self.exists():
                raise

    def snapshot(self, version: int | None = None) -> Snapshot:
        """Return the table's current state, or its state at `version`.

        Raises:
            InputError: There is no table, or no such version any more.
        """
        handle = self._refresh()
        if handle is None:
            raise InputError(f"lake: expected a table at {self.location.uri}, found none; write to it first")
        if version is not None and version < 0:
            raise InputError(f"lake: expected a version of 0 or more, found {version}")
        if version is not None and version != handle.version():
            return self._old(version)
        if self._snapshot is None or self._snapshot.version != handle.version():
            self._snapshot = snapshot_of(handle)
        return self._snapshot

    def write_file(self, rows: pl.DataFrame, partition: Mapping[str, object]) -> AddAction:
        """Write `rows` (all of one partition) as a new data file that no reader sees before `commit`."""
        folder = "/".join(f"{name}={_folder(value)}" for name, value in partition.items())
        path = "/".join(filter(None, [folder, f"part-{uuid.uuid4().hex}.parquet"]))
        size = self.location.write_parquet(path, rows, row_group_rows=ROW_GROUP_ROWS)
        values = {name: None if value is None else _text(value) for name, value in partition.items()}
        return AddAction(path, size, values, int(time.time() * 1000), True, json.dumps(statistics(rows)))

    def stage(self, rows: pl.DataFrame) -> str:
        """Write rows beside the table, where no reader looks, and return the path for a commit to name."""
        path = f"{_STAGING}/{uuid.uuid4().hex}.parquet"
        self.location.write_parquet(path, rows, row_group_rows=ROW_GROUP_ROWS)
        return path

    def commit(self, change: Change, base: Snapshot) -> int:
        """Commit `change`, which was computed from `base`, and return the version it became.

        Raises:
            ConflictError: Another writer committed one of `change.reads` or removed a file of ours since `base`; what
                was written for this change is deleted.
        """
        handle = self._refresh_to(base.version)
        commit_id = uuid.uuid4().hex
        marks = {**dict.fromkeys(change.reads, base.version + 1), **change.transactions}
        properties = CommitProperties(
            custom_metadata={
                _COMMIT_ID: commit_id,
                _COMMITTED_AT: self._stamp(base.version).isoformat(),
                **({STAGED: change.staged} if change.staged else {}),
            },
            max_commit_retries=COMMIT_ATTEMPTS,
            app_transactions=[Transaction(key, number) for key, number in marks.items()],
        )
        schema = handle.schema()
        try:
            handle.create_write_transaction(
                self._actions(change, base),
                "append",
                schema,
                handle.metadata().partition_columns,
                commit_properties=properties,
            )
        except CommitFailedError as error:
            # An answer lost on the way looks like a conflict with ourselves: never delete what has been committed.
            version = self._version_of(commit_id, base.version)
            if version is None:
                self._discard(change)
                raise ConflictError(f"lake: {self.location.uri}: another writer was first: {error}") from error
            return version
        version = self._version_of(commit_id, base.version)
        if version is None:
            raise ConflictError(f"lake: {self.location.uri}: commit {commit_id} is not in the log; read again")
        return version

    def scan(
        self,
        files: pl.DataFrame,
        schema: Mapping[str, pl.DataType] | None = None,
        *,
        path_column: str | None = None,
        partitions: Mapping[str, pl.DataType] | None = None,
    ) -> pl.LazyFrame:
        """Return rows of `files` (some of a snapshot's) lazily; columns that an older file lacks are null.

        With `partitions` these columns come from the names of folders, in these types, and cost no decoding.
        """
        return pl.scan_parquet(
            self.paths(files),
            schema=None if schema is None else dict(schema),
            missing_columns="raise" if schema is None else "insert",
            hive_partitioning=partitions is not None,
            hive_schema=None if partitions is None else dict(partitions),
            glob=False,
            storage_options=self.location.storage_options,
            include_file_paths=path_column,
        )

    def dataset(self, snapshot: Snapshot) -> Dataset:
        """Return the snapshot's files as a pyarrow dataset, for readers that polars does not serve."""
        from pyarrow.dataset import dataset

        schema = arrow_schema(snapshot.schema)
        return dataset(snapshot.files["path"].to_list(), schema, "parquet", filesystem=self.location.filesystem())

    def add_columns(self, columns: Mapping[str, pl.DataType]) -> None:
        """Add nullable columns to the table.

        Raises:
            ConflictError: Another writer changed the schema at the same time; read again.
        """
        handle = self._refresh()
        assert handle is not None  # noqa: S101  # callers hold a snapshot
        try:
            handle.alter.add_columns(Schema.from_arrow(arrow_schema(columns)).fields)
        except CommitFailedError as error:
            raise ConflictError(f"lake: {self.location.uri}: another writer changed the schema: {error}") from error
        self._handle = None

    def log(self, after: int = -1) -> list[Commit]:
        """Return the commits after a version, oldest first, as the log's own files tell them; costs what it returns.

        Not `DeltaTable.history`: it counts versions back from the newest, and is off by those that come meanwhile.
        """
        return [self._commit(version) for version in self._versions(after + 1)]

    def version_at(self, moment: datetime) -> int:
        """Return the newest version committed by `moment`; before the first that the log holds, that first one."""
        versions = self._versions(0)
        return versions[max(bisect_right(versions, moment, key=lambda version: self._commit(version).at) - 1, 0)]

    def holds(self, version: int) -> bool:
        """Return whether the log still holds a version."""
        return version in self._versions(0)

    def forget_before(self, version: int) -> int:
        """Delete the log's files that no version from `version` on needs, and return how many those were.

        What stays begins at a checkpoint, so that every later version can still be read.
        """
        log = {file.path: int(file.path[11:31]) for file in self.location.files(_LOG) if file.path[11:31].isdigit()}
        start = max((number for path, number in log.items() if ".checkpoint" in path and number <= version), default=0)
        old = [path for path, number in log.items() if number < start]
        for path in sorted(old, reverse=True):
            self.location.delete(path)
        return len(old)

    def added(self, version: int) -> list[str]:
        """Return the data files that the commit of `version` added."""
        return [unquote(entry["add"]["path"]) for entry in self._entries(version) if "add" in entry]

    def data_files(self) -> Iterator[StoredFile]:
        """Yield every file in the table's folder but those of the log: current, superseded, staged, or left behind."""
        return (file for file in self.location.files() if not file.path.startswith(f"{_LOG}/"))

    def transaction_version(self, key: str) -> int | None:
        """Return the newest version committed under an application transaction, None where there is none."""
        handle = self._refresh()
        return None if handle is None else handle.transaction_version(key)

    def paths(self, files: pl.DataFrame) -> list[str]:
        """Return the full paths of files of a snapshot."""
        return [self.location.path(path) for path in files["path"]]

    def _discard(self, change: Change) -> None:
        for path in [*(add.path for add in change.adds), *filter(None, [change.staged])]:
            self.location.delete(path)

    def _refresh(self) -> DeltaTable | None:
        try:
            if self._handle is None:
                self._handle = self._open(None)
            elif self._behind(self._handle.version()):
                self._handle.update_incremental()
        except TableNotFoundError:
            self.location.check_readable(_LOG)
            return None
        except DeltaError as error:
            raise DataError(
                f"lake: {self.location.uri}: expected a log that can be read, found: {str(error).splitlines()[0]}; put "
                "its _delta_log back from a backup, or use the newer program that wrote it"
            ) from error
        return self._handle

    def _behind(self, version: int) -> bool:
        """Return whether there may be a newer version; a look at two local files is 100 times cheaper than Delta's."""
        if not self.location.is_local:
            return True
        return self.location.exists(_entry(version + 1)) or not self.location.exists(_entry(version))

    def _stamp(self, base: int) -> datetime:
        """Return when a commit over `base` is made: the clock's time, but after the commit before it.

        A clock may stand in 1970 after a start without a network, and moments are looked up as in an ordered list.
        """
        before = self._commit(base)
        now = self._clock()
        return now if before.commit_id is None else max(now, before.at + timedelta(microseconds=1))

    def _refresh_to(self, version: int) -> DeltaTable:
        if self._handle is None or self._handle.version() != version:
            self._handle = self._open(version)
        return self._handle

    def _open(self, version: int | None) -> DeltaTable:
        return DeltaTable(self.location.uri, version=version, storage_options=self.location.storage_options)

    def _load_version(self, version: int) -> Snapshot:
        try:
            return snapshot_of(self._open(version))
        except DeltaError as error:
            raise InputError(
                f"lake: {self.location.uri}: expected a version that is still kept, found {version}: {error}"
            ) from error

    def _actions(self, change: Change, base: Snapshot) -> list[AddAction | RemoveAction]:
        names = [name for name in base.files.columns if name.startswith("partition.")]
        now = int(time.time() * 1000)
        adds = [replace(add, data_change=change.data_change) for add in change.adds]
        if not change.removes:
            return list(adds)
        rows = base.files.filter(pl.col("path").is_in(change.removes)).iter_rows(named=True)
        return adds + [
            RemoveAction(
                row["path"],
                change.data_change,
                now,
                row["size"],
                {name.removeprefix("partition."): None if row[name] is None else _text(row[name]) for name in names},
            )
            for row in rows
        ]

    def _versions(self, first: int) -> range:
        """Return the versions from `first` on whose commits the log still holds."""
        handle = self._refresh()
        newest = -1 if handle is None else handle.version()
        if first <= newest and not self.location.exists(_entry(first)):
            names = (file.path.removeprefix(f"{_LOG}/") for file in self.location.files(_LOG))
            kept = [int(name[:20]) for name in names if name.endswith(".json") and name[:20].isdigit()]
            first = min((version for version in kept if version >= first), default=newest + 1)
        return range(first, newest + 1)

    def _entries(self, version: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.location.read_lines(_entry(version))]

    def _commit(self, version: int) -> Commit:
        told = next((entry["commitInfo"] for entry in self._entries(version) if "commitInfo" in entry), {})
        if _COMMITTED_AT in told:
            moment = datetime.fromisoformat(told[_COMMITTED_AT])
        elif "timestamp" in told:
            moment = from_ms(int(told["timestamp"]))
        else:  # other programs may leave it out
            moment = self.location.modified_at(_entry(version))
        return Commit(version, moment, told.get(_COMMIT_ID), told.get(STAGED))

    def _version_of(self, commit_id: str, base: int) -> int | None:
        return next((commit.version for commit in self.log(after=base) if commit.commit_id == commit_id), None)


def _entry(version: int) -> str:
    return f"{_LOG}/{version:020}.json"


def _folder(value: object) -> str:
    return _NULL_PARTITION if value is None else quote(_text(value), safe="-_.~")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
