"""Symbols, or the strategies of finished sweeps, weighed against each other and rebalanced, out of sample."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

from pydantic import Field, ValidationError

from flows.adhoc import flow
from flows.events import record_asset
from flows.parameters import DEFAULT_START, EndDay, IntervalName, LakeVersion, Seed, StartDay, Symbol, span
from flows.settings import load
from flows.steps import publish_file, publish_markdown, publish_table, step
from tasks.errors import InputError
from tasks.report.task import write_portfolio
from tasks.sweep.costs import Costs
from tasks.sweep.portfolio.request import METHODS, Method, PortfolioRequest, Rebalance
from tasks.sweep.task import PortfolioSummary, build_portfolio

RunId = Annotated[str, Field(min_length=1, max_length=80, description="Run of a sweep, as sweeps/runs lists it.")]


@dataclass(frozen=True, slots=True)
class Portfolio:
    """A finished portfolio and where its page is."""

    summary: PortfolioSummary
    page: str


@flow(name="portfolio", flow_run_name="portfolio {interval} every {rebalance}")
async def portfolio(
    symbols: Annotated[list[Symbol] | None, Field(description="Members that are symbols; empty for runs.")] = None,
    runs: Annotated[list[RunId] | None, Field(description="Members that are finished sweeps.")] = None,
    interval: IntervalName = "1h",
    start: StartDay = DEFAULT_START,
    end: EndDay = None,
    methods: Annotated[list[Method], Field(min_length=1)] = list(METHODS),  # noqa: B006  (never written to)
    rebalance: Rebalance = "1w",
    lookback: Annotated[int, Field(ge=20, le=100_000, description="Returns that weights are estimated from.")] = 250,
    max_weight: Annotated[float, Field(gt=0, le=1, description="Most of one member, where a method optimises.")] = 1.0,
    costs: Costs = Costs(),  # noqa: B008  (frozen)
    seed: Seed = 0,
    lake_version: LakeVersion = None,
) -> Portfolio:
    """Weigh symbols or strategies by several methods, rebalance with costs, and ask whether any beats equal weight.

    Args:
        symbols: Symbols in the vendor's spelling; empty for a portfolio of runs.
        runs: Runs of sweeps, each by its out-of-sample equity; empty for a portfolio of symbols.
        interval: Length of a bar; that of the runs where they are the members.
        start: First UTC day.
        end: First UTC day no longer wanted; empty for up to the newest closed bar.
        methods: How weights are found; equal weight is always among them.
        rebalance: Decide at the last bar of every day, week or month, filled at the next open.
        lookback: Returns before each decision that weights are estimated from.
        max_weight: Most of one member for minimum variance, mean-variance and hierarchical risk parity.
        costs: Fees, slippage and first cash; never free by default.
        seed: Seed of the resampling behind the verdict, kept in the record.
        lake_version: Version of the bars to read, as an earlier run recorded it; empty for the newest.

    Returns:
        The figures of every method; the lake has the rest under the run_id.
    """
    settings = load()
    first, last = span(interval, start, end, now=settings.market_now)
    request = _request(
        symbols=tuple(symbols or ()),
        runs=tuple(runs or ()),
        interval=interval,
        methods=tuple(methods),
        rebalance=rebalance,
        lookback=lookback,
        max_weight=max_weight,
        costs=costs,
        start=first,
        end=last,
        lake_version=lake_version,
        seed=seed,
    )
    done = await step(build_portfolio, settings.lake_root, request, code_version=version("klinehouse"))
    page = await step(write_portfolio, settings.lake_root, done.run_id, str(settings.report_dir.absolute()))
    await _publish(request, done, page)
    made_from = [f"klines/{interval}"] if request.symbols else ["sweeps/runs"]
    await record_asset(settings.lake_root, "portfolio/runs", made_from, run=done.run_id, passed=done.passed)
    return Portfolio(done, page)


def _request(**told: Any) -> PortfolioRequest:
    """Return the request, with the model's complaint as one of ours: a person changes the arguments."""
    try:
        return PortfolioRequest(**told)
    except ValidationError as error:
        complaints = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
        raise InputError(f"portfolio: {complaints}") from None


async def _publish(request: PortfolioRequest, done: PortfolioSummary, page: str) -> None:
    rows = [{"method": method, **figures} for method, figures in done.methods.items()]
    await publish_table("portfolio", rows, f"{done.members} members, {done.decisions} decisions, after costs")
    await publish_markdown("portfolio-verdict", f"**{done.verdict}**\n", "Does anything beat equal weight?")
    await publish_file("portfolio-page", page, done.verdict)


if __name__ == "__main__":
    from flows.cli import main

    main()
