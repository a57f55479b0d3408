"""Every rule: its defect is caught by both tiers, and what merely looks like it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lake.timeline import interval
from tasks.quality.partition import judge
from tasks.quality.profile import Check, check_bars
from tasks.quality.rules import BY_NAME, RULES
from tasks.quality.thresholds import Thresholds

START = datetime(2024, 3, 4, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROW = pl.int_range(pl.len())
NAN, INFINITY = float("nan"), float("inf")


@dataclass
class Scene:
    """Bars, what was expected of them, and how they are judged."""

    bars: pl.DataFrame
    expected: pl.Series
    as_of: datetime
    limits: Thresholds = field(default_factory=Thresholds)
    fine: pl.DataFrame | None = None
    outlier_score: float | None = None
    interval: str = "1m"

    def set(self, at: int | range, **values: Any) -> None:
        """Overwrite columns in the rows `at`."""
        rows = ROW.is_in(list(at if isinstance(at, range) else [at]))
        self.bars = self.bars.with_columns(
            pl.when(rows)
            .then(value if isinstance(value, pl.Expr) else pl.lit(value))
            .otherwise(pl.col(name))
            .alias(name)
            for name, value in values.items()
        )

    def scale(self, at: range, factor: float) -> None:
        """Multiply all prices (and the quote volume) in the rows `at`."""
        names = ["open", "high", "low", "close", "quote_volume"]
        self.set(at, **{name: pl.col(name) * factor for name in names})

    def drop(self, at: range) -> None:
        """Remove the rows `at`."""
        self.bars = self.bars.filter(~ROW.is_in(list(at)))

    def check(self, judged_by: Callable[..., Check]) -> Check:
        """Judge the scene."""
        return judged_by(
            self.bars,
            interval=interval(self.interval),
            expected=self.expected,
            as_of=self.as_of,
            thresholds=self.limits,
            fine=self.fine,
            outlier_score=self.outlier_score,
        )


@pytest.fixture
def scene(make_bars: Callable[..., pl.DataFrame]) -> Scene:
    """Return 600 sound one-minute bars of a market that never closes, just closed."""
    bars = make_bars()
    return Scene(bars, bars["timestamp"], START + 600 * MINUTE)


def _fine(scene: Scene, **changes: pl.Expr) -> None:
    scene.fine = scene.bars.with_columns(**changes)


def _keep_volume(scene: Scene) -> None:
    scene.bars = scene.bars.with_columns(quote_volume=pl.lit(None, pl.Float64))


def _flat(scene: Scene, at: range, price: float = 100.0, volume: pl.Expr | float = 0.0) -> None:
    """Make bars in which nothing moves; the price goes there and back from the bars around it in small steps."""
    _keep_volume(scene)
    names = ("open", "high", "low", "close")
    scene.set(range(600), **{name: pl.lit(price) for name in names if name in ("open", "close")})
    scene.set(range(600), high=pl.col("open") * 1.001, low=pl.col("open") * 0.999)
    scene.set(range(600), close=pl.col("open") * (1 + 0.0001 * (ROW % 7)))
    scene.set(at, **{name: price for name in names}, volume=volume)


def _defect_empty(s: Scene) -> None:
    s.bars = s.bars.clear()


def _defect_missing(s: Scene) -> None:
    s.drop(range(300, 301))


def _defect_gap(s: Scene) -> None:
    s.limits = Thresholds(max_missing_fraction=0.5, max_gap_bars=5)
    s.drop(range(300, 306))


def _defect_stale(s: Scene) -> None:
    s.limits = Thresholds(max_missing_fraction=0.5, max_gap_bars=100, max_stale_bars=5)
    s.drop(range(594, 600))


def _defect_duplicated(s: Scene) -> None:
    s.bars = pl.concat([s.bars[:300], s.bars[299:]])


def _defect_out_of_order(s: Scene) -> None:
    s.bars = pl.concat([s.bars[:300], s.bars[301:302], s.bars[300:301], s.bars[302:]])


def _defect_off_grid(s: Scene) -> None:
    s.set(300, timestamp=pl.col("timestamp") + timedelta(seconds=7))


def _defect_future(s: Scene) -> None:
    s.as_of = START + 599 * MINUTE


def _defect_forming(s: Scene) -> None:
    s.as_of = START + 599 * MINUTE + timedelta(seconds=20)


def _defect_null_value(s: Scene) -> None:
    s.set(300, close=None)


def _defect_nan_value(s: Scene) -> None:
    s.set(300, volume=NAN)


def _defect_infinite(s: Scene) -> None:
    s.set(300, high=INFINITY)


def _defect_bad_price(s: Scene) -> None:
    s.set(300, low=0.0)


def _defect_negative_volume(s: Scene) -> None:
    s.set(300, volume=-1.0, quote_volume=None)


def _defect_price_order(s: Scene) -> None:
    s.set(300, high=pl.col("low"), low=pl.col("high"))


def _defect_revised(s: Scene) -> None:
    s.set(300, close=pl.col("high") * 1.01)


def _defect_repeated_bar(s: Scene) -> None:
    _flat(s, range(300, 310), volume=12.5)


def _defect_resample_mismatch(s: Scene) -> None:
    _fine(s, high=pl.when(ROW == 300).then(pl.col("high") * 1.001).otherwise("high"))


def _defect_outside_session(s: Scene) -> None:
    s.expected = s.expected.filter(s.expected != START + 300 * MINUTE)


def _defect_jump(s: Scene) -> None:
    s.scale(range(300, 600), 1.2)


def _defect_spike(s: Scene) -> None:
    s.set(300, close=pl.col("open") * 1.3, high=pl.col("open") * 1.3)


def _defect_wick(s: Scene) -> None:
    s.set(300, low=pl.col("open") * 0.5)


def _defect_frozen_price(s: Scene) -> None:
    _flat(s, range(300, 330), volume=1.0 + ROW % 13)


def _defect_zero_volume_run(s: Scene) -> None:
    s.set(range(300, 360), volume=0.0, quote_volume=0.0)


def _defect_quote_volume(s: Scene) -> None:
    s.set(300, quote_volume=pl.col("volume"))


def _defect_outlier(s: Scene) -> None:
    s.outlier_score = 14.0


def _defect_nothing_expected(s: Scene) -> None:
    s.bars, s.expected = s.bars.clear(), s.expected.clear()


DEFECTS: list[tuple[str, Callable[[Scene], None]]] = [
    ("empty", _defect_empty),
    ("missing", _defect_missing),
    ("gap", _defect_gap),
    ("stale", _defect_stale),
    ("duplicated", _defect_duplicated),
    ("out_of_order", _defect_out_of_order),
    ("off_grid", _defect_off_grid),
    ("future", _defect_future),
    ("forming", _defect_forming),
    ("null_value", _defect_null_value),
    ("null_value", _defect_nan_value),
    ("infinite", _defect_infinite),
    ("bad_price", _defect_bad_price),
    ("negative_volume", _defect_negative_volume),
    ("price_order", _defect_price_order),
    ("price_order", _defect_revised),
    ("repeated_bar", _defect_repeated_bar),
    ("resample_mismatch", _defect_resample_mismatch),
    ("outside_session", _defect_outside_session),
    ("jump", _defect_jump),
    ("spike", _defect_spike),
    ("wick", _defect_wick),
    ("frozen_price", _defect_frozen_price),
    ("zero_volume_run", _defect_zero_volume_run),
    ("quote_volume_mismatch", _defect_quote_volume),
    ("cross_symbol_outlier", _defect_outlier),
    ("nothing_expected", _defect_nothing_expected),
]


def _alike_sound(_: Scene) -> None:
    """Nothing is wrong."""


def _alike_not_yet_closed(s: Scene) -> None:
    """The partition reaches into the future: bars that cannot exist yet are not missing."""
    s.drop(range(300, 600))
    s.as_of = START + 300 * MINUTE + timedelta(seconds=30)


def _alike_holiday(s: Scene) -> None:
    """The market was closed for two hours: no bar was expected."""
    s.drop(range(200, 320))
    s.expected = s.bars["timestamp"]


def _alike_thin_market(s: Scene) -> None:
    """Minutes without a trade, where the vendor leaves such bars out and the market's limits say so."""
    s.limits = Thresholds(max_missing_fraction=0.05, max_gap_bars=5, max_stale_bars=5)
    s.bars = s.bars.filter(~ROW.is_in([10, 11, 50, 200, 201, 202, 203, 204, 598, 599]))


def _alike_just_closed(s: Scene) -> None:
    """The last bar closed at this very instant."""
    s.as_of = START + 600 * MINUTE


def _alike_no_quote_volume(s: Scene) -> None:
    """The vendor has no quote volume."""
    _keep_volume(s)


def _alike_quiet_minutes(s: Scene) -> None:
    """Twenty minutes without a trade, filled with the last price."""
    s.set(range(300, 320), open=100.0, high=100.0, low=100.0, close=100.0, volume=0.0, quote_volume=0.0)


def _alike_negative_oil(s: Scene) -> None:
    """Crude oil in April 2020: prices below zero, in a market whose limits allow them."""
    s.limits = Thresholds(min_price=None)
    s.bars = s.bars.with_columns(
        open=pl.col("open") - 100.5,
        high=pl.col("high") - 100.5,
        low=pl.col("low") - 100.5,
        close=pl.col("close") - 100.5,
    )
    s.set(range(600), quote_volume=None)


def _alike_doji(s: Scene) -> None:
    """A single trade made the bar: the four prices are one."""
    s.set(300, high=pl.col("open"), low=pl.col("open"), close=pl.col("open"), quote_volume=None)


def _alike_rounding(s: Scene) -> None:
    """The vendor rounds each price on its own: the high is a hair below the close."""
    s.set(300, high=pl.max_horizontal("open", "close") * (1 - 1e-12), quote_volume=None)


def _alike_flash_crash(s: Scene) -> None:
    """A tenth is lost in four minutes and won back in twenty, trade by trade, with volume."""
    path = [0.98, 0.95, 0.92, 0.90, *(0.90 + 0.005 * n for n in range(20))]
    scale = pl.Series([1.0] * 300 + path + [1.0] * (600 - 300 - len(path)))
    close = s.bars["close"] * scale
    opened = close.shift(1).fill_null(100.0)
    s.bars = s.bars.with_columns(
        open=opened,
        close=close,
        high=pl.max_horizontal(opened, close) * 1.0005,
        low=pl.min_horizontal(opened, close) * 0.9995,
        volume=pl.col("volume") * 30,
        quote_volume=pl.lit(None, pl.Float64),
    )


def _alike_weekend_gap(s: Scene) -> None:
    """The market opens after a weekend a quarter away from Friday's close."""
    s.scale(range(300, 600), 1.25)
    s.bars = s.bars.with_columns(
        timestamp=pl.when(ROW >= 300).then(pl.col("timestamp") + timedelta(hours=49)).otherwise("timestamp")
    )
    s.expected, s.as_of = s.bars["timestamp"], s.as_of + timedelta(hours=49)


def _alike_pegged(s: Scene) -> None:
    """A pegged coin trades at one price for 29 minutes."""
    _flat(s, range(301, 330), volume=1.0 + ROW % 13)


def _alike_same_bar(s: Scene) -> None:
    """Nine equal one-lot bars: a quiet market at one price."""
    _flat(s, range(300, 309), volume=1.0)


def _alike_resampled(s: Scene) -> None:
    """The finer table agrees, and does not have every bar."""
    _fine(s)
    assert s.fine is not None
    s.fine = s.fine[:200]


def _alike_market_wide(s: Scene) -> None:
    """Its volatility doubled, as everyone's did."""
    s.outlier_score = 0.4


LOOK_ALIKES: list[tuple[set[str], Callable[[Scene], None]]] = [
    ({"nothing_expected", "empty", "outside_session", "infinite", "bad_price", "negative_volume"}, _alike_sound),
    ({"missing", "gap", "stale", "future"}, _alike_not_yet_closed),
    ({"missing", "gap", "outside_session", "empty"}, _alike_holiday),
    ({"missing", "gap", "stale"}, _alike_thin_market),
    ({"future", "forming"}, _alike_just_closed),
    ({"null_value", "quote_volume_mismatch", "infinite"}, _alike_no_quote_volume),
    ({"frozen_price", "zero_volume_run", "repeated_bar", "duplicated"}, _alike_quiet_minutes),
    ({"bad_price", "price_order"}, _alike_negative_oil),
    ({"price_order"}, _alike_doji),
    ({"price_order"}, _alike_rounding),
    ({"jump", "spike", "wick"}, _alike_flash_crash),
    ({"jump", "off_grid", "out_of_order", "missing"}, _alike_weekend_gap),
    ({"frozen_price"}, _alike_pegged),
    ({"repeated_bar", "duplicated"}, _alike_same_bar),
    ({"resample_mismatch"}, _alike_resampled),
    ({"cross_symbol_outlier"}, _alike_market_wide),
]


@pytest.mark.parametrize(("rule", "plant"), DEFECTS, ids=[plant.__name__ for _, plant in DEFECTS])
def test_both_tiers_find_the_planted_defect(scene: Scene, rule: str, plant: Callable[[Scene], None]) -> None:
    """A planted defect breaks its rule in the profile and in the full suite, with the rule's own severity."""
    plant(scene)
    by_profile, by_suite = scene.check(check_bars), scene.check(judge)
    assert rule in {finding.rule for finding in by_profile.findings}
    assert by_profile.findings == by_suite.findings
    assert by_profile.status == by_suite.status
    assert by_profile.status == "reject" or BY_NAME[rule].severity == "warn"


def test_the_whole_lake_suite_finds_every_planted_defect(make_bars: Callable[..., pl.DataFrame]) -> None:
    """A table with one profile for each defect: Great Expectations blames each row for its own rule."""
    from tasks.quality.suite import failing_profiles

    bars = make_bars()
    scenes = [Scene(bars, bars["timestamp"], START + 600 * MINUTE) for _ in range(len(DEFECTS) + 1)]
    for planted, (_, plant) in zip(scenes, DEFECTS, strict=False):
        plant(planted)
    failing = failing_profiles(pl.concat(planted.check(check_bars).profile for planted in scenes))
    for found, (rule, _) in zip(failing, DEFECTS, strict=False):
        assert rule in found
    assert failing[-1] == []


@pytest.mark.parametrize(("rules", "plant"), LOOK_ALIKES, ids=[plant.__name__ for _, plant in LOOK_ALIKES])
def test_what_looks_like_a_defect_passes(scene: Scene, rules: set[str], plant: Callable[[Scene], None]) -> None:
    """Real markets do this: both tiers let it pass, without so much as a warning."""
    plant(scene)
    for tier in (check_bars, judge):
        check = scene.check(tier)
        assert check.status == "pass", check.findings
        assert not rules & {finding.rule for finding in check.findings}


def test_every_rule_has_a_defect_and_a_look_alike() -> None:
    """No rule is without a test of either kind."""
    names = {rule.name for rule in RULES}
    assert {rule for rule, _ in DEFECTS} == names
    assert set().union(*(rules for rules, _ in LOOK_ALIKES)) == names


@pytest.mark.parametrize(
    ("plant", "offenders"),
    [
        (_defect_missing, [300]),
        (_defect_duplicated, [299, 299]),
        (_defect_price_order, [300]),
        (_defect_forming, [599]),
        (_defect_zero_volume_run, [359]),
    ],
    ids=["missing", "duplicated", "price_order", "forming", "zero_volume_run"],
)
def test_bad_rows_are_the_offenders_and_no_others(
    scene: Scene, plant: Callable[[Scene], None], offenders: list[int]
) -> None:
    """The bars handed to quarantine are exactly those that break a rule, absent ones as a row of nulls."""
    plant(scene)
    bad = scene.check(check_bars).bad_rows
    assert bad["timestamp"].to_list() == [START + at * MINUTE for at in offenders]


def test_a_switched_off_rule_finds_nothing(scene: Scene) -> None:
    """`quote_volume_tolerance` None switches its rule off in both tiers."""
    _defect_quote_volume(scene)
    scene.limits = Thresholds(quote_volume_tolerance=None)
    assert scene.check(check_bars).status == scene.check(judge).status == "pass"
