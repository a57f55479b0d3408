"""Where tables lie: a folder by default, object storage by configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from tasks.errors import InputError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem
    from pyarrow.parquet import ParquetFile

#: zstd level 1: level 3 saves 3 % of the bytes (14.6 for 15.0 a bar) and costs a sixth more time to write.
_COMPRESSION = "zstd"
_COMPRESSION_LEVEL = 1
#: What most reads ask for: a dictionary takes a tenth more bytes and saves 40 % of the decoding (prices repeat).
_READ_MOST = ("close",)
#: Kinds of object storage that both deltalake and polars know.
_STORAGES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it lies in storage: path below the table's folder, size in bytes, time of its last change."""

    path: str
    size: int
    modified_at: datetime


@dataclass(frozen=True)
class Location:
    """A folder, local or in object storage.

    Attributes:
        uri: Absolute local path, or ``s3://bucket/prefix`` and the like.
        options: Access to object storage: `AWS_ENDPOINT_URL`, `AWS_REGION`, … as `deltalake` and polars know them.
    """

    uri: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, root: str | Path, storage_options: Mapping[str, str] | None = None) -> Location:
        """Return the location of a lake's root; a local one is made absolute.

        Raises:
            InputError: It is empty, an address without a bucket or of a storage that is none.
        """
        text = str(root)
        kind, separator, rest = text.partition("://")
        if not (rest.strip("/") and kind in _STORAGES if separator else text.strip()):
            raise InputError(
                f"lake: expected a folder or an address like s3://bucket/prefix ({' '.join(_STORAGES)}), found {text!r}"
            )
        if not separator:
            text = str(Path(os.path.expanduser(text)).absolute())
        return cls(text.rstrip("/"), tuple(sorted((storage_options or {}).items())))

    @property
    def is_local(self) -> bool:
        """Whether the files lie in a local folder."""
        return "://" not in self.uri

    @property
    def storage_options(self) -> dict[str, str] | None:
        """The options as the libraries take them, None where there are none."""
        return dict(self.options) or None

    def child(self, name: str) -> Location:
        """Return the folder of a table.

        Raises:
            InputError: The name leaves the root or holds characters that a table's name may not.
        """
        parts = name.split("/")
        if not all(part and part not in (".", "..") and set(part) <= _NAME for part in parts):
            raise InputError(
                f"lake: expected a table name like klines/1m, found {name!r}; use letters, digits, - _ . /"
            )
        return Location(f"{self.uri}/{name}", self.options)

    def path(self, relative: str) -> str:
        """Return the full path or address of a file below this folder."""
        return f"{self.uri}/{relative}"

    def filesystem(self) -> FileSystem:
        """Return pyarrow's view of this folder; paths are relative to it."""
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import LocalFileSystem, PyFileSystem, SubTreeFileSystem

        if self.is_local:
            return SubTreeFileSystem(self.uri, LocalFileSystem())
        return PyFileSystem(DeltaStorageHandler(self.uri, self.storage_options))

    def write_parquet(self, relative: str, rows: pl.DataFrame, *, row_group_rows: int) -> int:
        """Write `rows` to a new file and return its size in bytes."""
        import pyarrow.parquet as pq

        table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        times = [name for name, kind in rows.schema.items() if isinstance(kind, pl.Datetime)]
        texts = [name for name, kind in rows.schema.items() if kind == pl.String]
        repeated = texts + [name for name in _READ_MOST if name in rows.columns]
        # Bounds help readers that look for times, names or whole numbers; nobody looks for one price among others.
        bounded = [name for name, kind in rows.schema.items() if not kind.is_float()]
        system = self.filesystem()
        if self.is_local:
            Path(self.path(relative)).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            table,
            relative,
            filesystem=system,
            compression=_COMPRESSION,
            compression_level=_COMPRESSION_LEVEL,
            use_dictionary=repeated,
            column_encoding=dict.fromkeys(times, "DELTA_BINARY_PACKED"),
            row_group_size=row_group_rows,
            write_statistics=bounded,
            store_schema=False,
        )
        return int(system.get_file_info(relative).size)

    def read_parquet(self, relative: str) -> pl.DataFrame:
        """Return the rows of a file."""
        return pl.scan_parquet(self.path(relative), glob=False, storage_options=self.storage_options).collect()

    def open_parquet(self, relative: str) -> ParquetFile:
        """Open a Parquet file for reading some of its row groups; a local one is mapped into memory."""
        from pyarrow.parquet import ParquetFile

        if self.is_local:
            return ParquetFile(self.path(relative), memory_map=True)
        return ParquetFile(relative, filesystem=self.filesystem(), pre_buffer=True)

    def read_lines(self, relative: str) -> list[str]:
        """Return the lines of a text file."""
        with self.filesystem().open_input_file(relative) as file:
            return file.read().decode().splitlines()

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        """Yield every file below a folder of this one."""
        from pyarrow.fs import FileSelector

        for info in self.filesystem().get_file_info(FileSelector(folder, recursive=True, allow_not_found=True)):
            if info.is_file:
                yield StoredFile(info.path, int(info.size), info.mtime.astimezone(UTC))

    def exists(self, relative: str) -> bool:
        """Return whether a file is there."""
        if self.is_local:
            return os.path.exists(self.path(relative))
        return bool(self.filesystem().get_file_info(relative).is_file)

    def check_readable(self, folder: str = "") -> None:
        """Tell a folder that cannot be read from one that is not there, which is as good as empty.

        Raises:
            InputError: A local folder is a file, lies below one, or may not be read.
        """
        try:
            if self.is_local:
                os.scandir(self.path(folder)).close()
        except FileNotFoundError:
            return
        except OSError as error:
            place = Path(self.path(folder))
            found = next(one for one in (place, *place.parents) if os.path.exists(one))
            raise InputError(
                f"lake: expected a folder that you may read, found {found}: {error.strerror}; name another, or mend it"
            ) from error

    def modified_at(self, relative: str) -> datetime:
        """Return when a file was last changed."""
        return self.filesystem().get_file_info(relative).mtime.astimezone(UTC)

    def delete(self, relative: str) -> None:
        """Delete a file; one that is gone already is as good."""
        try:
            self.filesystem().delete_file(relative)
        except FileNotFoundError:
            return

    def tables(self) -> Iterator[str]:
        """Yield the names of the tables below this folder: the folders that hold a `_delta_log`.

        Raises:
            InputError: As of `check_readable`.
        """
        from pyarrow.fs import FileSelector, FileType

        system, waiting = self.filesystem(), [""]
        while waiting:
            folder = waiting.pop()
            self.check_readable(folder)
            found = system.get_file_info(FileSelector(folder, allow_not_found=True))
            names = {info.base_name: info for info in found if info.type == FileType.Directory}
            if "_delta_log" in names:
                yield folder
            else:
                waiting += [f"{folder}/{name}".lstrip("/") for name in names if set(name) <= _NAME]  # no lost+found


_NAME = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
