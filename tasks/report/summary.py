"""The result in a few lines: markdown for an artifact, rows for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from tasks.report.words import MISSING, Word, spell, word
from tasks.sweep.result import FIGURES, SweepResult


def result_table(result: SweepResult) -> list[tuple[str, str, str]]:
    """Return rows of (figure, in sample, out of sample) for every figure that both samples have."""
    inside = in_sample(result)
    names = [name for name in (*FIGURES, "benchmark_return") if name in result.metrics and name in inside]
    return [(word(name).title, spell(name, inside[name]), spell(name, result.metrics[name])) for name in names]


def further_figures(result: SweepResult) -> list[tuple[Word, str]]:
    """Return the out-of-sample figures that `result_table` leaves out."""
    inside = in_sample(result)
    return [(word(name), spell(name, value)) for name, value in result.metrics.items() if name not in inside]


def is_winner(params: Sequence[str], chosen: Mapping[str, Any]) -> pl.Expr:
    """Return whether a row of the grid is the chosen parameter set; a parameter that is off is null on both sides."""
    return pl.all_horizontal(pl.lit(True), *(pl.col(name).eq_missing(chosen.get(name)) for name in params))


def in_sample(result: SweepResult) -> dict[str, float]:
    """Return the winner's in-sample figures: its row of the grid, and buy and hold over the same bars."""
    row = result.grid.filter(is_winner(result.param_names, result.params)).head(1).to_dicts()
    found = {name.removeprefix("is_"): value for name, value in row[0].items() if name.startswith("is_")} if row else {}
    held = result.equity.filter(pl.col("sample") == "in").sort("timestamp")["benchmark"]
    return found | ({"benchmark_return": held[-1] - 1} if len(held) else {})


def params_text(result: SweepResult) -> str:
    """Return the winner's parameters on one line."""
    return ", ".join(f"{name} {spell('', value)}" for name, value in result.params.items()) or "no parameters"


def summary_markdown(result: SweepResult) -> str:
    """Return the verdict, the figures and the run's name as markdown, free of HTML and of broken tables."""
    lines = [
        f"## {_safe(result.symbol)} {_safe(result.interval)}, {_safe(result.strategy)}",
        "",
        f"**{'Passed' if result.verdict_passed else 'Not passed'}.** {_safe(result.verdict)}",
        "",
        "| Figure | In sample | Out of sample |",
        "|---|---:|---:|",
        *(f"| {_safe(name)} | {_safe(inside)} | {_safe(outside)} |" for name, inside, outside in result_table(result)),
        "",
        f"Winner: {_safe(params_text(result))}. Run `{result.run_id}`, "
        f"code {_safe(_recorded(result, 'code_version'))}, lake version {_safe(_recorded(result, 'lake_version'))}.",
    ]
    return "\n".join(lines)


def _recorded(result: SweepResult, name: str) -> str:
    return str(result.record.get(name, MISSING))


def _safe(text: str) -> str:
    """Return text that neither opens an HTML tag nor ends a table cell."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
