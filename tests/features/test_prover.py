"""The prover catches every seeded leak, names it, and raises no alarm on sound computations."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.store import Lake
from tasks.errors import InputError, LookAheadError
from tasks.features import proofs
from tasks.features.compute import compute_features
from tasks.features.intervals import join_closed, resample
from tasks.features.proofs import feature_subject, prove_features, prove_once
from tasks.features.prover import Subject, check, prove
from tasks.features.registry import FEATURES
from tests.features.leaks import CLOSE, LEAKS, RETURN, subject


@pytest.fixture(scope="module")
def scene(make_bars) -> pl.DataFrame:
    """15,000 minutes with a benchmark and a book: ten days and ten hours."""
    bars, other = make_bars(15_000), make_bars(15_000, seed=8)
    return bars.with_columns(
        benchmark_close=other["close"], bid_price=bars["close"] - 0.1, ask_price=bars["close"] + 0.1,
        bid_size=bars["volume"], ask_size=other["volume"],
    )  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.name)
def test_a_leak_is_caught(leak: Subject, scene: pl.DataFrame) -> None:
    """Each of the seeded leaks is found, under its column's name and by a check of the future, not of the warm-up."""
    found = check(leak, scene[:4000])
    assert {(item.column, item.check == "warm_up") for item in found.leaks} == {(leak.name, False)}


def test_there_are_enough_leaks() -> None:
    """The list of seeded leaks does not shrink below twenty."""
    assert len({leak.name for leak in LEAKS}) >= 20


GROUPS = sorted({(item.warm_up, item.days) for item in FEATURES.values()})


@pytest.mark.parametrize(("warm_up", "days"), GROUPS)
def test_a_registered_feature_raises_no_alarm(warm_up: int, days: int, scene: pl.DataFrame) -> None:
    """Every feature of the registry is causal and warm when it says so; those that warm up alike are tried together."""
    names = [item.name for item in FEATURES.values() if (item.warm_up, item.days) == (warm_up, days)]
    together = Subject(" ".join(names), lambda bars: compute_features(bars, names), warm_up, days)
    assert check(together, scene if days else scene[:4000]).leaks == ()


@pytest.mark.parametrize("name", ["std_20@15m", "return_1@1h"])
def test_a_feature_on_longer_bars_raises_no_alarm(name: str, scene: pl.DataFrame) -> None:
    """Features on closed longer bars are causal, and their warm-up counts the bars of the longer interval."""
    assert check(feature_subject(name, "1m"), scene[:4000]).leaks == ()


SOUND = [
    subject("fill_at_next_open", lambda bars: pl.when((RETURN > 0).shift(1)).then("open"), at_open=True),
    subject("position_from_the_last_close", lambda bars: (CLOSE.rolling_mean(20) < CLOSE).shift(1), at_open=True),
    subject("forward_filled", lambda bars: CLOSE.forward_fill()),
    subject("expanding_zscore", lambda bars: (CLOSE - CLOSE.cum_sum() / CLOSE.cum_count()) / CLOSE.cum_max()),
    subject("high_of_the_day_so_far", lambda bars: pl.col("high").cum_max().over(pl.col("timestamp").dt.date())),
]


@pytest.mark.parametrize("sound", SOUND, ids=lambda sound: sound.name)
def test_a_sound_look_alike_raises_no_alarm(sound: Subject, scene: pl.DataFrame) -> None:
    """The honest forms of common leaks pass, those known at their bar's open too."""
    assert check(sound, scene[:4000]).leaks == ()


def joined(by_label: bool, hours: pl.DataFrame) -> Subject:
    """Return a computation that is handed hour bars and joins them by label or by availability."""

    def compute(bars: pl.DataFrame, longer: dict[str, pl.DataFrame]) -> pl.DataFrame:
        right = longer["1h"].select("timestamp", CLOSE.alias("hour"))
        if by_label:
            return bars.select("timestamp").join_asof(right, on="timestamp")
        return join_closed(bars.select("timestamp"), "1m", right, "1h", {"hour": "hour"})

    return Subject("hour", compute, 120, interval="1m", longer={"1h": hours})


def test_a_longer_bar_is_available_when_it_has_closed(scene: pl.DataFrame) -> None:
    """Hour bars from another table: joined by label they leak through availability, joined when closed they do not."""
    bars = scene[:4000]
    hours = resample(bars, "1m", "1h")
    assert "availability" in {leak.check for leak in check(joined(True, hours), bars).leaks}
    assert check(joined(False, hours), bars).leaks == ()


def test_a_warm_up_that_is_too_short_is_caught(scene: pl.DataFrame) -> None:
    """An average of 20 bars that claims 5, and a sum since the beginning, depend on where the data begins."""
    short = dataclasses.replace(
        subject("short", lambda bars: CLOSE.ewm_mean(span=20, adjust=False)), warm_up=5, converges=True
    )
    endless = dataclasses.replace(
        subject("endless", lambda bars: pl.col("volume").cum_sum()), warm_up=100, converges=True
    )
    for item in (short, endless):
        assert {leak.check for leak in check(item, scene[:4000]).leaks} == {"warm_up"}


def test_the_error_names_feature_bar_and_both_values(scene: pl.DataFrame) -> None:
    """A leak stops the run with what a person needs: column, bar, the value seen and the honest one."""
    with pytest.raises(
        LookAheadError, match=r"next_return at bar 2024-03-0\d \d\d:\d\d is .+, but .+ with the bars after"
    ):
        prove(LEAKS[0], scene[:4000])


def test_the_reported_values_are_the_computed_ones(scene: pl.DataFrame) -> None:
    """The bar and the value of a leak can be looked up in the computation's own result."""
    bars = scene[:4000]
    leak = next(item for item in check(LEAKS[0], bars).leaks if item.check == "prefix")
    row = bars.select(pl.col("timestamp").index_of(leak.timestamp)).item()
    assert leak.value == bars["close"][row + 1] / bars["close"][row] - 1
    assert np.isnan(leak.honest)
    assert leak.known_until == leak.timestamp


def test_the_same_seed_gives_the_same_proof(scene: pl.DataFrame) -> None:
    """Cuts and changes are drawn from the seed: a finding can be repeated."""
    first, second = (check(LEAKS[5], scene[:3000], seed=3).leaks for _ in range(2))
    assert list(map(str, first)) == list(map(str, second))


def test_too_few_bars_prove_nothing(scene: pl.DataFrame) -> None:
    """Less data than twice the warm-up is refused instead of passing unproven."""
    with pytest.raises(InputError, match="expected at least 638 bars, found 300"):
        check(dataclasses.replace(feature_subject("hurst_240", "1m")), scene[:300])


def test_rows_that_are_not_the_bars_are_refused(scene: pl.DataFrame) -> None:
    """A computation that drops rows cannot be compared bar by bar, and says so."""
    dropping = Subject("dropping", lambda bars: bars.select("timestamp", "close").drop_nulls()[1:], 0)
    with pytest.raises(InputError, match="expected one row a bar"):
        check(dropping, scene[:1000])


def test_a_proof_is_looked_up_until_code_or_data_change(
    tmp_path: Path, scene: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run is a look-up; other bars, other code of the subject or of the room prove anew."""
    lake, code, item = Lake(tmp_path / "lake"), tmp_path / "strategy.py", feature_subject("return_1", "1m")
    code.write_text("first")

    def looked_up(bars: pl.DataFrame) -> bool:
        return prove_once(lake, item, bars, code=[code]).cached

    assert [looked_up(scene[:1000]), looked_up(scene[:1000]), looked_up(scene[:1001])] == [False, True, False]
    code.write_text("second")
    assert [looked_up(scene[:1000]), looked_up(scene[:1000])] == [False, True]
    monkeypatch.setattr(proofs, "features_code", lambda: "other")
    assert not looked_up(scene[:1000])


def test_a_leak_is_never_cached(tmp_path: Path, scene: pl.DataFrame) -> None:
    """A leaking subject raises every time."""
    for _ in range(2):
        with pytest.raises(LookAheadError):
            prove_once(Lake(tmp_path), LEAKS[0], scene[:1000])


def test_features_are_proven_together(tmp_path: Path, scene: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call proves what a sweep uses; a leak among them stops it and is named."""
    lake = Lake(tmp_path)
    assert [proof.cached for proof in prove_features(lake, scene[:2000], ["mean_20", "atr_14"], "1m")] == [False, False]
    leaking = dataclasses.replace(FEATURES["return_1"], expression=CLOSE.shift(-1) / CLOSE - 1)
    monkeypatch.setitem(FEATURES, "return_1", leaking)
    with pytest.raises(LookAheadError, match="return_1 at bar"):
        prove_features(lake, scene[:2001], ["mean_20", "return_1"], "1m")


def test_exchange_sessions_raise_no_alarm(scene: pl.DataFrame) -> None:
    """Nights and weekends without bars are no reason for an alarm."""
    hour, weekday = pl.col("timestamp").dt.hour(), pl.col("timestamp").dt.weekday()
    sessions = scene.filter(hour.is_between(8, 15), weekday <= 5)
    for name in ("yang_zhang_20", "volume_seasonality_5d", "zscore_20@15m"):
        assert check(feature_subject(name, "1m"), sessions).leaks == ()
    assert sessions["timestamp"].diff().max() > timedelta(days=2)
