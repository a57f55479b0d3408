"""Recovery and `explain` at size: ``python -m benchmarks.journal_orders [--lines 1000000] [--open 10000]``."""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from benchmarks.runner import Table
from tasks.journal.__main__ import main as journal
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tasks.orders.lifecycle import Event
from tasks.orders.order import Fill, OrderRequest, Side
from tasks.orders.states import Happening

#: Lines of an order that lived as orders do: signal, creation, verdict, intent, reply, acknowledgement, fill.
_LINES_EACH = 7


def build(path: Path, lines: int, open_orders: int) -> str:
    """Write a journal of so many lines; returns the id of the order in its middle."""
    count = lines // _LINES_EACH
    with Journal(path) as written:
        for first in range(0, count, 2000):
            numbers = range(first, min(first + 2000, count))
            entries = [entry for number in numbers for entry in _life(number, filled=number >= open_orders)]
            written.commit_now(entries)
        left = lines - written._head[0]
        written.commit_now([Entry(Kind.QUERY, body={"found": None})] * left)
    return _identifier(count // 2)


def _identifier(number: int) -> str:
    return f"kh{number:016d}"


def _life(number: int, *, filled: bool) -> list[Entry]:
    identifier, side = _identifier(number), Side.BUY if number % 2 else Side.SELL
    request = OrderRequest(identifier, "paper", "BTCUSDT", side, Decimal("0.01"), signal_key=f"bar {number}")
    fill = Fill(f"t{number}", Decimal("60000.1"), Decimal("0.01"), Decimal("0.6"), datetime.now(UTC))
    verdict = {"verdict": {"passed": True, "checked": ["trading_state", "signal_age", "data_quality"]}}
    return [
        Entry(Kind.SIGNAL, identifier, {"signal": f"bar {number}", "decided_at": fill.timestamp}),
        Entry(Kind.CREATED, identifier, request),
        Entry(Kind.RISK, identifier, verdict),
        Entry(Kind.EVENT, identifier, Event(Happening.SUBMIT_INTENDED)),
        Entry(Kind.REPLY, identifier, {"source": "submit", "report": {"broker_order_id": str(number)}}),
        Entry(Kind.EVENT, identifier, Event(Happening.ACKED, broker_order_id=str(number))),
        Entry(Kind.EVENT, identifier, Event(Happening.FILLED_PART, fill=fill))
        if filled
        else Entry(Kind.QUERY, identifier, {"found": True}),
    ]


def measure_journal(table: Table, lines: int, open_orders: int) -> None:
    """Add the time of a start on a journal of so many lines, and of an order's story out of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.sqlite"
        identifier = build(path, lines, open_orders)
        began, used = time.perf_counter(), time.process_time()
        with Journal(path) as recovered:
            seconds, processor_s = time.perf_counter() - began, time.process_time() - used
            working = sum(not order.is_terminal for order in recovered.state.orders.values())
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            assert journal(["--journal", str(path), "explain", identifier]) == 0
        explained = time.perf_counter() - began
    detail = f"{processor_s:.1f} s of processor time"
    table.figure(
        f"start on {lines:,} lines with {working:,} open orders", seconds, at_most=10, unit=" s", detail=detail
    )
    table.figure(f"explain one order of {lines:,} lines", explained, at_most=1, unit=" s")


def main() -> None:
    """Print the table; exit 1 where a bound was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--open", type=int, default=10_000)
    arguments = parser.parse_args()
    table = Table("Journal")
    measure_journal(table, arguments.lines, arguments.open)
    table.finish()


if __name__ == "__main__":
    main()
