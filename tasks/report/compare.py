"""Several runs side by side on one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.errors import InputError
from tasks.report import summary, words
from tasks.report.charts import comparison
from tasks.report.document import document
from tasks.sweep.result import SweepResult

#: What the table shows of each run, all of it out of sample.
FIGURES = ("total_return", "benchmark_return", "max_drawdown", "trades")
#: What the table shows of each run's verdict.
LUCK = ("trials", "deflated_sharpe_probability", "probabilistic_sharpe")


@dataclass(frozen=True, slots=True)
class Row:
    """One run in the table; `link` is empty where the run has no page of its own."""

    label: str
    link: str
    passed: bool
    verdict: str
    params: str
    sharpe_in: str
    sharpe_out: str
    figures: tuple[str, ...]


def compare(results: Sequence[SweepResult], links: Mapping[str, str] | None = None) -> str:
    """Return one self-contained page that compares runs, the best out of sample first.

    Args:
        results: Two to eighteen runs, of any symbols and strategies.
        links: Where a run's own report is, by run id, relative to the page.

    Raises:
        InputError: Fewer than two runs, more than the page has lines for, or the same run twice.
    """
    _check(results)
    ordered = sorted(results, key=_rank)
    labels = _labels(ordered)
    curves = {label: result.equity for label, result in zip(labels, ordered, strict=True)}
    sharpes = [
        (label, summary.in_sample(result).get("sharpe"), result.metrics.get("sharpe"))
        for label, result in zip(labels, ordered, strict=True)
    ]
    charts = {
        "overlay": comparison.overlay_figure(curves),
        "kept": comparison.kept_figure(sharpes),
        "likeness": comparison.likeness_figure(curves),
    }
    drawn = {name: figure for name, figure in charts.items() if figure is not None}
    return document(
        "compare.html.j2",
        drawn,
        rows=[_row(label, result, links or {}) for label, result in zip(labels, ordered, strict=True)],
        heads=[words.word(name) for name in (*FIGURES, *LUCK)],
        sharpe=words.word("sharpe"),
        passed=sum(result.verdict_passed for result in ordered),
    )


def _check(results: Sequence[SweepResult]) -> None:
    if not 2 <= len(results) <= comparison.MAX_RUNS:
        raise InputError(f"compare: expected 2 to {comparison.MAX_RUNS} runs, found {len(results)}")
    twice = [run_id for run_id, times in Counter(result.run_id for result in results).items() if times > 1]
    if twice:
        raise InputError(f"compare: expected each run once, found {twice} more than once")


def _rank(result: SweepResult) -> tuple[bool, float, str]:
    sharpe = result.metrics.get("sharpe", float("nan"))
    return not result.verdict_passed, -sharpe if sharpe == sharpe else float("inf"), result.run_id


def _labels(results: Sequence[SweepResult]) -> list[str]:
    """Return a short name a run; the run id's end tells apart what would otherwise be alike."""
    plain = [f"{result.symbol} {result.interval} {result.strategy}" for result in results]
    alike = Counter(plain)
    return [
        f"{name} ({result.run_id[-6:]})" if alike[name] > 1 else name
        for name, result in zip(plain, results, strict=True)
    ]


def _row(label: str, result: SweepResult, links: Mapping[str, str]) -> Row:
    return Row(
        label=label,
        link=links.get(result.run_id, ""),
        passed=result.verdict_passed,
        verdict=result.verdict,
        params=summary.params_text(result),
        sharpe_in=words.spell("sharpe", summary.in_sample(result).get("sharpe")),
        sharpe_out=words.spell("sharpe", result.metrics.get("sharpe")),
        figures=(
            *(words.spell(name, result.metrics.get(name)) for name in FIGURES),
            *(words.spell(name, result.verdict_details.get(name)) for name in LUCK),
        ),
    )
