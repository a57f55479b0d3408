"""The way most traders do it, as a test double: a fresh id each time, the row written after the reply. It must fail."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr

from benchmarks.killed_orders import DEADLINE_S, LAG_S, SYMBOLS, TIMEOUT_S, Killer, Life
from tasks.broker.local import LocalBroker, LocalSettings
from tasks.broker.port import NotSentError, OutcomeUnknownError
from tasks.orders.order import OrderRequest, Side, TimeInForce

NAIVE = "fresh id, row after reply"
_ROWS = "rows.txt"


def naive_intents(life: Life) -> set[str]:
    """Return every intent that has a row."""
    path = Path(life.folder) / _ROWS
    return set(path.read_text().split()) if path.exists() else set()


def live_naive(life: Life) -> None:
    """Trade until killed at a random moment; takes any failure for a rejection and tries again."""
    asyncio.run(_live(life))


async def _live(life: Life) -> None:
    killer = Killer(life)
    killer.kill_within(1.0)
    settings = LocalSettings(life.url, SecretStr(life.key), life.grade, DEADLINE_S, LAG_S, TIMEOUT_S)
    broker = LocalBroker(settings, clock=partial(datetime.now, UTC))
    number = len(naive_intents(life))
    while True:
        intent = f"intent{number}"
        side = Side.BUY if number % 2 else Side.SELL
        request = OrderRequest(
            f"{intent}.{uuid4().hex[:8]}", "proof", SYMBOLS[0], side, Decimal("0.01"), time_in_force=TimeInForce.IOC
        )
        try:
            await broker.submit(request, datetime.now(UTC))
        except (OutcomeUnknownError, NotSentError):
            continue
        with (Path(life.folder) / _ROWS).open("a") as rows:
            rows.write(f"{intent}\n")
        number += 1
