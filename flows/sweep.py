"""One strategy, many parameters, out of sample."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from flows.adhoc import flow
from flows.parameters import DEFAULT_START, EndDay, IntervalName, StartDay, StrategyName, Symbols, check_strategy, span
from flows.settings import load
from flows.steps import Progress, publish_table, step
from flows.vendor import calendar_of
from tasks.sweep.costs import Costs
from tasks.sweep.task import SweepSummary, sweep_symbol
from tasks.sweep.windows import WindowPlan


@flow(name="sweep", flow_run_name="sweep {strategy} {interval}")
async def sweep(
    symbols: Symbols,
    interval: IntervalName = "1h",
    start: StartDay = DEFAULT_START,
    end: EndDay = None,
    strategy: StrategyName = "ma_crossover",
    grid: dict[str, list[float]] | None = None,
    costs: Costs = Costs(),  # noqa: B008  (frozen)
    windows: WindowPlan = WindowPlan(),  # noqa: B008  (frozen)
    seed: int = 0,
    lake_version: int | None = None,
) -> list[SweepSummary]:
    """Search a strategy's parameters on bars of the lake and judge the winner out of sample.

    Args:
        symbols: Symbols in the vendor's spelling; each is searched on its own.
        interval: Length of a bar.
        start: First UTC day.
        end: First UTC day no longer wanted; empty for up to the newest closed bar.
        strategy: Strategy to search.
        grid: Values to try for each parameter; empty for the strategy's own grid.
        costs: What trading costs; never free by default.
        windows: How the sample is cut into train and test parts.
        seed: Seed of everything random, kept in the record.
        lake_version: Version of the bars to read, as an earlier run recorded it; empty for the newest.

    Returns:
        One headline a symbol; the lake has the rest under its run_id.
    """
    check_strategy(strategy)
    settings = load()
    first, last = span(interval, start, end, now=settings.market_now)
    summaries = []
    async with Progress("sweep-progress", len(symbols), f"{strategy} on {len(symbols)} symbols") as progress:
        for symbol in symbols:
            summaries.append(
                await step(
                    sweep_symbol,
                    settings.lake_root,
                    symbol,
                    interval,
                    strategy,
                    grid=grid,
                    costs=costs,
                    windows=windows,
                    start=first,
                    end=last,
                    calendar=calendar_of(symbol),
                    code_version=version("klinehouse"),
                    seed=seed,
                    lake_version=lake_version,
                )
            )
            await progress.advance()
    await publish_table(
        "sweep", [_row(summary) for summary in summaries], f"{strategy} on {interval} bars, out of sample"
    )
    return summaries


def _row(summary: SweepSummary) -> dict[str, Any]:
    row = asdict(summary)
    return row | {"params": ", ".join(f"{name} {value}" for name, value in summary.params.items())}


if __name__ == "__main__":
    from flows.cli import main

    main()
