"""The figures behind the charts, by their numbers."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.report.charts.closer import closer_figures
from tasks.report.charts.equity import equity_figure
from tasks.report.charts.grid import heat_data, heat_figure, rank_correlation, scatter_figure
from tasks.report.charts.parallel import parallel_figure
from tasks.report.charts.price import price_figure
from tasks.report.charts.returns import period_returns, returns_figure
from tasks.report.charts.theme import PALETTE
from tasks.sweep.result import SweepResult

START = datetime(2021, 1, 1, tzinfo=UTC)


def _curve(values: list[float], step: timedelta) -> pl.DataFrame:
    moments = [START + step * n for n in range(len(values))]
    return pl.DataFrame({"timestamp": moments, "equity": values, "sample": ["out"] * len(values)})


def _colours(figure: go.Figure) -> set[str]:
    """Return every colour a figure names."""
    found: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                walk(inner)
        elif isinstance(value, str) and value.startswith(("#", "rgb")):
            found.add(value)

    walk(figure.to_plotly_json())
    return found - {"rgba(0,0,0,0)"}


def test_every_colour_has_a_dark_twin(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """No chart uses a colour that the page could not exchange, and no two shades share a light spelling."""
    result, bars = sweep
    known = {shade.light for shade in PALETTE.values()}
    assert len(known) == len(PALETTE)
    figures = [
        equity_figure(result.equity, "out"),
        equity_figure(result.equity, "in"),
        returns_figure(result.equity),
        heat_figure(),
        scatter_figure(result.grid, result.param_names, result.params),
        parallel_figure(result.grid, result.param_names, result.params),
        price_figure(bars, "15m", result.trades),
    ]
    for figure in figures:
        assert figure is not None
        assert _colours(figure) <= known


@settings(max_examples=50)
@given(st.lists(st.floats(0.5, 2), min_size=1, max_size=200), st.sampled_from(["1d", "1mo"]))
def test_period_returns_compound_to_the_total(values: list[float], every: str) -> None:
    """Whatever the periods, their returns multiply to the end of the curve."""
    returns = period_returns(_curve(values, timedelta(hours=7)), every)
    assert np.prod(1 + returns["return"].to_numpy()) == pytest.approx(values[-1])


def test_a_long_walk_forward_is_shown_by_months() -> None:
    """Years are rows with their own total, months are columns, and a month without bars stays empty."""
    figure = returns_figure(_curve([1.1] * 200 + [1.21] * 200, timedelta(days=1)))
    assert figure is not None
    heat = figure.data[0]
    assert heat.y == ("2022  0.0 %", "2021  21.0 %")
    assert heat.z[1][0] == pytest.approx(0.1)
    assert heat.z[1][6] == pytest.approx(0.1)
    assert heat.z[0][11] is None
    assert figure.layout.meta == {"period": "month"}


def test_a_short_walk_forward_is_shown_by_days() -> None:
    """Two weeks make a calendar of weekdays."""
    figure = returns_figure(_curve([1.0, 1.02, 1.0], timedelta(days=1)))
    assert figure is not None
    assert figure.layout.meta == {"period": "day"}
    assert figure.data[0].z[0][5] == pytest.approx(0.02)  # 2 January 2021 was a Saturday


def test_the_heatmap_holds_the_grid(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Codes and levels give every parameter set back, and the winner points at its levels."""
    result, _ = sweep
    cube = heat_data(result.grid, result.param_names, result.params)
    assert cube is not None
    for param in cube["params"]:
        codes = np.frombuffer(base64.b64decode(param["codes"]), "<u2")
        assert [float(param["levels"][code]) for code in codes] == result.grid[param["name"]].cast(float).to_list()
        assert float(param["levels"][param["winner"]]) == result.params[param["name"]]
    sharpe = next(figure for figure in cube["figures"] if figure["name"] == "is_sharpe")
    values = np.frombuffer(base64.b64decode(sharpe["values"]), "<f4")
    np.testing.assert_allclose(values, result.grid["is_sharpe"].to_numpy(), rtol=1e-6)


def test_a_random_search_falls_into_bins() -> None:
    """Hundreds of different values become at most 60 levels in ascending order, the winner among them."""
    rng = np.random.default_rng(2)
    grid = pl.DataFrame({"a": rng.uniform(0, 1, 500), "b": rng.integers(0, 5, 500), "is_sharpe": rng.normal(size=500)})
    cube = heat_data(grid, ("a", "b"), {"a": grid["a"][7], "b": grid["b"][7]})
    assert cube is not None
    first = next(param for param in cube["params"] if param["name"] == "a")
    levels = [float(level) for level in first["levels"]]
    assert len(levels) <= 60
    assert levels == sorted(levels)
    assert levels[first["winner"]] == pytest.approx(grid["a"][7], abs=1 / 60)


def test_a_grid_of_one_has_no_heatmap(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Where no parameter varies there is nothing to pivot, and no lines to draw."""
    result, _ = sweep
    one = result.grid.head(1)
    assert heat_data(one, result.param_names, result.params) is None
    assert parallel_figure(one, result.param_names, result.params) is None
    assert rank_correlation(one) is None


def test_parallel_lines_end_at_their_sharpe(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """The winner's line meets each axis where its value lies."""
    result, _ = sweep
    figure = parallel_figure(result.grid, result.param_names, result.params)
    assert figure is not None
    winner = figure.data[2]
    row = result.grid.filter(pl.col("fast") == 20, pl.col("slow") == 120, pl.col("band") == 0.5)
    finite = result.grid.filter(pl.col("oos_sharpe").is_finite())
    low, high = finite["is_sharpe"].min(), finite["is_sharpe"].max()
    assert winner.y[2] == pytest.approx(0.5)  # band 0.5 of 0, 0.5, 1
    assert winner.y[3] == pytest.approx((row["is_sharpe"][0] - low) / (high - low), rel=1e-5)
    assert np.isnan(winner.y[-1])


def test_equity_shows_the_deepest_drawdown(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """The chart's lowest point is the true maximum drawdown of the sample."""
    rows = sweep[0].equity
    figure = equity_figure(rows, "in")
    assert figure is not None
    drawn = next(trace for trace in figure.data if trace.name == "Drawdown")
    assert min(drawn.y) == rows.filter(pl.col("sample") == "in")["drawdown"].min()
    assert equity_figure(rows.clear(), "out") is None


def test_a_wide_range_gets_a_log_axis(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """A hundredfold growth is drawn on a logarithmic axis, one of a few per cent on a linear one."""
    rows = sweep[0].equity
    grown = rows.with_columns(equity=pl.col("equity") * pl.Series(np.linspace(1, 100, rows.height)))
    steep, flat = equity_figure(grown, "out"), equity_figure(rows, "out")
    assert steep is not None
    assert flat is not None
    assert (steep.layout.yaxis.type, flat.layout.yaxis.type) == ("log", "linear")


def test_trades_lie_on_their_fills(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Entries and exits are drawn at their own prices and times; winners and losers are told apart."""
    result, bars = sweep
    figure = price_figure(bars, "15m", result.trades)
    assert figure is not None
    traces = {trace.name.split(" ")[0]: trace for trace in figure.data}
    trades = result.trades.sort("entry_timestamp")
    np.testing.assert_array_equal(traces["Entry"].y, trades["entry_price"].to_numpy())
    np.testing.assert_array_equal(traces["Exit"].x, trades["exit_timestamp"].dt.epoch("ms").to_numpy())
    assert len(traces["Winning"].x) == 3 * trades.filter(pl.col("pnl") > 0).height
    assert len(traces["Losing"].x) == 3 * trades.filter(pl.col("pnl") <= 0).height


def test_closer_looks_show_each_notable_trade_once(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """A trade that is both best and latest is shown once, with the bars around it at their own interval."""
    result, bars = sweep
    one = closer_figures(bars, "15m", result.trades.head(1))
    assert [look.title.split(":")[0] for look in one] == ["Best trade"]
    assert one[0].figure.layout.meta["interval"] == "15m"
    several = closer_figures(bars, "15m", result.trades)
    assert 2 <= len(several) <= 4
    assert closer_figures(bars.clear(), "15m", result.trades) == []
    assert closer_figures(bars, "15m", result.trades.clear()) == []


def test_too_many_trades_leave_the_latest_on_their_own_bars(sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Beyond the limit the chart begins where the first trade drawn begins, so that its candles are fine enough."""
    result, bars = sweep
    many = pl.concat([result.trades.head(1)] * 700 + [result.trades.tail(5)] * 120)
    figure = price_figure(bars, "15m", many)
    assert figure is not None
    assert figure.layout.meta["trades_drawn"] == 600
    assert figure.layout.meta["trades"] == 1300
    assert figure.data[0].x[0] >= result.trades["entry_timestamp"].sort()[-5].timestamp() * 1000 - 7_200_000


@pytest.mark.parametrize(("windows", "lines"), [(4, 4), (24, 24), (25, 0)])
def test_many_windows_are_tinted_without_lines(
    sweep: tuple[SweepResult, pl.DataFrame], windows: int, lines: int
) -> None:
    """Every second window is tinted; each has its border until borders would hide the curve."""
    spans = [(START + timedelta(days=n), START + timedelta(days=n + 1)) for n in range(windows)]
    figure = equity_figure(sweep[0].equity, "out", spans)
    assert figure is not None
    kinds = [shape.type for shape in figure.layout.shapes]
    assert kinds.count("line") == lines
    assert kinds.count("rect") == (windows + 1) // 2


@pytest.mark.parametrize("name", ["ink", "muted", "blue", "orange", "amber"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read(name: str, theme: str) -> None:
    """Every colour of words has the contrast that WCAG asks for (4.5) on the card, in both themes."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lights = sorted(luminance(getattr(PALETTE[shade], theme)) for shade in (name, "card"))
    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5
