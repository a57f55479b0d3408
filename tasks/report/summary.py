"""The result in a few lines: markdown for an artifact, rows for a terminal."""

from __future__ import annotations

from tasks.report.words import MISSING, spell, word
from tasks.sweep.result import FIGURES, SweepResult

#: Out-of-sample figures, in the order every summary shows them.
HEADLINE = (*FIGURES, "exposure", "turnover", "fees", "benchmark_return")


def result_table(result: SweepResult) -> list[tuple[str, str, str]]:
    """Return rows of (figure, in sample, out of sample); ``n/a`` where a side does not have the figure."""
    inside = in_sample(result)
    names = [name for name in HEADLINE if name in result.metrics]
    return [(word(name).title, spell(name, inside.get(name)), spell(name, result.metrics[name])) for name in names]


def in_sample(result: SweepResult) -> dict[str, float]:
    """Return the winner's in-sample figures, taken from its row of the grid."""
    for row in result.grid.iter_rows(named=True):
        if all(row[name] == result.params.get(name) for name in result.param_names):
            return {name.removeprefix("is_"): value for name, value in row.items() if name.startswith("is_")}
    return {}


def params_text(result: SweepResult) -> str:
    """Return the winner's parameters on one line."""
    return ", ".join(f"{name} {value}" for name, value in result.params.items()) or "no parameters"


def summary_markdown(result: SweepResult) -> str:
    """Return the verdict, the figures and the run's name as markdown, free of HTML and of broken tables."""
    lines = [
        f"## {_safe(result.symbol)} {_safe(result.interval)}, {_safe(result.strategy)}",
        "",
        f"**{'Survives' if result.verdict_passed else 'Nothing survives'}.** {_safe(result.verdict)}",
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
