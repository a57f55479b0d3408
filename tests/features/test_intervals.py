"""Longer bars are used only once they have closed."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from tasks.errors import InputError
from tasks.features.compute import compute_features, warm_up
from tasks.features.intervals import join_closed, ratio, resample


def test_a_longer_bar_is_seen_when_it_has_closed_and_not_before(bars: pl.DataFrame) -> None:
    """The minute of 00:58 sees no hour bar; that of 00:59 closes with the hour and sees it; so does 01:58."""
    hours = resample(bars, "1m", "1h")
    joined = join_closed(bars, "1m", hours, "1h", {"close": "hour_close"})["hour_close"]
    assert joined[:59].is_null().all()
    assert joined[59:119].to_list() == [hours["close"][0]] * 60
    assert joined[119] == hours["close"][1]


def test_only_whole_longer_bars_are_made(bars: pl.DataFrame) -> None:
    """Bars from 00:30 to 02:29 hold one whole hour; its prices, extremes and volumes are those of its minutes."""
    part = bars[30:150]
    hours = resample(part, "1m", "1h")
    inside = bars[60:120]
    assert hours["timestamp"].to_list() == [bars["timestamp"][60]]
    assert hours.row(0)[1:6] == (
        inside["open"][0], inside["high"].max(), inside["low"].min(), inside["close"][-1], inside["volume"].sum(),
    )  # fmt: skip


def test_weeks_and_months_close_by_the_calendar(bars: pl.DataFrame) -> None:
    """A month is known at the first instant of the next one, whatever its length."""
    start = bars["timestamp"][0].replace(day=1)
    days = bars.head(70).with_columns(
        pl.datetime_range(start, start + timedelta(days=69), "1d", time_unit="us").alias("timestamp")
    )
    months = resample(days, "1d", "1mo")
    assert months["timestamp"].dt.month().to_list() == [3, 4]
    joined = join_closed(days, "1d", months, "1mo", {"close": "month_close"})
    assert joined.filter(pl.col("month_close").is_not_null())["timestamp"][0] == start + timedelta(days=30)


@pytest.mark.parametrize(("name", "longer", "expected"), [("1m", "1h", 60), ("5m", "1d", 288), ("1h", "1mo", 744)])
def test_the_ratio_counts_the_bars_of_the_longest_case(name: str, longer: str, expected: int) -> None:
    """A longer bar holds at most this many bars; warm-ups are counted with it."""
    assert ratio(name, longer) == expected


@pytest.mark.parametrize(("name", "longer"), [("3m", "5m"), ("1w", "1mo"), ("1h", "1m"), ("1h", "1h")])
def test_bars_that_do_not_divide_a_longer_one_make_none(bars: pl.DataFrame, name: str, longer: str) -> None:
    """A bar that reaches over the end of the longer one would put prices into it that came after its close."""
    with pytest.raises(InputError, match=f"a multiple longer than {name}, found {longer}"):
        compute_features(bars, [f"mean_20@{longer}"], interval=name)


def test_a_feature_on_a_longer_interval_is_that_of_the_closed_bars(bars: pl.DataFrame) -> None:
    """``zscore_20@1h`` on minutes is `zscore_20` on the hour bars, held until the next hour has closed."""
    name = "zscore_20@1h"
    values = compute_features(bars, [name], interval="1m")[name].to_numpy()
    hours = compute_features(resample(bars, "1m", "1h"), ["zscore_20"])["zscore_20"].to_numpy()
    expected = np.repeat(hours, 60)
    np.testing.assert_array_equal(values[59:], np.concatenate([expected, [hours[-1]] * 60])[: values.size - 59])
    assert warm_up(name, "1m") == 21 * 60
