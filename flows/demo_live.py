"""``make demo-live``: the whole live side for a minute, on a market inside this process. No key, no internet.

A market of the last twenty minutes is streamed twenty times as fast, so that bars close every three seconds and a
moving-average crossover really trades. Everything else runs as it would: the stream, the recording, the strategies, the
risk limits with ages in real seconds, the paper broker against the streamed books, the journal, the page. Limits that
count by the minute count the market's: 200 orders of a strategy in a minute of ours, where a real run is allowed ten.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import sys
import time
import urllib.request
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.journal.state import State
    from tasks.orders.position import Position

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
SECONDS, SPEED = 60.0, 20.0
PARAMS = {"fast": 2.0, "slow": 5.0}
#: A run that takes longer to come up is broken.
_START_S = 120.0
#: The page's usual port; another one where it is taken.
_PORT = 8780


def main(seconds: float = SECONDS) -> int:
    """Trade for a while and print what came of it; returns 1 where journal, broker and page disagree."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # before Prefect is imported, which reads it once
    import structlog

    from flows.settings import Settings, use

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # what halts trading, and worse
    folder = Path("data/demo-live") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    settings = Settings(
        market="simulator",
        plan="enterprise",
        market_speed=SPEED,
        limits_file=write_limits(folder, SPEED),
        lake_root=str(folder / "lake"),
        state_dir=folder / "state",
        control_port=_free_port(),
    )
    with use(settings):
        state = asyncio.run(_trade(settings.state_dir, f"http://127.0.0.1:{settings.control_port}", seconds))
    return _report(folder, state)


def write_limits(folder: Path, speed: float) -> Path:
    """Write the usual limits for a market `speed` times as fast: what counts by the minute counts the market's."""
    from tasks.orders.account import Limits

    usual = Limits()
    rates = ("orders_per_minute", "symbol_orders_per_minute", "strategy_orders_per_minute")
    lines = [f"{name} = {getattr(usual, name) * speed:.0f}" for name in rates]
    lines.append(f"collar_period_s = {float(usual.collar_period_s) / speed:g}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "limits.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


async def _trade(folder: Path, page: str, seconds: float) -> dict[str, Any]:
    """Run the live flow for so long, or until Ctrl-C, and return its state just before the end."""
    from flows.live import live

    running = asyncio.create_task(live.fn(SYMBOLS, strategy="ma_crossover", strategy_params=PARAMS))
    async with asyncio.timeout(_START_S):
        while not running.done() and not (state := await asyncio.to_thread(_state, page)):
            await asyncio.wait([running], timeout=0.1)
    if not running.done():
        token = (folder / "control.token").read_text(encoding="utf-8")
        print(f"Page:   {page}/#token={token}  (look, press HALT; Ctrl-C ends early)")
        print(f"Limits: the usual ones, by the market's minute, of which {SPEED:g} pass in one of ours")
    until = time.monotonic() + seconds
    while not running.done() and (left_s := until - time.monotonic()) > 0:
        _progress(state, left_s)
        await asyncio.wait([running], timeout=min(1.0, left_s))
        state = await asyncio.to_thread(_state, page) or state
    began = time.monotonic()
    if not running.done():
        os.kill(os.getpid(), signal.SIGTERM)  # the way a service is stopped
    await running
    print(f"Ended:  {time.monotonic() - began:.1f} s after SIGTERM, orders accounted for, everything recorded")
    return state


def _free_port() -> int:
    """Return the page's usual port, or any free one where that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _PORT))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _state(page: str) -> dict[str, Any]:
    """Return what the page says, nothing while there is none."""
    try:
        with urllib.request.urlopen(f"{page}/state", timeout=2) as answer:  # noqa: S310  (our own page)
            return json.load(answer)
    except OSError:
        return {}


def _progress(state: dict[str, Any], left_s: float) -> None:
    if not state or not sys.stdout.isatty():
        return
    trading = state["trading"]
    net = trading["profit"]["net"]
    words = f"{trading['state']}, {trading['counts']['fills']} fills, profit {'…' if net is None else f'{net:+.2f}'}"
    print(f"\r{left_s:3.0f} s   {words:<60}", end="\r", flush=True)


def _report(folder: Path, state: dict[str, Any]) -> int:
    """Print the summary from lake and journal, and hold them against the broker's books and the page."""
    from lake.store import Lake
    from tasks.journal.__main__ import main as journal_command

    lake, path = Lake(str(folder / "lake")), folder / "state" / "journal.db"
    stream, strategies = state["stream"]["throughput"], state["trading"]["strategies"]
    trades, books = (lake.scan(f"live/{name}").collect().height for name in ("trades", "depth"))
    decided, signals = (sum(one[name] for one in strategies) for name in ("bars", "signals"))
    print(f"Stream: {stream['messages']:,} messages; {trades:,} trades and {books:,} books recorded")
    journal = _journal(path)
    orders = journal.orders.values()
    ended = ", ".join(f"{count} {status}" for status, count in Counter(str(one.status) for one in orders).items())
    fills = sum(len(one.fills) for one in orders)
    print(f"Orders: {decided} bars closed, {signals} signals, {len(orders)} orders ({ended}), {fills} fills")
    positions = _positions(journal)
    for symbol, held in sorted(positions.items()):
        print(f"  {symbol:<8} {held.quantity:>9} held, {held.realised:+9.2f} realised, {held.fees:7.2f} fees")
    net = sum(float(held.realised - held.fees) for held in positions.values())
    print(f"Profit: {net:+.2f} realised after fees, out of the journal's fills")
    disagreements = _disagreements(folder, journal, positions, state)
    print("Agreed: journal, broker and page" if not disagreements else f"DISAGREE: {'; '.join(disagreements)}")
    print(f"Try:    python -m tasks.journal --journal {path} explain {next(iter(journal.orders), 'ID')}")
    return journal_command(["--journal", str(path), "verify"]) or bool(disagreements)


def _journal(path: Path) -> State:
    """Return the state that the journal's lines make, every line checked."""
    from tasks.journal.reading import recover

    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        return recover(database, path.name)


def _positions(journal: State) -> dict[str, Position]:
    from tasks.orders.position import fold

    fills = sorted(
        ((fill.timestamp, order.request, fill) for order in journal.orders.values() for fill in order.fills),
        key=lambda one: one[0],
    )
    symbols = {request.symbol for _, request, _ in fills}
    return {
        symbol: fold((request.side, fill) for _, request, fill in fills if request.symbol == symbol)
        for symbol in symbols
    }


def _disagreements(folder: Path, journal: State, positions: dict[str, Position], state: dict[str, Any]) -> list[str]:
    """Return where the broker's own books, or the page's last state, say something else than the journal."""
    from tasks.broker.ledger import Ledger
    from tasks.broker.matching import Terms

    ledger = Ledger(folder / "state" / "paper.db", Terms())
    theirs = {symbol: held.quantity for symbol, held in ledger.holdings().items() if held.quantity}
    ledger.close()
    ours = {symbol: quantity for (_, symbol), quantity in journal.positions.items() if quantity}
    folded = {symbol: held.quantity for symbol, held in positions.items() if held.quantity}
    found = [] if ours == theirs == folded else [f"journal {ours}, its fills {folded}, broker {theirs}"]
    page = {one["symbol"]: one for one in state["trading"]["positions"]}
    if state["trading"]["counts"]["fills"] == sum(len(one.fills) for one in journal.orders.values()):
        for symbol, held in positions.items():
            shown = (page[symbol]["quantity"], page[symbol]["realised"], page[symbol]["fees"])
            if shown != (float(held.quantity), float(held.realised), float(held.fees)):
                found.append(f"{symbol} on the page {shown}")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
