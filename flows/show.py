"""Shows a person what a flow returned, on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from flows.parity_question import ParitySummary
    from flows.portfolio import Portfolio
    from flows.research import Researched
    from tasks.sweep.task import SweepSummary

#: Wide enough for the widest table where the output is a file or a pipe.
_WIDTH = 120

_HEADLINE = ("symbol", "bars", "tried", "chosen", "return", "buy & hold", "Sharpe", "drawdown", "trades", "verdict")


def console() -> Console:
    """Return a console on stdout that is as wide as the terminal, and wide enough where there is none."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)


def show(result: Any) -> None:
    """Print what a flow returned: sweeps and research as their headline, other lists as a table, nothing as nothing."""
    if hasattr(result, "sweeps"):
        show_research(result)
    elif hasattr(result, "decisions_equal"):
        show_parity(result)
    elif hasattr(result, "summary"):
        show_portfolio(result)
    elif isinstance(result, list) and result and hasattr(result[0], "run_id"):
        console().print(sweep_table(result))
    elif isinstance(result, list) and result and is_dataclass(result[0]):
        console().print(rows_table([asdict(row) for row in result]))
    elif is_dataclass(result) and not isinstance(result, type):
        console().print(rows_table([asdict(result)]))


def show_research(found: Researched) -> None:
    """Print the headline of each symbol, the time of each stage, and where the reports are."""
    out = console()
    out.print(sweep_table(found.sweeps))
    out.print("Seconds:", ", ".join(f"{stage} {spent:.1f}" for stage, spent in found.seconds.items()), soft_wrap=True)
    for path in found.reports:
        out.print(f"Report: {os.path.relpath(path)}", soft_wrap=True)


def show_parity(done: ParitySummary) -> None:
    """Print how much of live is what research said, why the rest is not, and where to read on."""
    out = console()
    out.print(f"Decisions equal on all paths: {done.decisions_equal:,} of {done.decisions:,}")
    out.print(f"Fills equal on all paths: {done.fills_equal:,} of {done.fills:,}")
    out.print(f"Causes: {done.causes or 'nothing differs'}", soft_wrap=True)
    out.print(f"Journal: {os.path.relpath(done.journal)}", soft_wrap=True)
    out.print(f"Page: {os.path.relpath(done.page)}", soft_wrap=True)


def show_portfolio(done: Portfolio) -> None:
    """Print what each method came to, whether any beats equal weight, and where the page is."""
    out, summary = console(), done.summary
    title = f"{summary.members} members, {summary.decisions} decisions on {summary.bars:,} bars, after costs"
    table = Table(title=title, title_justify="left")
    for name in ("method", "return", "Sharpe", "drawdown", "turnover", "fees", "slippage"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for method, figures in summary.methods.items():
        table.add_row(
            method.replace("_", " "),
            f"{figures['total_return']:+.1%}",
            f"{figures['sharpe']:.2f}",
            f"{figures['max_drawdown']:.1%}",
            f"{figures['turnover']:.1f}",
            f"{figures['fees']:,.2f}",
            f"{figures['slippage_paid']:,.2f}",
        )
    out.print(table)
    out.print(summary.verdict, soft_wrap=True)
    out.print(f"Run: {summary.run_id}", soft_wrap=True)
    out.print(f"Page: {os.path.relpath(done.page)}", soft_wrap=True)


def sweep_table(sweeps: Sequence[SweepSummary]) -> Table:
    """Return the out-of-sample headline of some sweeps, one row a symbol."""
    first = sweeps[0]
    table = Table(title=f"{first.strategy}, {first.interval} bars, out of sample after costs", title_justify="left")
    for name in (
        "symbol",
        "bars",
        "tried",
        "chosen",
        "return",
        "buy & hold",
        "Sharpe",
        "drawdown",
        "trades",
        "verdict",
    ):
        table.add_column(name, justify="left" if name in ("symbol", "chosen", "verdict") else "right")
    for line in sweeps:
        table.add_row(
            line.symbol,
            f"{line.bars:,}",
            f"{line.combinations:,}",
            " ".join(f"{name} {value:g}" for name, value in line.params.items()),
            f"{line.total_return:+.1%}",
            f"{line.benchmark_return:+.1%}",
            f"{line.sharpe:.2f}",
            f"{line.max_drawdown:.1%}",
            f"{line.trades:,}",
            "survives" if line.passed else "nothing survives",
        )
    return table


def rows_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows of equal keys as a table; empty columns, hashes and versions are left out."""
    names = [name for name in rows[0] if any(row[name] not in ("", None, (), []) for row in rows)]
    names = [name for name in names if not name.endswith(("_hash", "_version"))]
    table = Table(*(name.replace("_", " ") for name in names))
    for row in rows:
        table.add_row(*(_text(row[name]) for name in names))
    return table


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d}"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item.get("rule", item)) if isinstance(item, dict) else str(item) for item in value)
    return str(value)
