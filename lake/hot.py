"""The newest bars of a symbol in Redis, for programs that ask many times a second. The lake stays the record.

A symbol's bars are one value, an Arrow IPC stream under ``klinehouse:bars:<interval>:<symbol>``, replaced whole: a
reader sees the old bars or the new ones, with every bit of their floats.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import redis
from pyarrow import ipc

from lake.schema import as_bars
from lake.transfer import DAMAGED, as_frame
from tasks.errors import InputError, SchemaError, TransientError

#: Seconds until a Redis that does not answer is given up.
TIMEOUT_S = 5.0


def key_of(symbol: str, interval: str) -> str:
    """Return the Redis key of a symbol's hot bars."""
    return f"klinehouse:bars:{interval}:{symbol}"


def write_hot(url: str, bars: pl.DataFrame, *, symbol: str, interval: str) -> int:
    """Replace a symbol's hot bars and return their number.

    Raises:
        TransientError: Redis did not answer. What was there stays.
    """
    stream = io.BytesIO()
    as_bars(bars).write_ipc_stream(stream)
    with _server(url) as server:
        server.set(key_of(symbol, interval), stream.getvalue())
    return bars.height


def read_hot(url: str, *, symbol: str, interval: str) -> pl.DataFrame:
    """Return a symbol's hot bars as `BARS`, sorted.

    Raises:
        InputError: There are none, or something else lies under their key.
        TransientError: Redis did not answer.
    """
    with _server(url) as server:
        value = server.get(key_of(symbol, interval))
    if value is None:
        raise InputError(f"redis: expected bars under {key_of(symbol, interval)}, found nothing; export them first")
    return parse_hot(value, where=f"redis: {key_of(symbol, interval)}")  # type: ignore[arg-type]


def parse_hot(value: bytes, *, where: str) -> pl.DataFrame:
    """Return the bars of a value as Redis holds it.

    Raises:
        InputError: It is no Arrow stream of bars, or a damaged one.
    """
    try:
        with ipc.open_stream(value) as stream:
            return as_bars(as_frame(stream.read_all()))
    except (*DAMAGED, SchemaError) as error:
        raise InputError(f"{where}: expected an Arrow stream of bars: {error}") from None


@contextmanager
def _server(url: str) -> Iterator[redis.Redis]:
    """Connect; no error quotes the address, which may hold a password."""
    try:
        client = redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    except ValueError:  # its message quotes what it took for the port, which may be the rest of a password
        raise InputError(
            "redis: expected an address like redis://:password@host:6379/0, found another; write / in a password as %2F"
        ) from None
    try:
        with client as server:
            yield server
    except (redis.RedisError, OSError) as error:
        raise TransientError(
            f"redis: expected an answer within {TIMEOUT_S:g} s, found {type(error).__name__}"
        ) from None
