"""The same winner under other conditions: dearer trading, noisy prices, chance, its neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from tasks.sweep import chance, engine, run
from tasks.sweep.curves import Span
from tasks.sweep.metrics import chained, drawdowns, sharpe_ratio
from tasks.sweep.overfitting import neighbours
from tasks.sweep.question import Question
from tasks.sweep.result import FIGURES

COST_FACTORS = (0.5, 1.0, 2.0, 4.0)
_SHARPE = FIGURES.index("sharpe")


def cost_sensitivity(question: Question, chosen: Sequence[int]) -> pl.DataFrame:
    """Walk forward with the same choices at half, once, twice and four times the costs.

    Returns:
        One row a factor: ``factor, total_return, sharpe, max_drawdown, trades, fees``.
    """
    picks = sorted(set(chosen))
    entries, exits = question.signals(picks)
    rows = []
    for factor in COST_FACTORS:
        costs = question.costs.scaled(factor)
        spans = [
            run.simulate(question.bars, entries[[picks.index(index)]], exits[[picks.index(index)]], costs, segment)
            for index, segment in zip(chosen, question.tests, strict=True)
        ]
        returns = chained(span.returns[:, 0] for span in spans)
        equity = np.cumprod(1 + returns)
        rows.append(
            {
                "factor": factor,
                "total_return": float(equity[-1] - 1),
                "sharpe": sharpe_ratio(returns, question.bars.periods_per_year),
                "max_drawdown": float(drawdowns(equity).min()),
                "trades": sum(len(span.trades) for span in spans),
                "fees": float(sum((span.trades["entry_fees"] + span.trades["exit_fees"]).sum() for span in spans)),
            }
        )
    return pl.DataFrame(rows)


def random_entry_rank(question: Question, spans: list[Span], rng: np.random.Generator) -> float:
    """Return the share of random placements of the same trades that the out-of-sample trades beat; NaN without any."""
    own, others = 0.0, np.zeros(500)
    for span in (span for span in spans if span.sample == "out" and len(span.simulated.trades)):
        trades = span.simulated.trades
        listed = np.column_stack([trades["entry_idx"], trades["exit_idx"], 1 - 2 * trades["direction"]])
        opens = question.bars.opens[span.segment]
        made, random = chance.random_entry_growth(listed, opens, question.costs, rng, len(others))
        own, others = own + made, others + random
    return float(np.mean(others < own)) if others.any() else math.nan


def monte_carlo(
    question: Question, spans: list[Span], figures: np.ndarray, winner: int, rng: np.random.Generator
) -> dict[str, pl.DataFrame]:
    """Return ``monte_carlo``: bands of figures by kind of chance, and ``fan``: bands of out-of-sample equity.

    Kinds: ``bootstrap`` resamples the bars' returns in blocks, ``reshuffle`` reorders the trades, ``jitter`` takes the
    neighbouring parameters, ``noise`` moves every price a little and trades the winner again.
    """
    outside = [span for span in spans if span.sample == "out"]
    returns = chained(span.simulated.returns[:, 0] for span in outside)
    bands, fan = chance.bootstrap_figures(returns, question.bars.periods_per_year, rng)
    traded = np.concatenate([span.simulated.trades["return"] for span in outside])
    near = neighbours(question.grid.frame(), winner)
    tables = [bands.with_columns(kind=pl.lit("bootstrap"))]
    for kind, name, values in (
        ("reshuffle", "max_drawdown", chance.reshuffled_drawdowns(traded, rng)),
        ("jitter", "sharpe", figures[near, len(question.windows), _SHARPE]),
        ("jitter", "total_return", figures[near, len(question.windows), 0]),
        ("noise", "total_return", noisy_returns(question, winner, rng)),
    ):
        tables.append(pl.DataFrame([{"figure": name, **chance.quantiles(np.asarray(values)), "kind": kind}]))
    return {"monte_carlo": pl.concat(tables).select("kind", pl.exclude("kind")), "fan": fan}


def noisy_returns(question: Question, winner: int, rng: np.random.Generator, draws: int = 40) -> np.ndarray:
    """Return the winner's out-of-sample total return on prices moved by a tenth of each bar's range, `draws` times."""
    grid, bars, span = question.grid.pick([winner]), question.bars, question.out_of_sample
    segment, made = np.array([[span.start, span.stop]]), []
    for _ in range(draws):
        noisy = bars.jittered(rng, 0.1)
        rows = grid.rows(noisy.matrix)
        found = engine.run_sets(
            grid.strategy.signal, noisy, rows, grid.use, grid.vectors, question.costs, segment, threads=1
        )
        made.append(found[0, 0, 0])
    return np.array(made)
