"""Does live trade as research said? One recorded period on three paths, and a cause for every difference."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows.adhoc import flow
from flows.parameters import EndDay, IntervalName, StartDay, StrategyName, check_strategy, span
from flows.parity_question import Conditions, ParityQuestion, ParitySummary
from flows.settings import load
from flows.steps import key_of, publish_file, publish_markdown, publish_table, step
from flows.vendor import calendar_of
from lake.store import Lake
from tasks.errors import DataError
from tasks.sweep.costs import Costs


@flow(name="parity", flow_run_name="parity {symbol} {interval} {strategy}")
async def parity(
    symbol: Annotated[str, Field(description="Symbol in the vendor's spelling.")],
    interval: IntervalName = "1m",
    start: StartDay = date(2026, 1, 1),
    end: EndDay = None,
    strategy: StrategyName = "ma_crossover",
    params: dict[str, float] | None = None,
    costs: Costs = Costs(),  # noqa: B008  (frozen)
    conditions: Conditions = Conditions(),  # noqa: B008  (frozen)
    lake_version: int | None = None,
) -> ParitySummary:
    """Trade a recorded period by sweep, by VectorBT and by a replay of the live path, and explain every difference.

    Args:
        symbol: Symbol in the vendor's spelling.
        interval: Length of a bar.
        start: First UTC day.
        end: First UTC day no longer wanted; empty for up to the newest closed bar.
        strategy: Strategy to trade.
        params: Its parameters; the strategy's defaults for those left out.
        costs: What trading is assumed to cost, as in the sweep.
        conditions: What the replayed market and account do otherwise: latency, fees, limits, history.
        lake_version: Version of the bars that research knows; empty for the newest.

    Returns:
        How much is equal, and why the rest is not.

    Raises:
        DataError: A difference that nothing on record explains.
    """
    check_strategy(strategy)
    settings = load()
    first, last = span(interval, start, end, now=settings.market_now)
    question = ParityQuestion(
        symbol=symbol,
        interval=interval,
        start=first,
        end=last,
        strategy=strategy,
        params=params or {},
        costs=costs,
        conditions=conditions,
        calendar=calendar_of(symbol),
        lake_version=Lake(settings.lake_root).bars_version(interval) if lake_version is None else lake_version,
    )
    state, pages = str(settings.state_dir / "parity"), str(settings.report_dir.absolute())
    done = await step(compare_paths, settings.lake_root, question, state, pages)
    await _publish(question, done)
    if done.unexplained:
        raise DataError(
            f"parity of {symbol} {interval} {strategy}: expected a cause for every difference, found "
            f"{done.unexplained} without; {done.page} lists them, the orders are in {done.journal}; please report it"
        )
    return done


@task(name="compare-paths", task_run_name="parity {question.symbol} {question.strategy}", cache_policy=NO_CACHE)
def compare_paths(lake_root: str, question: ParityQuestion, state_dir: str, out_dir: str) -> ParitySummary:
    """Trade a period on three paths, store what differs and why, and write the page; in a thread and loop of its own.

    Args:
        lake_root: Folder or address of the lake.
        question: What is compared.
        state_dir: Where the replay's journal goes.
        out_dir: Where the page goes.
    """
    from flows.parity_run import run_parity  # numba, vectorbt and plotly load only where they are wanted

    folder = Path(state_dir) / question.run_id
    return asyncio.run(run_parity(Lake(lake_root), question, folder, Path(out_dir)))


async def _publish(question: ParityQuestion, done: ParitySummary) -> None:
    words = question.symbol, question.interval, question.strategy
    await publish_table(key_of("parity", *words), [asdict(done)], "Sweep, VectorBT and live over one period")
    text = (
        f"**{done.decisions_equal:,} of {done.decisions:,} decisions** and **{done.fills_equal:,} of {done.fills:,} "
        f"fills** are equal on all paths.\n\nCauses: {done.causes or 'nothing differs'}.\n"
    )
    await publish_markdown(key_of("parity-verdict", *words), text, "How much of live is what research said")
    await publish_file(key_of("parity-page", *words), done.page, done.causes)


if __name__ == "__main__":
    from flows.cli import main

    main()
