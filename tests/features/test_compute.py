"""Bars become columns: names, warm-up, inputs, longer intervals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tasks.errors import InputError, SchemaError
from tasks.features import compute, reference
from tasks.features.compute import compute_features, warm_up
from tasks.features.registry import BAR_FEATURES, FEATURES, feature


def test_every_bar_feature_gives_a_column_with_values(bars: pl.DataFrame) -> None:
    """All features of bars at once: aligned with the bars, NaN in the warm-up, and after it seldom."""
    table = compute_features(bars, BAR_FEATURES)
    assert table.columns == ["timestamp", *BAR_FEATURES]
    assert table["timestamp"].equals(bars["timestamp"])
    for name in BAR_FEATURES:
        values = table[name].to_numpy()
        assert np.isnan(values[: warm_up(name)]).all(), name
        if FEATURES[name].days == 0:
            assert np.isfinite(values[warm_up(name) :]).mean() > 0.9, name


def test_a_feature_equals_its_definition(bars: pl.DataFrame) -> None:
    """A registered kernel receives the columns it names, in order, and its arguments."""
    table = compute_features(bars, ["garman_klass_20", "macd_signal", "amihud_60"])
    o, h, l, c, v = (bars[name].to_numpy() for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
    expected = reference.garman_klass(np.log(h / l), np.log(c / o), 20)
    np.testing.assert_allclose(table["garman_klass_20"][19:], expected[19:], rtol=1e-12)
    first = warm_up("macd_signal")
    np.testing.assert_allclose(table["macd_signal"][first:], reference.macd(c, 12, 26, 9)[1][first:], atol=1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        returns = np.log(c / np.concatenate([[np.nan], c[:-1]]))
        impact = reference.amihud(returns, c, v, 60)
    np.testing.assert_allclose(table["amihud_60"][60:], impact[60:], rtol=1e-9)


def test_no_two_features_are_the_same_call() -> None:
    """Each feature has an output of its own, so that masking one's warm-up cannot touch another's values."""
    calls = [(item.kernel, item.inputs, item.arguments, item.output) for item in FEATURES.values() if item.kernel]
    assert len(set(calls)) == len(calls)


def test_many_bars_on_threads_give_the_same_bits(bars: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels release the GIL; running them side by side changes no value."""
    alone = compute_features(bars, BAR_FEATURES)
    monkeypatch.setattr(compute, "_MANY_BARS", 0)
    assert compute_features(bars, BAR_FEATURES).equals(alone)
    assert compute_features(bars, ["return_1"]).equals(
        alone.select("timestamp", "return_1")
    )  # and with no kernel at all


def test_the_time_of_day_is_compared_with_earlier_days(bars: pl.DataFrame) -> None:
    """Seasonal volume is NaN until five days of data lie behind, then the ratio to the same minute of those days."""
    assert compute_features(bars, ["volume_seasonality_5d"])["volume_seasonality_5d"].is_nan().all()
    start = bars["timestamp"][0]
    sparse = bars.head(200).with_columns(
        pl.datetime_range(start, start + pl.duration(hours=199), "1h", time_unit="us").alias("timestamp")
    )
    values = compute_features(sparse, ["volume_seasonality_5d"])["volume_seasonality_5d"].to_numpy()
    volume = sparse["volume"].to_numpy()
    assert np.isnan(values[:120]).all()
    assert values[130] == pytest.approx(volume[130] / volume[[106, 82, 58, 34, 10]].mean())


def test_correlation_and_beta_are_taken_with_a_benchmark(bars: pl.DataFrame) -> None:
    """A series has correlation and beta 1 with itself; without a benchmark the error says how to give one."""
    table = compute_features(bars, ["correlation_60", "beta_60"], benchmark=bars)
    assert np.allclose(table["beta_60"][60:], 1.0)
    assert np.allclose(table["correlation_60"][60:], 1.0)
    with pytest.raises(InputError, match="pass benchmark="):
        compute_features(bars, ["beta_60"])


def test_a_missing_benchmark_bar_is_a_hole_not_a_shift(bars: pl.DataFrame) -> None:
    """Benchmarks are matched by timestamp: a bar it lacks makes NaN, and the others keep their partners."""
    holed = bars.filter(pl.col("timestamp") != bars["timestamp"][1000])
    beta = compute_features(bars, ["beta_60"], benchmark=holed)["beta_60"].to_numpy()
    assert np.isnan(beta[1000:1061]).all()
    assert np.allclose(beta[1062:], 1.0)


def test_book_features_need_both_sides() -> None:
    """Microprice, imbalance and pressure ratio follow their formulas, and a missing side gives NaN, never 0."""
    book = pl.DataFrame(
        {
            "timestamp": pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 1, 0, 3), "1m", eager=True),
            "bid_price": [99.0, None, 99.0, 99.0],
            "bid_size": [3.0, None, 0.0, 3.0],
            "ask_price": [101.0, 101.0, 101.0, float("nan")],
            "ask_size": [1.0, 1.0, 1.0, 1.0],
        }
    )
    table = compute_features(book, ["microprice", "imbalance", "pressure_ratio"])
    assert table.row(0)[1:] == ((101 * 3 + 99 * 1) / 4, 0.5, 3.0)
    assert table.tail(3).select(pl.all().exclude("timestamp").is_nan().all()).row(0) == (True, True, True)


def test_wrong_requests_say_what_to_do(bars: pl.DataFrame) -> None:
    """An unknown name, a name given twice, a missing column and a missing interval are refused with advice."""
    with pytest.raises(InputError, match=r"expected one of .*rsi_14.*found 'rsi_15'"):
        feature("rsi_15")
    with pytest.raises(InputError, match="each name once"):
        compute_features(bars, ["rsi_14", "rsi_14"])
    with pytest.raises(SchemaError, match=r"rsi_14: expected columns .*missing \['close'\]"):
        compute_features(bars.drop("close"), ["rsi_14"])
    with pytest.raises(InputError, match="pass interval="):
        compute_features(bars, ["rsi_14@1h"])
    with pytest.raises(InputError, match="longer than 1h, found 5m"):
        compute_features(bars, ["rsi_14@5m"], interval="1h")


def test_bars_are_not_changed(bars: pl.DataFrame) -> None:
    """Computing leaves the bars the same bits, whether or not NumPy shares their memory."""
    copy = pl.DataFrame({name: bars[name].to_list() for name in bars.columns}, schema=bars.schema)
    compute_features(bars, BAR_FEATURES)
    assert bars.equals(copy)
