"""A clean period, and eight ways to spoil what the live path sees of it, each with the truth kept beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

from flows.parity_causes import Cause, Difference
from flows.parity_compare import explain
from flows.parity_feed import arrivals, as_first_seen
from flows.parity_paths import Case, PathFill, sweep_fills
from flows.parity_replay import UNLIMITED, Arrival, Replayed, Script, replay, terms_of
from flows.sizing import Sizing
from lake.revisions import REVISIONS
from lake.schema import as_bars
from tasks.strategies.book_gate import BookGate, BookView
from tasks.strategies.registry import get
from tasks.sweep.costs import Costs

START = datetime(2026, 3, 2, tzinfo=UTC)
WARM_UP = 60
NO_CORRECTIONS = pl.DataFrame(schema=REVISIONS)


def walk(count: int, seed: int) -> pl.DataFrame:
    """Return a random walk of minute bars whose opens are not the closes before."""
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, count)))
    opens = np.r_[100.0, closes[:-1]] * np.exp(rng.normal(0, 0.001, count))
    columns = {
        "timestamp": [START + timedelta(minutes=k) for k in range(count)],
        "open": opens,
        "high": np.maximum(opens, closes) * 1.001,
        "low": np.minimum(opens, closes) * 0.999,
        "close": closes,
        "volume": rng.gamma(2, 50, count),
    }
    return as_bars(pl.DataFrame(columns, schema_overrides={"timestamp": pl.Datetime("us", "UTC")}))


def clean_case(bars: int, seed: int, direction: str = "long", *, fast: int = 3, slow: int = 8) -> Case:
    """Return a period of `bars` random bars after a warm-up, traded by a quick crossover of averages."""
    strategy = get("ma_crossover")
    chosen = strategy.params.model_validate({"fast": fast, "slow": slow})
    costs = Costs(direction=direction)  # type: ignore[arg-type]
    return Case(strategy, chosen, "BTCUSDT", "1m", walk(WARM_UP + bars, seed), WARM_UP, costs)


def clean_script(case: Case, corrections: pl.DataFrame = NO_CORRECTIONS) -> Script:
    """Return a market that does what the sweep assumes."""
    seen = as_first_seen(case, corrections)
    return Script(
        history=seen[: case.first],
        arrivals=arrivals(case, corrections),
        fills_from=seen,
        terms=terms_of(case),
        limits=UNLIMITED,
        sizing=Sizing(case.costs, quantity_step=Decimal("1e-15")),
    )


@dataclass(frozen=True)
class Spoiled:
    """A script with a fault in it, and where: the rows decided on that it touches, None for all."""

    script: Script
    rows: frozenset[int] | None


def restated(case: Case, rng: np.random.Generator) -> Spoiled:
    """Let every tenth bar close elsewhere at first; the vendor corrects it 90 s after its close."""
    rows = _some(case, rng, 0.1)
    wrong = [
        {
            "symbol": case.symbol,
            "timestamp": case.stamps[row],
            "column": "close",
            "old": case.market.closes[row] * (1 + rng.choice([-1, 1]) * rng.uniform(0.01, 0.03)),
            "new": case.market.closes[row],
            "seen_at": case.closes_at(row) + timedelta(seconds=90),
            "version": number,
        }
        for number, row in enumerate(rows)
    ]
    touched = {later for row in rows for later in (row, row + 1)}
    return Spoiled(clean_script(case, pl.DataFrame(wrong, schema=REVISIONS)), frozenset(touched))


def unclosed(case: Case, rng: np.random.Generator) -> Spoiled:
    """Hand in every tenth bar 20 s before its close, and again when it has closed."""
    rows, script = _some(case, rng, 0.1), clean_script(case)
    early = []
    for row in rows:
        moved = case.market.closes[row] * (1 + rng.normal(0, 0.02))
        bar = case.bars[row : row + 1].with_columns(close=pl.lit(moved))
        early.append(Arrival(bar, case.closes_at(row) - timedelta(seconds=20)))
    fed = sorted([*script.arrivals, *early], key=lambda one: one.at)
    return Spoiled(replace(script, arrivals=fed), frozenset(rows))


def short_history(case: Case, rng: np.random.Generator) -> Spoiled:
    """Begin with fewer bars than the strategy needs."""
    script = clean_script(case)
    return Spoiled(replace(script, history=script.history.tail(int(rng.integers(0, 3)))), None)


def slow(case: Case, rng: np.random.Generator) -> Spoiled:
    """Let every order take 5 to 50 s to arrive: the price it was meant for is gone."""
    script = clean_script(case)
    terms = replace(script.terms, latency_s=Decimal(int(rng.integers(5, 50))))
    return Spoiled(replace(script, terms=terms), None)


def dear(case: Case, rng: np.random.Generator) -> Spoiled:
    """Charge another fee than was assumed."""
    script = clean_script(case)
    rate = Decimal(str(case.costs.fee_bps)) * Decimal(int(rng.choice([50, 90, 110, 200]))) / 100
    return Spoiled(replace(script, terms=replace(script.terms, fee_bps=rate)), None)


def thin(case: Case, rng: np.random.Generator) -> Spoiled:
    """Let an order have no more than what most bars can just give."""
    script = clean_script(case)
    usual = np.median([abs(fill.quantity) for fill in sweep_fills(case)]) / case.bars["volume"].median()  # type: ignore[operator]
    terms = replace(script.terms, max_volume_share=Decimal(str(usual * rng.uniform(0.6, 1.0))))
    return Spoiled(replace(script, terms=terms), None)


def blocked(case: Case, rng: np.random.Generator) -> Spoiled:
    """Let the stream lose trust in its book where every third order is decided."""
    rows = [fill.bar - 1 for fill in sweep_fills(case)[:-1] if rng.random() < 1 / 3]
    script = replace(clean_script(case), invalid=frozenset(case.closes_at(row) for row in rows))
    return Spoiled(script, frozenset(rows))


def leaning(case: Case, rng: np.random.Generator) -> Spoiled:
    """Let the book lean against a gate, or be missing, where every third entry is decided."""
    rows = [fill.bar - 1 for fill in sweep_fills(case)[:-1] if fill.quantity > 0 and rng.random() < 1 / 3]
    against = {case.closes_at(row): BookView(faults=("data is missing",)) for row in rows[::2]}
    against |= {case.closes_at(row): BookView.of((99.9, 3.0), (100.1, 4.0), 0.1) for row in rows[1::2]}
    calm = BookView.of((99.9, 5.0), (100.1, 4.0), 0.1)
    gate = BookGate(min_pressure=1.0)
    script = replace(clean_script(case), gate=gate, books=lambda at: against.get(at, calm))
    return Spoiled(script, frozenset(rows))


FAULTS: dict[Cause, Callable[[Case, np.random.Generator], Spoiled]] = {
    Cause.REVISION: restated,
    Cause.NOT_CLOSED: unclosed,
    Cause.WARM_UP: short_history,
    Cause.LATENCY: slow,
    Cause.FEE: dear,
    Cause.PARTIAL: thin,
    Cause.RISK: blocked,
    Cause.BOOK: leaning,
}


@dataclass(frozen=True)
class Attributed:
    """How the differences of one spoiled replay were explained.

    Attributes:
        own: Differences that are nobody's consequence.
        right: Those that have the injected cause alone, on a bar that the fault touched.
        consequences: Differences that follow from another.
        wrong: The first one that was explained otherwise, None where all are right.
    """

    own: int
    right: int
    consequences: int
    wrong: Difference | None


def attribute(cause: Cause, bars: int, seed: int, folder: Path) -> Attributed:
    """Spoil a seeded period in one way, replay it, and count what the comparison makes of it."""
    rng = np.random.default_rng(seed)
    case = clean_case(bars, seed, slow=40 if cause is Cause.WARM_UP else 8)
    spoiled = FAULTS[cause](case, rng)
    rows = explain(case, spoiled.script, run_live(case, spoiled.script, folder), sweep_fills(case))
    places = {stamp: row for row, stamp in enumerate(case.stamps)}
    own = [one for one in rows if one.follows is None]
    right = [
        one for one in own if one.causes == (cause,) and (spoiled.rows is None or places[one.timestamp] in spoiled.rows)
    ]
    wrong = next((one for one in own if one not in right), None)
    return Attributed(len(own), len(right), len(rows) - len(own), wrong)


def run_live(case: Case, script: Script, folder: Path) -> Replayed:
    """Replay a script in a folder of its own."""
    return asyncio.run(replay(case, script, folder))


def clean_differences(case: Case, folder: Path) -> tuple[list[Difference], list[PathFill], Replayed]:
    """Return what differs on a clean period, the sweep's fills, and the live path."""
    script, fills = clean_script(case), sweep_fills(case)
    live = run_live(case, script, folder)
    return explain(case, script, live, fills), fills, live


def _some(case: Case, rng: np.random.Generator, share: float) -> list[int]:
    rows = range(case.first, case.last - 2)
    return sorted(rng.choice(rows, size=int(len(rows) * share), replace=False).tolist())
