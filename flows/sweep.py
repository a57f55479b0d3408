"""One strategy, many parameters, out of sample."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from flows.adhoc import flow
from flows.board import Board
from flows.events import record_asset
from flows.parameters import (
    DEFAULT_START,
    EndDay,
    Grid,
    IntervalName,
    LakeVersion,
    Seed,
    StartDay,
    StrategyName,
    Symbols,
    check_strategy,
    span,
)
from flows.settings import load
from flows.steps import Progress, is_orchestrated, publish_table, step
from flows.vendor import calendar_of
from lake.store import Lake
from tasks.sweep.costs import Costs
from tasks.sweep.request import SweepRequest
from tasks.sweep.search import Search
from tasks.sweep.task import SweepSummary, plan_sweep, sweep_chunk, sweep_symbol
from tasks.sweep.windows import WindowPlan


@flow(name="sweep", flow_run_name="sweep {strategy} {interval}")
async def sweep(
    symbols: Symbols,
    interval: IntervalName = "1h",
    start: StartDay = DEFAULT_START,
    end: EndDay = None,
    strategy: StrategyName = "ma_crossover",
    grid: Grid = {},  # noqa: B006  (never written to)
    costs: Costs = Costs(),  # noqa: B008  (frozen)
    windows: WindowPlan = WindowPlan(),  # noqa: B008  (frozen)
    search: Search = Search(),  # noqa: B008  (frozen)
    seed: Seed = 0,
    lake_version: LakeVersion = None,
) -> list[SweepSummary]:
    """Search a strategy's parameters on bars of the lake and judge the winner out of sample.

    Args:
        symbols: Symbols in the vendor's spelling; each is searched on its own.
        interval: Length of a bar.
        start: First UTC day.
        end: First UTC day no longer wanted; empty for up to the newest closed bar.
        strategy: Strategy to search.
        grid: Values to try for each parameter, such as {"fast": [10, 20]}; empty for the strategy's own grid.
        costs: What trading costs; never free by default.
        windows: How the sample is cut into train and test parts.
        search: Every combination, random ones, or those that Optuna asks for.
        seed: Seed of everything random, kept in the record.
        lake_version: Version of the bars to read, as an earlier run recorded it; empty for the newest.

    Returns:
        One headline a symbol; the lake has the rest under its run_id.
    """
    check_strategy(strategy)
    settings = load()
    first, last = span(interval, start, end, now=settings.market_now)
    lake, summaries = Lake(settings.lake_root), []
    async with Progress("sweep-progress", len(symbols), f"{strategy} on {len(symbols)} symbols") as progress:
        for symbol in symbols:
            request = SweepRequest(
                symbol=symbol,
                interval=interval,
                strategy=strategy,
                grid=grid or None,
                costs=costs,
                windows=windows,
                start=first,
                end=last,
                calendar=calendar_of(symbol),
                search=search,
                seed=seed,
                lake_version=lake.bars_version(interval) if lake_version is None else lake_version,
            )
            if settings.dask and is_orchestrated():
                await scattered(settings.dask)(settings.lake_root, request)
            told = {name: getattr(request, name) for name in SweepRequest.model_fields}
            told["code_version"] = version("klinehouse")
            async with Board(strategy, symbol, interval, progress=progress) as board:
                summaries.append(await step(sweep_symbol, settings.lake_root, **told, heard=board.hear))
            await progress.advance()
    await publish_table(
        "sweep", [_row(summary) for summary in summaries], f"{strategy} on {interval} bars, out of sample"
    )
    facts = {"runs": [summary.run_id for summary in summaries], "survived": sum(one.passed for one in summaries)}
    await record_asset(settings.lake_root, "sweeps/runs", [f"klines/{interval}"], **facts)
    return summaries


@flow(name="sweep-chunks", flow_run_name="chunks of {request.symbol}")
async def sweep_chunks(lake_root: str, request: SweepRequest) -> int:
    """Work on the chunks of one sweep on this flow's task runner; what they find waits in the lake for the verdict.

    Args:
        lake_root: Folder or address of the lake, the same for every worker.
        request: The sweep.

    Returns:
        Chunks that were worked on; those of an earlier, killed run are done already.
    """
    parts = await step(plan_sweep, lake_root, request)
    futures = [sweep_chunk.submit(lake_root, request, start, stop) for start, stop in parts]
    words, fresh = (request.strategy, request.symbol, request.interval), 0
    bar = Progress("sweep-chunks", len(parts), f"chunks of {request.symbol}")
    async with bar as progress, Board(*words, progress=progress) as board:
        for future in futures:
            receipt = await asyncio.to_thread(future.result)
            board.hear(receipt.standings)
            fresh += receipt.fresh
            await progress.advance()
    return fresh


def scattered(address: str) -> Any:
    """Return `sweep_chunks` on a Dask cluster: ``local`` for one on this machine, else a scheduler's address."""
    from prefect_dask import DaskTaskRunner  # distributed takes seconds to load

    local = {"host": "127.0.0.1", "dashboard_address": None, "threads_per_worker": 1}  # nothing beyond loopback
    runner: Any = DaskTaskRunner(cluster_kwargs=local) if address == "local" else DaskTaskRunner(address=address)
    return sweep_chunks.with_options(task_runner=runner)


def _row(summary: SweepSummary) -> dict[str, Any]:
    row = asdict(summary)
    return row | {"params": ", ".join(f"{name} {value}" for name, value in summary.params.items())}


if __name__ == "__main__":
    from flows.cli import main

    main()
