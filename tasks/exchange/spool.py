"""Pages that were fetched and not yet committed, kept so that a killed backfill asks for none of them twice.

One small file a page, renamed into place: a page is there whole or not at all. A month's pages become one commit of the
lake, after which their files go; whoever finds files at the start commits them first.
"""

from __future__ import annotations

import os
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
        folder: Where its files lie; created at the first page, removed with the last.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, page: Page, asked_at: datetime) -> Spooled:
        """Keep a page on disk until it is committed, and return it as it is kept."""
        kept = Spooled(page, asked_at, uuid4().hex)
        ends = (to_ms(page.window.start), to_ms(page.window.end))
        conflicts = [to_ms(moment) for moment in page.conflicts]
        bars = BytesIO()
        page.bars.write_ipc_stream(bars)
        record = _Record(*ends, to_ms(asked_at), conflicts, kept.name, bars.getvalue())
        target = self._folder / f"{ends[0]}-{ends[1]}.page"
        fresh = target.with_suffix(f".{os.getpid()}")
        try:
            fresh.write_bytes(msgspec.msgpack.encode(record))
        except FileNotFoundError:
            self._folder.mkdir(parents=True)
            fresh.write_bytes(msgspec.msgpack.encode(record))
        fresh.replace(target)
        return kept

    def pages(self) -> Iterator[Spooled]:
        """Yield the pages kept, oldest window first; what a power cut left unreadable is dropped."""
        for path in sorted(self._folder.glob("*.page"), key=lambda path: int(path.stem.split("-")[0])):
            try:
                yield _read(path)
            except (msgspec.DecodeError, pl.exceptions.PolarsError, OSError) as error:
                log.warning("page.unreadable", path=str(path), error=str(error))
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Drop every page, and what a killed writer left half written."""
        if not self._folder.exists():
            return
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)
        self._folder.rmdir()


def _read(path: Path) -> Spooled:
    record = msgspec.msgpack.decode(path.read_bytes(), type=_Record)
    bars = pl.read_ipc_stream(BytesIO(record.bars)).select(list(BARS))
    window = Window(from_ms(record.start), from_ms(record.end))
    page = Page(window, bars, conflicts=tuple(from_ms(moment) for moment in record.conflicts))
    return Spooled(page, from_ms(record.asked_at), record.name)
