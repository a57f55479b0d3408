"""Every rule bars must keep, as one table of data: both tiers evaluate these expressions and no others.

A rule looks at one of three things:

- ``row``: a bar. The frame has the columns of `BARS`, `expected` (the calendar has such an open), `as_of` (the moment
  the bars were taken), `timestamp_before` and `close_before` (of the bar before, across the partition's edge too) and,
  where a finer table is at hand, `fine_open` … `fine_volume` resampled out of it.
- ``absence``: an expected open without a bar. Columns `timestamp`, `run` (length of the gap it lies in), `trailing`
  (the gap reaches the end) and `share` (of all expected bars that are absent).
- ``partition``: the profile of the whole partition, see `tasks.quality.profile`.

`reject` means that research refuses the partition; `warn` is shown in the report. What is impossible is rejected; what
is merely rare (a jump, a frozen price) is warned of, because real markets do it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Literal

import polars as pl

from lake.timeline import Interval
from tasks.quality.thresholds import Thresholds

Severity = Literal["reject", "warn"]
Scope = Literal["row", "absence", "partition"]
Flag = Callable[[Thresholds, Interval], pl.Expr]

PRICES = ("open", "high", "low", "close")
FINE = tuple(f"fine_{name}" for name in (*PRICES, "volume"))
_MONDAY_US = int(timedelta(days=4) / timedelta(microseconds=1))


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that bars must keep.

    Attributes:
        name: Its name in verdicts, quarantine and Data Docs.
        severity: What breaking it does to the partition.
        scope: What `flag` is evaluated over.
        meaning: What is wrong with what it finds, as a sentence for a person.
        flag: The expression that is true where the rule is broken (null counts as kept).
        clock_only: It looks at nothing but timestamps and cannot break where they equal the expected opens.
    """

    name: str
    severity: Severity
    scope: Scope
    meaning: str
    flag: Flag
    clock_only: bool = False


def _any(expressions: Sequence[pl.Expr]) -> pl.Expr:
    return pl.any_horizontal(expressions)


def _null_value(_: Thresholds, __: Interval) -> pl.Expr:
    # `sight` has turned every NaN into a null
    return _any([pl.col(name).is_null() for name in ("timestamp", *PRICES, "volume")])


def _infinite(_: Thresholds, __: Interval) -> pl.Expr:
    return _any([pl.col(name).is_infinite() for name in (*PRICES, "volume", "quote_volume")])


def _bad_price(limits: Thresholds, _: Interval) -> pl.Expr:
    if limits.min_price is None:
        return pl.lit(False)
    return _any([pl.col(name) <= limits.min_price for name in PRICES])


def _negative_volume(_: Thresholds, __: Interval) -> pl.Expr:
    return (pl.col("volume") < 0) | (pl.col("quote_volume") < 0).fill_null(False)


def _price_order(limits: Thresholds, _: Interval) -> pl.Expr:
    slack = pl.col("high").abs() * limits.price_tolerance
    above = [pl.col(name) > pl.col("high") + slack for name in ("open", "low", "close")]
    below = [pl.col(name) < pl.col("low") - slack for name in ("open", "close")]
    return _any([*above, *below])


def _duplicated(_: Thresholds, __: Interval) -> pl.Expr:
    return pl.col("timestamp").is_duplicated()


def _out_of_order(_: Thresholds, __: Interval) -> pl.Expr:
    return pl.col("timestamp") < pl.col("timestamp").shift(1)


def _off_grid(_: Thresholds, interval: Interval) -> pl.Expr:
    if interval.step is None:
        return pl.col("timestamp") != pl.col("timestamp").dt.truncate("1mo")
    step = interval.step // timedelta(microseconds=1)
    origin = _MONDAY_US if interval.name == "1w" else 0
    return (pl.col("timestamp").to_physical() - origin) % step != 0


def _outside_session(limits: Thresholds, interval: Interval) -> pl.Expr:
    return ~pl.col("expected") & ~_off_grid(limits, interval)


def _future(_: Thresholds, __: Interval) -> pl.Expr:
    return pl.col("timestamp") >= pl.col("as_of")


def _forming(limits: Thresholds, interval: Interval) -> pl.Expr:
    closes = pl.col("timestamp").dt.offset_by(interval.name)
    if interval.step is not None:
        closes = pl.col("timestamp") + interval.step
    return ~_future(limits, interval) & (closes > pl.col("as_of"))


def _away(value: pl.Expr, anchor: pl.Expr, move: pl.Expr | float) -> tuple[pl.Expr, pl.Expr]:
    """Return whether `value` lies above, and below, `anchor` by more than the fraction `move`; both positive."""
    positive = (value > 0) & (anchor > 0)
    return positive & (value > anchor * (1 + move)), positive & (value * (1 + move) < anchor)


def _jump(limits: Thresholds, interval: Interval) -> pl.Expr:
    step = interval.step or timedelta(days=31)
    after_break = pl.col("timestamp") - pl.col("timestamp_before") > step
    move = pl.when(after_break).then(limits.max_jump_after_break).otherwise(limits.max_jump)
    up, down = _away(pl.col("open"), pl.col("close_before"), move)
    return up | down


def _spike(limits: Thresholds, _: Interval) -> pl.Expr:
    before = _away(pl.col("close"), pl.coalesce("close_before", "open"), limits.max_spike)
    after = _away(pl.col("close"), pl.col("open").shift(-1), limits.max_spike)
    return (before[0] & after[0]) | (before[1] & after[1])


def _wick(limits: Thresholds, _: Interval) -> pl.Expr:
    above, _below = _away(pl.col("high"), pl.max_horizontal("open", "close"), limits.max_wick)
    _above, below = _away(pl.col("low"), pl.min_horizontal("open", "close"), limits.max_wick)
    return above | below


def _in_a_row(condition: pl.Expr, bars: int) -> pl.Expr:
    """Return true from the `bars`-th bar on of a run in which `condition` holds."""
    return condition.fill_null(False).cast(pl.Int32).rolling_sum(bars) >= bars


def _repeated_bar(limits: Thresholds, _: Interval) -> pl.Expr:
    same = [pl.col(name) == pl.col(name).shift(1) for name in (*PRICES, "volume")]
    # n equal bars are n - 1 equalities
    return _in_a_row(pl.all_horizontal(same) & (pl.col("volume") > 0), limits.max_repeated_bars - 1)


def _frozen_price(limits: Thresholds, _: Interval) -> pl.Expr:
    same = (pl.col("close") == pl.col("close").shift(1)) & (pl.col("volume") > 0)
    return _in_a_row(same, limits.max_frozen_bars - 1)


def _zero_volume_run(limits: Thresholds, _: Interval) -> pl.Expr:
    return _in_a_row(pl.col("volume") == 0, limits.max_zero_volume_bars)


def _quote_volume(limits: Thresholds, _: Interval) -> pl.Expr:
    slack = limits.quote_volume_tolerance
    if slack is None:
        return pl.lit(False)
    paid, traded = pl.col("quote_volume"), pl.col("volume")
    low, high = pl.col("low") * traded * (1 - slack), pl.col("high") * traded * (1 + slack)
    return (traded > 0) & ((paid < low) | (paid > high))


def _resample(limits: Thresholds, _: Interval) -> pl.Expr:
    def differs(name: str, tolerance: float) -> pl.Expr:
        return (pl.col(f"fine_{name}") - pl.col(name)).abs() > pl.col(name).abs() * tolerance

    volume = differs("volume", limits.resample_volume_tolerance)
    return _any([*(differs(name, limits.resample_tolerance) for name in PRICES), volume])


def _empty(_: Thresholds, __: Interval) -> pl.Expr:
    return (pl.col("rows") == 0) & (pl.col("expected_rows") > 0)


def _nothing_expected(_: Thresholds, __: Interval) -> pl.Expr:
    return (pl.col("rows") == 0) & (pl.col("expected_rows") == 0)


def _outlier(limits: Thresholds, _: Interval) -> pl.Expr:
    return pl.col("outlier_score").abs() > limits.max_outlier_score


RULES: tuple[Rule, ...] = (
    Rule("empty", "reject", "partition", "bars were expected and there is none", _empty),
    Rule("missing", "reject", "absence", "more expected bars are absent than the market allows",
         lambda limits, _: pl.col("share") > limits.max_missing_fraction),
    Rule("gap", "reject", "absence", "expected bars are absent in a longer run than the market allows",
         lambda limits, _: pl.col("run") > limits.max_gap_bars),
    Rule("duplicated", "reject", "row", "several bars have this open", _duplicated, clock_only=True),
    Rule("out_of_order", "reject", "row", "the bar before it in the table is later", _out_of_order, clock_only=True),
    Rule("off_grid", "reject", "row", "no bar of this interval opens at this time", _off_grid, clock_only=True),
    Rule("future", "reject", "row", "the bar opens after the moment it was taken", _future),
    Rule("forming", "reject", "row", "the bar had not closed when it was taken", _forming),
    Rule("null_value", "reject", "row", "a value is null or not a number", _null_value),
    Rule("infinite", "reject", "row", "a value is infinite", _infinite),
    Rule("bad_price", "reject", "row", "a price is zero or negative", _bad_price),
    Rule("negative_volume", "reject", "row", "a volume is negative", _negative_volume),
    Rule("price_order", "reject", "row", "open, low or close lies outside [low, high]", _price_order),
    Rule("repeated_bar", "reject", "row", "the same bar, volume and all, comes again and again", _repeated_bar),
    Rule("resample_mismatch", "reject", "row", "the bar differs from the finer bars it is made of", _resample),
    Rule("stale", "warn", "absence", "the bars end before the partition does",
         lambda limits, _: pl.col("trailing") & (pl.col("run") > limits.max_stale_bars)),
    Rule("outside_session", "warn", "row", "the calendar has no session at this time", _outside_session,
         clock_only=True),
    Rule("jump", "warn", "row", "the open lies far from the close before it", _jump),
    Rule("spike", "warn", "row", "the close leaves the bars on both sides and comes back", _spike),
    Rule("wick", "warn", "row", "the high or low lies far from both open and close", _wick),
    Rule("frozen_price", "warn", "row", "the close does not change although there is volume", _frozen_price),
    Rule("zero_volume_run", "warn", "row", "nothing has been traded for long", _zero_volume_run),
    Rule("quote_volume_mismatch", "warn", "row", "quote_volume / volume lies outside [low, high]", _quote_volume),
    Rule("cross_symbol_outlier", "warn", "partition", "its volatility changed as that of no other symbol", _outlier),
    Rule("nothing_expected", "warn", "partition", "no bar was expected and there is none", _nothing_expected),
)  # fmt: skip

BY_NAME: dict[str, Rule] = {rule.name: rule for rule in RULES}


def rules_of(scope: Scope) -> tuple[Rule, ...]:
    """Return the rules that look at rows, at absences or at the partition, in the table's order."""
    return tuple(rule for rule in RULES if rule.scope == scope)


@lru_cache(maxsize=64)
def flags(scope: Scope, thresholds: Thresholds, interval: Interval) -> Mapping[str, pl.Expr]:
    """Return, by rule name, expressions that are true where a rule of that scope is broken, never null."""
    return {rule.name: rule.flag(thresholds, interval).fill_null(False) for rule in rules_of(scope)}
