"""A journal from a shell, also while a desk trades: ``python -m tasks.journal verify | explain ID | export``."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from tasks.errors import DataError, DisagreementError, KlinehouseError
from tasks.journal.entries import encode
from tasks.journal.place import STATE_DIR, journal_path
from tasks.journal.reading import read_head, read_lines, recover
from tasks.journal.story import story

_DEFAULT = journal_path(STATE_DIR)


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    command = argparse.ArgumentParser(prog="python -m tasks.journal", description=__doc__)
    command.add_argument("--journal", type=Path, default=_DEFAULT, help="the journal's file (default: %(default)s)")
    verbs = command.add_subparsers(dest="verb", required=True)
    verbs.add_parser("verify", help="check every line, and the tables against the lines; names the first that is wrong")
    explain = verbs.add_parser("explain", help="tell an order's whole story, with times")
    explain.add_argument("client_order_id")
    verbs.add_parser("export", help="print every line as JSON")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Do what was asked; returns 1 where the journal is not whole or does not know the order."""
    arguments = parser().parse_args(argv)
    try:
        with closing(_open(arguments.journal)) as database:
            if arguments.verb == "verify":
                _verify(database, arguments.journal.name)
            elif arguments.verb == "explain":
                sys.stdout.writelines(f"{text}\n" for text in story(database, arguments.client_order_id))
            else:
                _export(database)
    except (KlinehouseError, sqlite3.DatabaseError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _open(path: Path) -> sqlite3.Connection:
    """Open a journal for reading, as it stands at this moment."""
    if not path.exists():
        raise DataError(f"journal {path}: expected a file, found none; name it with --journal")
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    database.execute("BEGIN")  # one snapshot for everything that is read
    return database


def _verify(database: sqlite3.Connection, name: str) -> None:
    state, head = recover(database, name), read_head(database)
    found = database.execute("PRAGMA quick_check").fetchone()[0]
    if found != "ok":
        raise DisagreementError(f"journal {name}: SQLite finds its file damaged: {found}")
    print(
        f"{name}: {head.seq} lines, {len(state.orders)} orders, {len(state.trades)} fills, {head.epoch} starts: whole"
    )
    print(f"head {head.hash.hex()}")


def _export(database: sqlite3.Connection) -> None:
    for line in read_lines(database):
        fields = msgspec.structs.asdict(line) | {"payload": msgspec.Raw(line.payload), "hash": line.hash.hex()}
        sys.stdout.buffer.write(encode(fields) + b"\n")


if __name__ == "__main__":
    raise SystemExit(main())
