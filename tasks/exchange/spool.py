"""Pages that were fetched and not yet committed, kept so that a killed backfill asks for none of them twice.

One journal a partition: every page is one record with its length and checksum before it, appended with a single write.
A month's pages become one commit of the lake, after which the journal goes; whoever finds one at the start commits its
pages first. A record that was being written when the process died, or that a power cut damaged, ends the journal: its
page, and those after it, are asked for again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import msgspec
import polars as pl
import structlog

from lake.schema import BARS
from lake.timeline import from_ms, to_ms
from tasks.exchange.page import Page
from tasks.exchange.request import Window

log = structlog.get_logger(__name__)

#: Length and CRC-32 of the record that follows.
_HEAD = struct.Struct("<II")


@dataclass(frozen=True)
class Spooled:
    """A page that waits for its commit.

    Attributes:
        page: Its window, bars and conflicts; what else was counted of it is not kept.
        asked_at: The market's present when it was asked.
        name: A name of this one answer, different for every answer of every run.
    """

    page: Page
    asked_at: datetime
    name: str


class _Record(msgspec.Struct):
    start: int
    end: int
    asked_at: int
    conflicts: list[int]
    name: str
    bars: bytes


class Spool:
    """The pages of one partition of one symbol.

    Args:
        path: The journal; created with the first page in a folder that exists, removed by `clear`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, page: Page, asked_at: datetime) -> Spooled:
        """Keep a page on disk until it is committed, and return it as it is kept."""
        kept = Spooled(page, asked_at, uuid4().hex)
        bars = BytesIO()
        page.bars.write_ipc_stream(bars)
        record = _Record(
            to_ms(page.window.start),
            to_ms(page.window.end),
            to_ms(asked_at),
            [to_ms(moment) for moment in page.conflicts],
            kept.name,
            bars.getvalue(),
        )
        body = msgspec.msgpack.encode(record)
        with self._path.open("ab", buffering=0) as journal:
            journal.write(_HEAD.pack(len(body), zlib.crc32(body)) + body)
        return kept

    def pages(self) -> Iterator[Spooled]:
        """Yield the pages kept, in the order they came, up to the first record that is not whole."""
        if not self._path.exists():
            return
        data, place = self._path.read_bytes(), 0
        while place < len(data):
            head = data[place : place + _HEAD.size]
            length, checksum = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
            body = data[place + _HEAD.size : place + _HEAD.size + length]
            if len(body) < length or not length or zlib.crc32(body) != checksum:
                log.warning("journal.cut", path=str(self._path), kept_bytes=place, lost_bytes=len(data) - place)
                return
            yield _read(body)
            place += _HEAD.size + length

    def clear(self) -> None:
        """Drop every page."""
        self._path.unlink(missing_ok=True)


def _read(body: bytes) -> Spooled:
    record = msgspec.msgpack.decode(body, type=_Record)
    bars = pl.read_ipc_stream(BytesIO(record.bars)).select(list(BARS))
    window = Window(from_ms(record.start), from_ms(record.end))
    page = Page(window, bars, conflicts=tuple(from_ms(moment) for moment in record.conflicts))
    return Spooled(page, from_ms(record.asked_at), record.name)
