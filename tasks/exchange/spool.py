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
    """A page on disk.

    Attributes:
        window: What was asked for.
        asked_at: The market's present when it was asked.
        bars: What was served, as `Page.bars`.
        conflicts: Opens of bars that were served with two values.
        name: A name of this one answer, different for every answer of every run.
    """

    window: Window
    asked_at: datetime
    bars: pl.DataFrame
    conflicts: tuple[datetime, ...]
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

    def save(self, page: Page, asked_at: datetime) -> None:
        """Keep a page until it is committed."""
        bars = BytesIO()
        page.bars.write_ipc(bars)
        ends = (to_ms(page.window.start), to_ms(page.window.end))
        conflicts = [to_ms(moment) for moment in page.conflicts]
        record = _Record(*ends, to_ms(asked_at), conflicts, uuid4().hex, bars.getvalue())
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / f"{ends[0]}-{ends[1]}.page"
        fresh = target.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.msgpack.encode(record))
        fresh.replace(target)

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
    bars = pl.read_ipc(BytesIO(record.bars)).select(list(BARS))
    window = Window(from_ms(record.start), from_ms(record.end))
    conflicts = tuple(from_ms(moment) for moment in record.conflicts)
    return Spooled(window, from_ms(record.asked_at), bars, conflicts, record.name)
