"""One sentence at the top: what survives and why, or that nothing does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.sweep.metrics import is_lost
from tasks.sweep.statistics import (
    Moments,
    deflated_sharpe,
    expected_maximum_sharpe,
    minimum_track_record,
    moments,
    probabilistic_sharpe,
)

#: A strategy survives where luck explains it with less than 5 %.
CONFIDENCE = 0.95
#: Where the best of one half of the sample is a coin toss in the other, choosing has no value.
MAXIMUM_OVERFITTING = 0.5
#: Fewer out-of-sample trades than this prove nothing either way.
MINIMUM_TRADES = 10


@dataclass(frozen=True)
class Verdict:
    """The judgement of one sweep.

    Attributes:
        sentence: In words.
        passed: Whether the strategy survives every test.
        details: Every number behind it, by name.
    """

    sentence: str
    passed: bool
    details: dict[str, float | str]


def judge(
    in_sample: np.ndarray,
    out_of_sample: np.ndarray,
    trial_sharpes: np.ndarray,
    *,
    trades: int,
    total_return: float,
    benchmark_return: float,
    periods_per_year: float,
    overfitting: float = math.nan,
    further: Mapping[str, float] | None = None,
) -> Verdict:
    """Judge the winner: is it more than the best of so many trials, and does it hold where it was not chosen?

    Args:
        in_sample: Returns a bar of the winner on the span it was chosen on.
        out_of_sample: Returns a bar of the walk-forward.
        trial_sharpes: Per-period Sharpe ratio of every trial ever made on this data and strategy, NaN where none.
        trades: Out-of-sample trades.
        total_return: Out of sample.
        benchmark_return: Buy and hold over the same bars.
        periods_per_year: To show ratios annualised.
        overfitting: Probability of backtest overfitting, NaN where it could not be estimated (then it does not judge).
        further: More figures for the details, which do not judge.
    """
    inside, outside = _moments(in_sample), _moments(out_of_sample)
    # Skill-less ratios spread by 1/bars. What spreads wider differs for other reasons than luck (costs, mostly), and
    # would only make the bar so high that nothing ever passes; docs/verdict.md.
    known = trial_sharpes[np.isfinite(trial_sharpes)]
    spread = float(known.var(ddof=1)) if len(known) > 1 else 0.0
    variance = min(spread, 1 / max(inside.count - 1, 1))
    yearly = math.sqrt(periods_per_year)
    details: dict[str, float | str] = {
        "trials": float(len(trial_sharpes)),
        "trial_sharpe_deviation": math.sqrt(variance) * yearly,
        "expected_maximum_sharpe": expected_maximum_sharpe(len(trial_sharpes), variance) * yearly,
        "in_sample_sharpe": inside.sharpe * yearly,
        "deflated_sharpe_probability": deflated_sharpe(inside, len(trial_sharpes), variance),
        "out_of_sample_sharpe": outside.sharpe * yearly,
        "probabilistic_sharpe": probabilistic_sharpe(outside),
        "minimum_track_record_bars": minimum_track_record(outside),
        "out_of_sample_bars": float(outside.count),
        "trades": float(trades),
        "total_return": total_return,
        "benchmark_return": benchmark_return,
        "overfitting_probability": overfitting,
        **(further or {}),
    }
    failures = [
        f"the whole account was lost {where}"
        for where, returns in (("in sample", in_sample), ("out of sample", out_of_sample))
        if is_lost(returns)
    ] or _failures(inside, outside, details, trades)
    return Verdict(_sentence(failures, details), not failures, details)


def _moments(returns: np.ndarray) -> Moments:
    """Return the moments, undefined where the account was lost."""
    return Moments(len(returns), math.nan, math.nan, math.nan) if is_lost(returns) else moments(returns)


def _failures(inside: Moments, outside: Moments, details: dict, trades: int) -> list[str]:
    """Return what speaks against the strategy, the heaviest first."""
    found = []
    if math.isnan(inside.sharpe) or math.isnan(outside.sharpe) or trades < MINIMUM_TRADES:
        found.append(f"{trades} trades out of sample are too few to tell (expected {MINIMUM_TRADES})")
    elif outside.sharpe <= 0:
        found.append(f"it loses out of sample (Sharpe {_ratio(details['out_of_sample_sharpe'])})")
    elif not details["probabilistic_sharpe"] >= CONFIDENCE:
        found.append(
            f"an out-of-sample Sharpe of {_ratio(details['out_of_sample_sharpe'])} over {outside.count:,} bars would "
            f"need {details['minimum_track_record_bars']:,.0f} bars to be told from zero"
        )
    if not details["deflated_sharpe_probability"] >= CONFIDENCE and not math.isnan(inside.sharpe):
        found.append(
            f"the best of {details['trials']:,.0f} trials by luck alone would show a Sharpe of "
            f"{_ratio(details['expected_maximum_sharpe'])} in sample; the winner's "
            f"{_ratio(details['in_sample_sharpe'])} is more than that with "
            f"{_percent(details['deflated_sharpe_probability'])} confidence (expected {_percent(CONFIDENCE)})"
        )
    if details["overfitting_probability"] > MAXIMUM_OVERFITTING:
        found.append(
            f"in {_percent(details['overfitting_probability'])} of all splits of the sample the best of one half is "
            f"no better than the median in the other"
        )
    return found


def _sentence(failures: list[str], details: dict) -> str:
    if failures:
        return f"Nothing survives: {'; and '.join(failures)}."
    against = "more" if details["total_return"] > details["benchmark_return"] else "less"
    return (
        f"The winner survives: a Sharpe of {_ratio(details['out_of_sample_sharpe'])} out of sample, over "
        f"{details['trades']:,.0f} trades, is above zero with {_percent(details['probabilistic_sharpe'])} confidence, "
        f"in sample it beats the luck of {details['trials']:,.0f} trials with "
        f"{_percent(details['deflated_sharpe_probability'])}, and it earned {against} than buy and hold."
    )


def _ratio(value: float) -> str:
    """Spell a ratio with two decimals and a typographic minus."""
    return f"{value:.2f}".replace("-", "−")


def _percent(share: float) -> str:
    """Spell a probability; what is not quite certain is never rounded to certainty, in either direction."""
    if share > 0.999:
        return "more than 99.9 %"
    return "less than 0.1 %" if share < 0.001 else f"{100 * share:.3g} %"
