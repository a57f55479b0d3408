"""Exactly once, proven by killing: the order desk against a broker that loses replies and holds requests back.

    python -m benchmarks.proof_orders                      # 1,000 kills for a class A and a class B broker each
    python -m benchmarks.proof_orders --kills 60 --naive 30

Every kill lands at one of the points of docs/orders.md, in turn, or at a random moment. Counted are orders that the
broker has twice, orders it has and the journal does not know or sees otherwise, and positions that differ. The broken
rules must fail the same test, or the test proves nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.killed_orders import FULL, HELD, POINTS, RULES, SYMBOLS, Life, live
from benchmarks.naive_orders import NAIVE, live_naive, naive_intents
from tasks.journal.journal import Journal
from tasks.orders.guarantees import IdempotencyClass
from tasks.orders.order import ZERO, Order, Status

#: What goes wrong between desk and market; a ghost may live as long as the deadline lets it.
FAULTS = {
    "ghost_p": 0.25, "ghost_s": 0.2, "lost_reply_p": 0.06, "error_after_p": 0.05, "throttle_after_p": 0.05,
    "reset_body_p": 0.04, "error_before_p": 0.04, "late_ack_p": 0.1, "duplicate_fill_p": 0.1,
    "reorder_fills_p": 0.1, "lose_push_p": 0.1, "open_lag_s": 0.03, "query_lag_s": 0.03,
}  # fmt: skip
UNIQUENESS = {IdempotencyClass.A: "lifetime", IdempotencyClass.B: "open"}
#: Kills on one journal; a new account after that, so that start-up stays what is measured.
BATCH = 50
_SPAWNS, _FORKS = multiprocessing.get_context("spawn"), multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["benchmarks.naive_orders", "tasks.simulator.server"])


@dataclass(frozen=True, slots=True)
class Tally:
    """What the broker has, against what the journal says.

    Attributes:
        kills: Lives that ended by SIGKILL, or by a disk that took nothing more.
        orders: That the journal knows.
        duplicates: Placements of one intent beyond the first.
        lost: Orders that the broker has and the journal does not know or sees otherwise, and the reverse.
        doubtful: Orders that nobody can tell about at the end.
        unplaced: Orders that were proved never to have been placed.
        positions_differ: Symbols whose position differs.
        refused_seconds: Second processes that were refused.
    """

    kills: int = 0
    orders: int = 0
    duplicates: int = 0
    lost: int = 0
    doubtful: int = 0
    unplaced: int = 0
    positions_differ: int = 0
    refused_seconds: int = 0

    @property
    def holds(self) -> bool:
        """Whether everything was placed once and known."""
        return not (self.duplicates or self.lost or self.doubtful or self.positions_differ)

    def plus(self, other: Tally) -> Tally:
        """Return the sum of two."""
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def prove(grade: IdempotencyClass, rule: str, kills: int, *, seed: int = 0) -> Tally:
    """Kill a desk so many times, on a new account every `BATCH`, and return what it came to."""
    total = Tally()
    while total.kills < kills:
        wanted = min(BATCH, kills - total.kills)
        with market(grade, seed + total.kills) as (url, key), tempfile.TemporaryDirectory() as folder:
            life = Life(folder, url, key, grade, rule)
            killed, refused = _kill(life, wanted, first=total.kills, seed=seed)
            _finish(life)
            tally = replace(_tally(life), kills=killed, refused_seconds=refused)
        total = total.plus(tally)
    return total


@contextmanager
def market(grade: IdempotencyClass, seed: int) -> Iterator[tuple[str, str]]:
    """Serve the local market from a process of its own; yields address and key."""
    here, there = _FORKS.Pipe()
    process = _FORKS.Process(target=_serve, args=(there, grade, seed), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, grade: IdempotencyClass, seed: int) -> None:
    from tasks.simulator.clock import MarketClock
    from tasks.simulator.market import generated
    from tasks.simulator.orderfaults import OrderFaults
    from tasks.simulator.server import Simulator

    logging.disable(logging.ERROR)  # replies to the dead are meant here
    start = datetime(2026, 3, 2, tzinfo=UTC)
    goods = generated(seed=7, symbols=SYMBOLS, start=start, end=start + timedelta(days=1))
    faults = OrderFaults(seed=seed, uniqueness=UNIQUENESS[grade], **FAULTS)
    clock = MarketClock(start + timedelta(hours=1), speed=1)
    with Simulator(goods, plan="unlimited", order_faults=faults, now=clock) as simulator:
        pipe.send((simulator.url, simulator.api_key))
        pipe.recv()  # never comes: the parent terminates this process


def _kill(life: Life, kills: int, *, first: int, seed: int) -> tuple[int, int]:
    """Let lives begin and die; returns deaths, and second processes that were refused."""
    target = live_naive if life.rule == NAIVE else live
    done = refused = 0
    while done < kills:
        number = first + done
        # Broken rules fail wherever they die; at random moments they get to send more orders before.
        point = POINTS[number % len(POINTS)] if life.rule == "ours" else "random"
        doomed = replace(life, point=point, hits=number // len(POINTS) % 4, seed=seed + number)
        child = _begin(target, doomed)
        if number % 25 == 7 and life.rule == "ours":  # K19: two at once
            second = _begin(target, replace(doomed, point="random", seed=-number))
            second.join(30)
            refused += second.exitcode == HELD
        child.join(30)
        if child.exitcode not in (-9, FULL, HELD, 0):
            raise AssertionError(f"expected a life to end at {point}, found exit status {child.exitcode}")
        done += 1
    return done, refused


def _finish(life: Life) -> None:
    """Let a last life resolve what is open; it has to find agreement."""
    if life.rule == NAIVE:
        return
    child = _begin(live, life)
    child.join(60 if life.rule == "ours" else 2)  # a broken rule need not come to rest
    if child.exitcode == 0:
        return
    child.kill()
    child.join()
    if life.rule == "ours":
        raise AssertionError("expected broker and journal to agree within a minute, found that they never did")


def _begin(target: Any, life: Life) -> BaseProcess:
    child = _FORKS.Process(target=target, args=(life,), daemon=True)
    child.start()
    return child


def _tally(life: Life) -> Tally:
    time.sleep(0.3)  # ghosts of the last life
    with urllib.request.urlopen(f"{life.url}/simulator/orders", timeout=10) as answer:  # noqa: S310
        account = json.load(answer)["data"].get(life.key, {"orders": [], "positions": []})
    placed = account["orders"]
    if life.rule == NAIVE:
        counts = Counter(one["client_order_id"].split(".")[0] for one in placed)
        known = naive_intents(life)
        unknown = sum(1 for name in counts if name not in known)
        return Tally(orders=len(known), duplicates=sum(counts.values()) - len(counts), lost=unknown)
    counts = Counter(one["client_order_id"] for one in placed)
    with Journal(Path(life.folder) / "orders.sqlite") as journal:  # checks the chain, and tables against lines
        orders, positions = dict(journal.state.orders), dict(journal.state.positions)
    truth = {one["client_order_id"]: one for one in placed}
    held = {one["symbol"]: Decimal(one["quantity"]) for one in account["positions"]}
    ours = {symbol: quantity for (_, symbol), quantity in positions.items() if quantity}
    return Tally(
        orders=len(orders),
        duplicates=sum(counts.values()) - len(counts),
        lost=sum(not _alike(orders.get(key), truth.get(key)) for key in {*orders, *truth}),
        doubtful=sum(not order.is_terminal for order in orders.values()),
        unplaced=sum(order.status is Status.NOT_PLACED for order in orders.values()),
        positions_differ=sum(held.get(s, ZERO) != ours.get(s, ZERO) for s in {*held, *ours}),
    )


def _alike(order: Order | None, truth: dict[str, Any] | None) -> bool:
    """Return whether journal and broker say the same of an order."""
    if order is None:
        return False
    if truth is None:
        return order.status in (Status.NOT_PLACED, Status.DENIED)
    ended = truth["status"] not in ("new", "partially_filled")
    return order.filled_quantity == Decimal(truth["filled_quantity"]) and order.is_terminal == ended


def _timed(run: tuple[IdempotencyClass, str, int]) -> tuple[Tally, int]:
    began = time.monotonic()
    return prove(*run), round(time.monotonic() - began)


def main() -> int:
    """Print the table; returns 1 where our rule failed or a broken one passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="for each class of broker (default: %(default)s)")
    parser.add_argument("--naive", type=int, default=40, help="for each broken rule (default: %(default)s)")
    arguments = parser.parse_args()
    runs = [(grade, "ours", arguments.kills) for grade in UNIQUENESS]
    runs += [(IdempotencyClass.B, rule, arguments.naive) for rule in (NAIVE, *RULES) if rule != "ours"]
    columns = ("rule", "broker", "kills", "orders", "duplicates", "lost", "positions differ", "not placed", "seconds")
    rows, failed = [], False
    with ProcessPoolExecutor(2, _SPAWNS) as two:  # a run waits for the lives it ends most of the time
        for (grade, rule, _), (tally, seconds) in zip(runs, two.map(_timed, runs), strict=True):
            failed |= tally.holds != (rule == "ours")
            rows.append((rule, grade.name, tally.kills, tally.orders, tally.duplicates, tally.lost + tally.doubtful,
                         tally.positions_differ, tally.unplaced, seconds))  # fmt: skip
            print(dict(zip(columns, rows[-1], strict=True)), flush=True)
    print("failed: ours must hold, the others must not" if failed else "holds")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
