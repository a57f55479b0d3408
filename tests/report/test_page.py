"""The page as text: what it says, what it leaves out, and that nothing in it can run or load by surprise."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product

import numpy as np
import polars as pl
import pytest

from tasks.errors import InputError
from tasks.report.bundle import MAX_PAGE_BYTES
from tasks.report.page import edge_words, rank_words, render, tiles
from tasks.report.summary import result_table, summary_markdown
from tasks.report.tables import quality_warning, windows_table
from tasks.sweep.result import SweepResult

COVERAGE = {"rows": 2976, "expected_rows": 2976}


class _Elements(HTMLParser):
    """Collects the elements and attributes of a page, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._script = found.get("id") or "inline" if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


@pytest.fixture(scope="module")
def page(sweep: tuple[SweepResult, pl.DataFrame], quality: pl.DataFrame) -> str:
    """The fixture's page."""
    return render(*sweep, quality, COVERAGE)


def test_the_page_loads_nothing(page: str) -> None:
    """No element points outside the page, and the policy forbids what a script might try."""
    tags = _Elements(page).tags
    assert not [tag for tag, attrs in tags if "src" in attrs]
    assert all(attrs["href"].startswith("#") for _, attrs in tags if attrs.get("href"))
    policy = [attrs["content"] for tag, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"]


def test_the_page_is_light(page: str) -> None:
    """With plotly.js inside, the page stays under its limit."""
    assert len(page.encode()) < MAX_PAGE_BYTES


def test_plotly_inside_is_the_installed_one(page: str) -> None:
    """The packed script unpacks to plotly.js."""
    packed = _Elements(page).scripts["plotly"].strip()
    assert gzip.decompress(base64.b64decode(packed)).startswith(b"/**\n* plotly.js v")


def test_the_same_run_gives_the_same_page(
    page: str, sweep: tuple[SweepResult, pl.DataFrame], quality: pl.DataFrame
) -> None:
    """A report is a function of its run: rendering twice gives the same bytes."""
    assert render(*sweep, quality, COVERAGE) == page


def test_the_page_says_the_verdict_and_the_figures(page: str, sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """The sentence, the out-of-sample figures, the winner and every key of the record are readable as text."""
    text = re.sub(r"<[^>]+>", " ", page.split('<script type="application/json"')[0])
    result = sweep[0]
    assert result.verdict in text
    assert "Nothing survives" in text
    for figure in ("−4.12 %", "−0.62", "−9.34 %", "41.94 %", "−11.70 %"):
        assert figure in text
    for value in ("fast 20, slow 120, band 0.5", "0.1.0+abc1234", "vectorbt 1.2.0"):
        assert value in text


def test_user_text_is_text(sweep: tuple[SweepResult, pl.DataFrame], quality: pl.DataFrame) -> None:
    """Names, parameters, verdicts, findings and records with markup in them add no element to the page."""
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    result, bars = sweep
    poisoned = replace(
        result,
        symbol=evil,
        strategy=evil,
        run_id=evil,
        verdict=evil,
        params={"fast": 20, "slow": 120, "band": evil},
        grid=result.grid.with_columns(band=pl.lit(evil)),
        record={evil: {evil: evil}},
        verdict_details={evil: evil},
    )
    findings = json.dumps([{"rule": evil, "severity": evil, "rows": 1, "message": evil}])
    dirty = render(
        poisoned, bars, quality.with_columns(symbol=pl.lit(evil), findings_json=pl.lit(findings)), {evil: evil}
    )
    clean = render(*sweep, quality, COVERAGE)
    for tag in ("script", "img"):
        assert dirty.count(f"<{tag}") == clean.count(f"<{tag}")
    assert json.loads(_Elements(dirty).scripts["data"])["charts"]


def test_sections_without_data_say_so(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """One parameter set, no trades, windows, verdicts or bars: the page still stands and says what is missing."""
    result, bars = sweep
    winner = result.grid.filter(pl.col("fast") == 20, pl.col("slow") == 120, pl.col("band") == 0.5)
    bare = replace(result, grid=winner, windows=result.windows.clear(), trades=result.trades.clear())
    page = render(bare, bars.clear(), pl.DataFrame(), {})
    assert "made no trade out of sample" in page
    assert "used unchecked" in page
    assert "no grid to show" in page
    assert 'id="windows"' not in page


def test_windows_are_numbered_whatever_the_parameters_are_called(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """A parameter that is itself named window does not take the place of the window's number."""
    windows = sweep[0].windows.with_columns(window=pl.lit(60))
    table = windows_table(windows, ("window", "fast"))
    assert table is not None
    assert [row[0] for row in table.rows] == ["0", "1", "2", "3", "4"]
    assert table.rows[0][3] == "window 60, fast 20"
    assert windows_table(windows.clear(), ()) is None


def test_a_result_without_equity_is_refused(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """A page that could only mislead is not made."""
    result, bars = sweep
    with pytest.raises(InputError, match="expected equity rows"):
        render(replace(result, equity=result.equity.clear()), bars, pl.DataFrame(), {})


def test_nan_figures_reach_the_page_as_missing(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """A strategy that never traded has no Sharpe, and the page says n/a instead of a number."""
    result, bars = sweep
    silent = replace(
        result,
        metrics=result.metrics | {"sharpe": float("nan")},
        grid=result.grid.with_columns(is_sharpe=pl.lit(np.nan), oos_sharpe=pl.lit(np.nan)),
    )
    page = render(silent, bars, pl.DataFrame(), {})
    assert "<dd>n/a</dd>" in page
    assert "scatter" not in json.loads(_Elements(page).scripts["data"])["charts"]


def test_a_large_grid_still_fits(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """10,000 parameter sets over a year of minutes stay under the limit."""
    result, bars = sweep
    rng = np.random.default_rng(1)
    count = 10_000
    grid = pl.DataFrame(
        {"fast": rng.integers(2, 102, count), "slow": rng.integers(50, 150, count), "band": rng.uniform(0, 1, count)}
        | {name: rng.normal(size=count) for name in result.grid.columns if name.startswith(("is_", "oos_"))}
    )
    equity = pl.concat([result.equity] * 90).sort("sample", "timestamp", maintain_order=True)
    trades = pl.concat([result.trades] * 1_000)
    page = render(replace(result, grid=grid, equity=equity, trades=trades), bars, pl.DataFrame(), {})
    assert len(page.encode()) < MAX_PAGE_BYTES


def test_markdown_holds_verdict_and_figures(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """The artifact's markdown says the verdict and each figure for both samples, and survives a hostile symbol."""
    text = summary_markdown(replace(sweep[0], symbol="A|B<script>"))
    assert "**Not passed.**" in text
    assert "| Sharpe | " in text
    assert "A\\|B&lt;script>" in text


def test_result_table_pairs_the_samples(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Each row has a name and both samples; a figure that one sample lacks has no row."""
    rows = {name: (inside, outside) for name, inside, outside in result_table(sweep[0])}
    assert rows["Total return"][1] == "−4.12 %"
    assert "Exposure" not in rows
    assert rows["Buy and hold"][1] == "−11.70 %"
    assert rows["Sharpe"][0] != "n/a"


@pytest.mark.parametrize(
    ("inside", "outside", "said"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "carries over"),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], "is lost"),
        ([-3.0, -2.0, -1.0], [-3.0, -2.0, -1.0], "No set has a Sharpe above zero"),
        ([np.nan] * 3, [1.0, 2.0, 3.0], ""),
    ],
)
def test_the_order_of_the_grid_is_judged_in_words(inside: list[float], outside: list[float], said: str) -> None:
    """The sentence says whether the order carries over, and that an order of losers is no merit."""
    text = rank_words(pl.DataFrame({"is_sharpe": inside, "oos_sharpe": outside}))
    assert said in text
    assert bool(text) == bool(said)


def test_a_short_span_is_not_blown_up_to_a_year(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Twenty days show no growth a year among the headlines; the other headlines stand beside their in-sample twin."""
    result = replace(sweep[0], metrics=sweep[0].metrics | {"annual_return": -0.5})
    shown = {tile.word.title: tile for tile in tiles(result)}
    assert "Annual return" not in shown
    assert shown["Total return"].aside == "vs hold −11.7 %"
    assert shown["Sharpe"].aside.startswith("in sample ")
    stretched = result.equity.with_columns(pl.col("timestamp").rank("ordinal").cast(pl.Int64) * 86_400_000_000)
    years = replace(result, equity=stretched.cast({"timestamp": pl.Datetime("us", "UTC")}))
    assert "Annual return" in {tile.word.title for tile in tiles(years)}


def test_unknown_tables_are_shown_as_tables(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """A further table that the report has no chart for still reaches the reader."""
    result, bars = sweep
    extras = {"regime_split": pl.DataFrame({"regime": ["calm", "wild"], "oos_sharpe": [1.25, -0.5]})}
    page = render(replace(result, extras=extras), bars, pl.DataFrame(), {})
    assert "<h2>Regime split</h2>" in page
    assert ">1.25</td>" in page


def test_bad_data_is_said_beside_the_verdict(sweep: tuple[SweepResult, pl.DataFrame], quality: pl.DataFrame) -> None:
    """Rejected, released and doubtful partitions are counted where nobody can miss them; clean data says nothing."""
    assert quality_warning(quality) == "Of 3 partitions quality rejected 1 and warned about 1."
    released = quality.with_columns(release_reason=pl.lit("outage"))
    assert "rejected 1 that a person released and warned about 1." in quality_warning(released)
    assert quality_warning(quality.filter(pl.col("status") == "pass")) == ""
    assert "unchecked" in quality_warning(pl.DataFrame())
    mended = pl.concat(
        [quality, quality.with_columns(status=pl.lit("pass"), checked_at=pl.col("checked_at").max().dt.offset_by("1d"))]
    )
    assert quality_warning(mended) == ""
    assert "quality rejected 1" in render(*sweep, quality, {}).split('id="equity"')[0]


def _odd(result: SweepResult, kind: str) -> SweepResult:
    """Return the result as an unlucky or unusual run would leave it."""
    grid, equity = result.grid, result.equity
    third = grid.height // 3
    return {
        "ruined": lambda: replace(result, equity=equity.with_columns(equity=pl.lit(0.0), drawdown=pl.lit(-1.0))),
        "equity is NaN": lambda: replace(result, equity=equity.with_columns(equity=pl.lit(np.nan))),
        "one row a sample": lambda: replace(result, equity=equity.group_by("sample", maintain_order=True).head(1)),
        "only in sample": lambda: replace(result, equity=equity.filter(pl.col("sample") == "in")),
        "a parameter that is off": lambda: replace(
            result,
            grid=grid.with_columns(band=pl.Series([None, 0.5, 1.0] * third)),
            params=result.params | {"band": None},
        ),
        "a switch": lambda: replace(
            result,
            grid=grid.with_columns(band=pl.Series([True, False, False] * third)),
            params=result.params | {"band": True},
        ),
        "no grid": lambda: replace(result, grid=grid.clear()),
        "no figures": lambda: replace(result, metrics={}, verdict_details={}, record={}, extras={}),
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "ruined",
        "equity is NaN",
        "one row a sample",
        "only in sample",
        "a parameter that is off",
        "a switch",
        "no grid",
        "no figures",
    ],
)
@pytest.mark.filterwarnings("error")
def test_odd_runs_still_make_a_page(sweep: tuple[SweepResult, pl.DataFrame], quality: pl.DataFrame, kind: str) -> None:
    """However a run ended, its page tells the verdict, and nothing warns on the way."""
    result, bars = sweep
    page = render(_odd(result, kind), bars, quality, COVERAGE)
    assert result.verdict in page
    assert "equity-out" in json.loads(_Elements(page).scripts["data"])["charts"] or kind == "only in sample"


def test_a_parameter_that_is_off_can_win(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """A winner with a null parameter is found in the grid, with its in-sample figures."""
    rows = {name: inside for name, inside, _ in result_table(_odd(sweep[0], "a parameter that is off"))}
    assert rows["Sharpe"] not in ("", "n/a")


@pytest.mark.parametrize(
    ("winner", "said"),
    [
        ({"fast": 20, "slow": 50, "kind": 1}, ""),
        ({"fast": 10, "slow": 50, "kind": 1}, "(fast at its lowest)"),
        ({"fast": 30, "slow": 40, "kind": 0}, "(fast at its highest, slow at its lowest)"),
    ],
)
def test_a_winner_at_the_edge_is_told(winner: dict[str, int], said: str) -> None:
    """A parameter at an end of what was tried is named; one with two values has no inside and is not."""
    rows = pl.DataFrame(
        list(product((10, 20, 30), (40, 50, 60), (0, 1))), schema=["fast", "slow", "kind"], orient="row"
    )
    words = edge_words(rows, winner)
    assert said in words
    assert bool(words) == bool(said)
