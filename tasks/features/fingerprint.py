"""Which code made a result, and from which data: what a cached or stored result is valid for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

_ROOM = Path(__file__).parent


def hash_files(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the files' names and contents, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(set(paths), key=lambda path: path.as_posix()):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


@cache
def features_code() -> str:
    """Return the hash of this room's code: another one means that stored features may be other numbers."""
    return hash_files(_ROOM.rglob("*.py"))


def hash_frames(frames: Mapping[str, pl.DataFrame]) -> str:
    """Return the SHA-256 of the frames' names, columns, types and values, nulls included."""
    digest = hashlib.sha256()
    for name, frame in sorted(frames.items()):
        digest.update(f"{name}\0{frame.height}\0{list(frame.schema.items())}\0".encode())
        for column in frame:
            values = column.fill_null(0.0) if column.dtype.is_float() else column
            digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
            digest.update(values.to_physical().to_numpy().tobytes())
    return digest.hexdigest()
