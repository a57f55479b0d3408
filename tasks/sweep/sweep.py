"""One sweep from bars to verdict: simulate the grid, choose on train alone, judge out of sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from lake.timeline import interval as interval_named
from tasks.sweep import run
from tasks.sweep.ask import ask
from tasks.sweep.certify import certify
from tasks.sweep.costs import Costs
from tasks.sweep.curves import Span, stitch
from tasks.sweep.fused import CHUNK, Checkpoints, Heard, run_grid
from tasks.sweep.metrics import RUIN, chained, compute_metrics
from tasks.sweep.overfitting import combinatorial_sharpes, overfitting_probability, plateau_score
from tasks.sweep.question import Question, trial_key
from tasks.sweep.result import FIGURES, SweepResult
from tasks.sweep.robustness import cost_sensitivity, monte_carlo, random_entry_rank
from tasks.sweep.search import Search
from tasks.sweep.verdict import Verdict, judge
from tasks.sweep.windows import WindowPlan

_SHARPE, _DRAWDOWN = FIGURES.index("sharpe"), FIGURES.index("max_drawdown")


def run_sweep(
    bars: pl.DataFrame,
    *,
    symbol: str,
    interval: str,
    strategy: str,
    grid: Mapping[str, Sequence[Any]] | None = None,
    costs: Costs | None = None,
    windows: WindowPlan | None = None,
    expected: pl.Series | None = None,
    periods_per_year: float | None = None,
    earlier: Mapping[str, float] | None = None,
    checkpoints: Checkpoints | None = None,
    chunk: int = CHUNK,
    search: Search | None = None,
    seed: int = 0,
    robustness: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> SweepResult:
    """Sweep one strategy over one symbol and judge the winner.

    Args:
        bars: `BARS` columns, sorted.
        symbol: In the vendor's spelling.
        interval: Length of a bar.
        strategy: Name in `tasks.strategies`.
        grid: Values a parameter; None for the strategy's own grid.
        costs: What trading costs; None for the defaults, which are not zero.
        windows: How the sample is cut; None for four rolling windows over the later half.
        expected: Every open the calendar promises; None for a market that never closes.
        periods_per_year: See `market.prepare_bars`.
        earlier: Trials already made on this data and strategy, by `trial_key`, with their per-period Sharpe ratio.
        checkpoints: Where finished chunks are kept; None to keep none.
        chunk: Most combinations a chunk holds.
        search: How the grid's values are searched; None for all of them.
        seed: Of everything random: the search, the certified sample, random entries, Monte Carlo.
        robustness: Whether to add cost sensitivity and Monte Carlo to `SweepResult.extras`.
        provenance: Goes into the record as it is (code version, lake version).

    Raises:
        InputError: Bars, grid or windows that cannot be swept.
        DisagreementError: The fused engine and VectorBT differ; nothing is returned.
    """
    question = ask(
        bars,
        symbol=symbol,
        interval=interval,
        strategy=strategy,
        grid=grid,
        costs=costs,
        windows=windows,
        expected=expected,
        periods_per_year=periods_per_year,
        search=search,
        seed=seed,
    )
    told = {"search": (search or Search()).model_dump(exclude={"storage"}), **(provenance or {})}
    return answer(
        question,
        earlier=earlier,
        checkpoints=checkpoints,
        chunk=chunk,
        seed=seed,
        robustness=robustness,
        provenance=told,
    )


def answer(
    question: Question,
    *,
    earlier: Mapping[str, float] | None = None,
    checkpoints: Checkpoints | None = None,
    heard: Heard | None = None,
    chunk: int = CHUNK,
    seed: int = 0,
    robustness: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> SweepResult:
    """Simulate, certify, choose and judge; the arguments are those of `run_sweep`, and who hears of each chunk.

    Raises:
        DisagreementError: The fused engine and VectorBT differ; nothing is returned.
    """
    figures = run_grid(question, checkpoints=checkpoints, heard=heard, chunk=chunk)
    chosen = choose(figures, len(question.windows))
    certified = certify(question, figures, chosen, seed=seed)
    spans = _walk(question, chosen)
    equity, trades = stitch(spans, question.bars, question.costs.initial_cash)
    metrics = _headline(spans, trades, question)
    trials = {**(earlier or {}), **_trials(question, figures)}
    rng = np.random.default_rng(seed)
    verdict = _judge(question, spans, metrics, trials, _further(question, figures, chosen[0], spans, rng))
    return SweepResult(
        run_id=f"{question.grid.strategy.name}-{question.key[:12]}",
        symbol=question.symbol,
        interval=question.interval,
        strategy=question.grid.strategy.name,
        params=question.grid.sets[chosen[0]].model_dump(),
        grid=_grid_frame(question, figures),
        windows=_windows_frame(question, figures, chosen, spans),
        equity=equity,
        trades=trades,
        metrics=metrics,
        verdict=verdict.sentence,
        verdict_passed=verdict.passed,
        verdict_details=verdict.details,
        record=_record(question, trials, {"certified": len(certified), "seed": seed, **(provenance or {})}),
        extras=_extras(question, spans, figures, chosen, rng) if robustness else {},
    )


def _extras(
    question: Question, spans: list[Span], figures: np.ndarray, chosen: list[int], rng: np.random.Generator
) -> dict[str, pl.DataFrame]:
    sensitivity = cost_sensitivity(question, chosen)
    return {"cost_sensitivity": sensitivity, **monte_carlo(question, spans, figures, chosen[0], rng)}


def choose(figures: np.ndarray, windows: int) -> list[int]:
    """Return the combination with the best train Sharpe for each window; ties go to the earlier one.

    A combination without a Sharpe (no trade) is chosen only where no other has one.
    """
    return [int(np.argmax(np.nan_to_num(figures[:, w, _SHARPE], nan=-np.inf))) for w in range(windows)]


def trials_of(result: SweepResult) -> dict[str, float]:
    """Return the trials a finished sweep made: key → per-period in-sample Sharpe ratio."""
    ratios = (result.grid["is_sharpe"] / result.record["periods_per_year"] ** 0.5).to_list()
    sets = result.grid.select(result.param_names).iter_rows(named=True)
    told = result.record["costs"], result.record["strategy_code"]
    return {trial_key(params, *told): ratio for params, ratio in zip(sets, ratios, strict=True)}


def _trials(question: Question, figures: np.ndarray) -> dict[str, float]:
    per_period = figures[:, 0, _SHARPE] / question.bars.periods_per_year**0.5
    told = question.costs.model_dump(), question.grid.strategy.code
    keys = (trial_key(params.model_dump(), *told) for params in question.grid.sets)
    return dict(zip(keys, per_period.tolist(), strict=True))


def _walk(question: Question, chosen: list[int]) -> list[Span]:
    """Simulate the winner in sample, each window's choice on its test part, and buy and hold over both."""
    picks = sorted(set(chosen))
    entries, exits = question.signals(picks)
    holding = np.zeros((1, len(question.bars)), dtype=bool)
    parts = [("in", -1, chosen[0], question.in_sample)]
    parts += [("out", w.index, chosen[w.index], slice(w.test_start, w.test_stop)) for w in question.windows]
    spans = []
    for sample, window, index, segment in parts:
        row = [picks.index(index)]
        simulated = run.simulate(question.bars, entries[row], exits[row], question.costs, segment)
        spans.append(Span(sample, window, index, segment, simulated, _hold(question, holding, segment)))
    return spans


def _hold(question: Question, never: np.ndarray, segment: slice) -> np.ndarray:
    """Return the returns of buying at the first fill of `segment` and holding to its end, at the same costs."""
    at_start = never.copy()
    at_start[:, segment.start : segment.start + max(1, (segment.stop - segment.start) // 2)] = True
    costs = question.costs.model_copy(update={"direction": "long"})
    return run.simulate(question.bars, at_start, never, costs, segment).returns[:, 0]


def _headline(spans: list[Span], trades: pl.DataFrame, question: Question) -> dict[str, float]:
    outside = [span for span in spans if span.sample == "out"]
    bars = [len(span.simulated.returns) for span in outside]
    return compute_metrics(
        chained(span.simulated.returns[:, 0] for span in outside),
        trades.filter(pl.col("sample") == "out"),
        exposure=float(np.average([span.simulated.exposure[0] for span in outside], weights=bars)),
        initial_cash=question.costs.initial_cash,
        benchmark_returns=np.concatenate([span.hold for span in outside]),
        periods_per_year=question.bars.periods_per_year,
    )


def _further(
    question: Question, figures: np.ndarray, winner: int, spans: list[Span], rng: np.random.Generator
) -> dict[str, float]:
    """Return what else is known about the choice: overfitting, plateau, and luck of the same turnover."""
    blocks = figures[:, len(figures[0]) - len(question.blocks) :]
    counts = np.array([block.stop - block.start for block in question.blocks], dtype=np.float64)
    # A block in which an account was lost counts as that one loss: what it owes and gains afterwards is no evidence.
    lost = ~(blocks[:, :, _DRAWDOWN] > RUIN)
    told = np.where(lost, -1.0, blocks[:, :, -2]), np.where(lost, 1.0, blocks[:, :, -1]), counts
    paths = combinatorial_sharpes(*told) * question.bars.periods_per_year**0.5
    return {
        "overfitting_probability": overfitting_probability(*told),
        "combinatorial_sharpe": float(np.median(paths)) if len(paths) else math.nan,
        "combinatorial_share_positive": float(np.mean(paths > 0)) if len(paths) else math.nan,
        "plateau_score": plateau_score(question.grid.frame(), figures[:, 0, _SHARPE], winner),
        "random_entry_rank": random_entry_rank(question, spans, rng),
    }


def _judge(
    question: Question,
    spans: list[Span],
    metrics: dict[str, float],
    trials: Mapping[str, float],
    further: dict[str, float],
) -> Verdict:
    return judge(
        spans[0].simulated.returns[:, 0],
        chained(span.simulated.returns[:, 0] for span in spans if span.sample == "out"),
        np.array(list(trials.values())),
        trades=int(metrics["trades"]),
        total_return=metrics["total_return"],
        benchmark_return=metrics["benchmark_return"],
        periods_per_year=question.bars.periods_per_year,
        overfitting=further["overfitting_probability"],
        further=further,
    )


def _grid_frame(question: Question, figures: np.ndarray) -> pl.DataFrame:
    places = {"is": 0, "oos": len(question.windows)}
    columns = {f"{sample}_{name}": figures[:, s, f] for sample, s in places.items() for f, name in enumerate(FIGURES)}
    return question.grid.frame().with_columns(**{name: pl.Series(values) for name, values in columns.items()})


def _windows_frame(question: Question, figures: np.ndarray, chosen: list[int], spans: list[Span]) -> pl.DataFrame:
    stamps, rows = question.bars.timestamps, []
    last: datetime = stamps[-1].item()
    end = interval_named(question.interval).next(last).replace(tzinfo=None)
    tests = {span.window: span.simulated.figures[0] for span in spans if span.sample == "out"}
    for window, index in zip(question.windows, chosen, strict=True):
        train = figures[index, window.index]
        test = tests[window.index]
        rows.append(
            {
                "window": window.index,
                "train_start": stamps[window.train_start].item(),
                "train_end": stamps[window.train_stop].item(),
                "test_start": stamps[window.test_start].item(),
                "test_end": end if window.test_stop == len(stamps) else stamps[window.test_stop].item(),
                **question.grid.sets[index].model_dump(),
                **{f"is_{name}": train[f] for f, name in enumerate(FIGURES)},
                **{f"oos_{name}": test[f] for f, name in enumerate(FIGURES)},
            }
        )
    borders = [pl.col(name).cast(pl.Datetime("us")).dt.replace_time_zone("UTC") for name in _BORDERS]
    return pl.DataFrame(rows).with_columns(borders)


_BORDERS = ("train_start", "train_end", "test_start", "test_end")


def _record(question: Question, trials: Mapping[str, float], provenance: Mapping[str, Any]) -> dict[str, Any]:
    grid = question.grid
    return {
        "key": question.key,
        "strategy_code": grid.strategy.code,
        "grid": {name: sorted({getattr(params, name) for params in grid.sets}) for name in grid.names},
        "combinations": len(grid),
        "costs": question.costs.model_dump(),
        "windows": question.plan.model_dump(),
        "periods_per_year": question.bars.periods_per_year,
        "bars": len(question.bars),
        "untradable_bars": int((~question.bars.tradable[1:]).sum()),
        "n_trials": len(trials),
        "engine": "fused grid, certified against vectorbt",
        "selection": "best train Sharpe",
        **provenance,
    }
