"""One portfolio on one page: does any weighting beat equal weight, and what did each hold and cost."""

from __future__ import annotations

import polars as pl

from tasks.report import words
from tasks.report.charts.portfolio import growth_figure, weights_figure
from tasks.report.document import document
from tasks.report.tables import Column, Table, record_rows
from tasks.sweep.portfolio.result import PortfolioResult

TITLES = {
    "equal": "Equal weight",
    "inverse_volatility": "Inverse volatility",
    "minimum_variance": "Minimum variance",
    "mean_variance": "Mean-variance",
    "hierarchical_risk_parity": "Hierarchical risk parity",
}
MEANINGS = {
    "equal": "The same share of the account in every member, again at each rebalancing.",
    "inverse_volatility": "Shares in proportion to one over the volatility of the window.",
    "minimum_variance": "The mix of lowest variance in the window.",
    "mean_variance": "The mix of the highest mean over deviation in the window; minimum variance where no mean is "
    "above zero.",
    "hierarchical_risk_parity": "Members are clustered by correlation and risk is halved from the top down "
    "(López de Prado, 2016).",
}
_RESULT = (
    "total_return",
    "annual_return",
    "volatility",
    "sharpe",
    "lead",
    "lead_lost",
    "max_drawdown",
    "effective_members",
)
_COSTS = ("turnover", "orders", "orders_skipped", "fees", "slippage_paid")


def portfolio_page(result: PortfolioResult) -> str:
    """Return one self-contained page."""
    titles = {method: TITLES[method] for method in result.methods}
    members = dict(zip(result.members, result.labels, strict=True))
    charts = {"growth": growth_figure(result.equity, titles)}
    for method in result.methods:
        held = result.weights.filter(pl.col("method") == method)
        charts[f"weights-{method}"] = weights_figure(held, members)
    first, last = result.equity.select(pl.col("timestamp").min(), pl.col("timestamp").max().alias("last")).row(0)
    return document(
        "portfolio.html.j2",
        charts,
        result=result,
        first=words.moment(first),
        last=words.moment(last),
        decisions=words.count(result.record["decisions"]),
        lookback=words.count(result.record["lookback"]),
        every={"1d": "day", "1w": "week", "1mo": "month"}[result.record["rebalance"]],
        methods=[(method, titles[method], MEANINGS[method]) for method in result.methods],
        figures=_table(result, _RESULT),
        costs=_table(result, _COSTS, share=True),
        shares=_members(result),
        record=record_rows(result.record),
    )


def _table(result: PortfolioResult, names: tuple[str, ...], *, share: bool = False) -> Table:
    """Return one row a method; `share` adds what the costs came to in per cent of the first cash."""
    heads = [Column("Method", numeric=False), *(Column(words.word(n).title, words.word(n).meaning) for n in names)]
    if share:
        heads.append(Column("Costs", "Fees and slippage over the first cash of the account."))
    rows = []
    for method in result.methods:
        figures = result.metrics[method]
        row = [TITLES[method], *("" if n not in figures else words.spell(n, figures[n]) for n in names)]
        if share:
            spent = figures["fees"] + figures["slippage_paid"]
            row.append(words.percent(spent / result.record["costs"]["initial_cash"]))
        rows.append(tuple(row))
    return Table(tuple(heads), tuple(rows))


def _members(result: PortfolioResult) -> Table:
    """Return the mean share of each member by method, and how often it had no bar."""
    mean = result.weights.group_by("method", "member").agg(pl.col("held").mean())
    shares = {(method, member): held for method, member, held in mean.iter_rows()}
    absent = result.record["absent_bars"]
    heads = (
        Column("Member", numeric=False),
        *(Column(TITLES[method], "Mean share of the account after rebalancing.") for method in result.methods),
        Column("Absent bars", "Bars that other members have and this one has not."),
    )
    rows = tuple(
        (
            label,
            *(words.percent(shares[method, member], 1) for method in result.methods),
            words.count(absent.get(member, 0)),
        )
        for member, label in zip(result.members, result.labels, strict=True)
    )
    return Table(heads, rows)
