"""Several runs on one page."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tasks.errors import InputError
from tasks.report.bundle import MAX_PAGE_BYTES
from tasks.report.charts.comparison import MAX_RUNS, daily_correlation, kept_figure, likeness_figure, overlay_figure
from tasks.report.compare import compare
from tasks.sweep.result import SweepResult


def _variant(result: SweepResult, number: int, *, passed: bool = False) -> SweepResult:
    """Return the run under another name with other luck."""
    rng = np.random.default_rng(number)
    shaken = pl.col("equity") * pl.Series(np.exp(np.cumsum(rng.normal(0, 0.001, result.equity.height))))
    return replace(
        result,
        run_id=f"run-{number:04d}",
        equity=result.equity.with_columns(equity=shaken),
        metrics=result.metrics | {"sharpe": number / 10},
        verdict=f"Verdict number {number}.",
        verdict_passed=passed,
    )


@pytest.fixture(scope="module")
def runs(sweep: tuple[SweepResult, pl.DataFrame]) -> list[SweepResult]:
    """Four runs, the third of which passed."""
    return [_variant(sweep[0], number, passed=number == 3) for number in range(1, 5)]


def test_every_run_is_in_the_table(runs: list[SweepResult]) -> None:
    """Each run has its row, its verdict and its figures; what passed comes first, then the best Sharpe."""
    page = compare(runs)
    assert "1 of 4 passed" in page
    assert len(page.encode()) < MAX_PAGE_BYTES
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>', page)
    assert [re.search(r"\((.*)\)", row).group(1) for row in rows] == [f"n-000{n}" for n in (3, 4, 2, 1)]  # type: ignore[union-attr]
    for run in runs:
        assert run.verdict in page


def test_nothing_passed_is_said_aloud(runs: list[SweepResult]) -> None:
    """Where no run passed, the page does not praise the best."""
    assert "only the luckiest" in compare(runs[:2])


def test_reports_are_linked_where_they_are(runs: list[SweepResult]) -> None:
    """A run with a page of its own is a link, the others are text; the address is escaped."""
    page = compare(runs, {"run-0001": 'a"b.html'})
    assert page.count("<a href") == 1
    assert 'href="a&#34;b.html"' in page


@pytest.mark.parametrize("count", [0, 1, MAX_RUNS + 1])
def test_a_page_compares_a_readable_number(sweep: tuple[SweepResult, pl.DataFrame], count: int) -> None:
    """One run is no comparison, and more runs than there are distinct lines cannot be told apart."""
    with pytest.raises(InputError, match=f"found {count}"):
        compare([_variant(sweep[0], number) for number in range(count)])


def test_the_same_run_twice_is_refused(runs: list[SweepResult]) -> None:
    """A run beside itself is a mistake, and the message names it."""
    with pytest.raises(InputError, match="run-0001"):
        compare([runs[0], runs[0]])


def test_every_run_has_its_own_line(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """No two of the most runs allowed share hue and dash."""
    figure = overlay_figure({str(number): sweep[0].equity for number in range(MAX_RUNS)})
    assert figure is not None
    assert len({(trace.line.color, trace.line.dash) for trace in figure.data}) == MAX_RUNS


def test_runs_that_share_no_time_are_drawn_by_their_own_span(runs: list[SweepResult]) -> None:
    """Two runs a year apart start and end together on the chart; two of the same month keep their dates."""
    later = runs[1].equity.with_columns(pl.col("timestamp").dt.offset_by("1y"))
    apart = overlay_figure({"a": runs[0].equity, "b": later})
    together = overlay_figure({"a": runs[0].equity, "b": runs[1].equity})
    assert apart is not None
    assert together is not None
    assert [(trace.x[0], trace.x[-1]) for trace in apart.data] == [(0, 1), (0, 1)]
    assert together.layout.xaxis.type == "date"


def test_correlation_is_that_of_daily_returns(runs: list[SweepResult]) -> None:
    """A run is fully like itself; the matrix is symmetric; a run that never moved is like nothing."""
    flat = runs[0].equity.with_columns(equity=pl.lit(1.0))
    matrix = daily_correlation({"a": runs[0].equity, "b": runs[1].equity, "flat": flat})
    assert matrix is not None
    values = matrix.to_numpy()
    assert values[0, 0] == pytest.approx(1)
    assert values[0, 1] == pytest.approx(values[1, 0])
    assert np.isnan(values[0, 2])
    figure = likeness_figure({"a": runs[0].equity, "flat": flat})
    assert figure is not None
    assert figure.data[0].text[0][1] == "n/a"


def test_too_little_in_common_is_no_correlation(runs: list[SweepResult]) -> None:
    """Runs without shared days, and a single run, get no matrix."""
    later = runs[1].equity.with_columns(pl.col("timestamp").dt.offset_by("1y"))
    assert daily_correlation({"a": runs[0].equity, "b": later}) is None
    assert daily_correlation({"a": runs[0].equity}) is None


def test_runs_without_a_sharpe_are_left_out() -> None:
    """A run that never traded has no line from one Sharpe to the other."""
    figure = kept_figure([("a", 1.0, 0.5), ("b", None, 0.5), ("c", float("nan"), 1.0)])
    assert figure is not None
    assert figure.data[1].y == ("a",)
    assert kept_figure([("b", None, 0.5)]) is None
