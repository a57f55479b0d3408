"""The words of the report: each figure's title, its meaning and how its number is spelled.

This is the only place of the platform where a fraction becomes a per cent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

MISSING = "n/a"
MINUS = "−"


@dataclass(frozen=True, slots=True)
class Word:
    """How the report speaks of one figure.

    Attributes:
        title: What it is called in a table head.
        kind: ``percent`` (a fraction, shown × 100), ``probability`` (the same, never rounded to certainty), ``ratio``
            (two decimals), ``count``, ``money`` or ``text``.
        meaning: One sentence for the reader who hovers over it.
    """

    title: str
    kind: str
    meaning: str


WORDS: dict[str, Word] = {
    "total_return": Word("Total return", "percent", "Growth of the account over the span, after fees and slippage."),
    "sharpe": Word(
        "Sharpe",
        "ratio",
        "Mean return of a bar over its standard deviation, annualised; n/a where nothing was held, or all was lost.",
    ),
    "max_drawdown": Word("Max drawdown", "percent", "Deepest fall of the account below its highest point so far."),
    "annual_return": Word("Annual return", "percent", "The growth a year that compounds to the total return."),
    "sortino": Word("Sortino", "ratio", "Mean return over the deviation of losing bars alone, annualised."),
    "mean_trade_return": Word("Average trade", "percent", "Mean return of a trade after fees."),
    "return": Word("Return", "percent", "Profit or loss over the value at entry, after fees."),
    "pnl": Word("Profit", "money", "Profit or loss in the quote asset, after fees."),
    "entry_timestamp": Word("Entry", "text", ""),
    "exit_timestamp": Word("Exit", "text", ""),
    "trades": Word("Trades", "count", "Number of round trips; below thirty, no average means much."),
    "win_rate": Word("Win rate", "percent", "Share of closed trades that made money after fees."),
    "exposure": Word("Exposure", "percent", "Share of the bars with a position open."),
    "turnover": Word("Turnover", "ratio", "Value traded over the span, in multiples of the account."),
    "volatility": Word("Volatility", "percent", "Standard deviation of a bar's return, annualised."),
    "slippage_paid": Word(
        "Slippage", "money", "What fills were worse than the price they were meant at, in the quote asset."
    ),
    "orders": Word("Orders", "count", "Orders filled."),
    "orders_skipped": Word(
        "Skipped", "count", "Decisions on a member wanted or held that met no bar to be filled on: it was not traded."
    ),
    "effective_members": Word(
        "Effective members", "ratio", "One over the sum of squared weights, on average: how many equal bets it is."
    ),
    "lead": Word("Lead", "ratio", "Sharpe less that of equal weight."),
    "lead_lost": Word(
        "Lead lost",
        "percent",
        "Share of resampled histories (both curves together, in blocks) in which the Sharpe is no higher than that of "
        "equal weight: luck's share in the lead.",
    ),
    "fees": Word("Fees", "money", "Commission paid over the span, in the quote asset."),
    "benchmark_return": Word(
        "Buy and hold", "percent", "Return of holding the symbol over the same bars, at the same costs."
    ),
    "benchmark_sharpe": Word("Buy-and-hold Sharpe", "ratio", "Sharpe of holding the symbol over the same bars."),
    "benchmark_max_drawdown": Word(
        "Buy-and-hold drawdown", "percent", "Deepest fall of the price below its highest point so far."
    ),
    "profit_factor": Word("Profit factor", "ratio", "Money won by winning trades over money lost by losing ones."),
    "bars": Word("Bars", "count", "Bars the run had."),
    "expected_bars": Word("Expected bars", "count", "Bars that the calendar promises between the first and the last."),
    "missing_bars": Word("Missing bars", "count", "Expected bars that are not there."),
    "missing_vendor_empty": Word("Missing: vendor has none", "count", "The vendor answered, each time without them."),
    "missing_before_listing": Word("Missing: before listing", "count", "The symbol did not trade yet."),
    "missing_beyond_history": Word("Missing: beyond history", "count", "The vendor's plan reaches less far back."),
    "missing_to_retry": Word("Missing: to retry", "count", "Asked for in vain so far; a backfill asks again."),
    "missing_not_fetched": Word("Missing: not fetched", "count", "Never asked for; a backfill would ask."),
    "missing_fetched_since": Word(
        "Missing: fetched since", "count", "In the lake by now, but not when the run read it."
    ),
    "trades_near_a_gap": Word(
        "Trades near a gap", "count", "Out-of-sample trades that opened or closed within ten bars of a missing bar."
    ),
    "profit_near_a_gap": Word("Their profit", "money", "What the trades near a gap made together, in the quote asset."),
    "return_near_a_gap": Word(
        "Return near gaps",
        "percent",
        "What the out-of-sample bars within ten bars of a missing one made together; what happened inside the gaps "
        "themselves counts for nothing.",
    ),
    "share_near_a_gap": Word(
        "Its share of the total",
        "percent",
        "How much of the out-of-sample return those bars made: below zero where they went against it, above "
        "100 % where all others did. Returns compound, so that shares are of their logarithms and add up to 100 %.",
    ),
    "longest_gap_bars": Word("Longest gap, bars", "count", "Most expected bars missing in a row."),
    "rows": Word("Rows", "count", ""),
    "expected_rows": Word("Expected rows", "count", ""),
    "missing_rows": Word("Missing rows", "count", ""),
    "window": Word("Window", "count", "Walk-forward window, counted from 0."),
    "n_trials": Word(
        "Trials", "count", "Parameter sets ever tried on these data with this strategy; luck grows with their number."
    ),
    "trials": Word(
        "Trials", "count", "Parameter sets ever tried on these data with this strategy; luck grows with their number."
    ),
    "is_sharpe": Word("In-sample Sharpe", "ratio", "Sharpe where the parameters were chosen; always flattering."),
    "oos_sharpe": Word("Out-of-sample Sharpe", "ratio", "Sharpe on bars the choice of parameters never saw."),
    "in_sample_sharpe": Word("In-sample Sharpe", "ratio", "Sharpe where the parameters were chosen; it flatters."),
    "out_of_sample_sharpe": Word("Out-of-sample Sharpe", "ratio", "Sharpe on bars the choice never saw."),
    "out_of_sample_bars": Word("Out-of-sample bars", "count", "Length of the walk-forward's test parts together."),
    "trial_sharpe_deviation": Word(
        "Spread of trial Sharpes",
        "ratio",
        "Standard deviation of the trials' in-sample Sharpes; the wider, the luckier.",
    ),
    "expected_maximum_sharpe": Word(
        "Sharpe expected by luck",
        "ratio",
        "What the best of as many worthless trials would show in sample, on average.",
    ),
    "probabilistic_sharpe": Word(
        "Probabilistic Sharpe",
        "probability",
        "Probability that the true out-of-sample Sharpe is above zero, given length, skew and tails of the returns "
        "(Bailey and López de Prado, 2012).",
    ),
    "deflated_sharpe_probability": Word(
        "Deflated Sharpe",
        "probability",
        "Probability that the winner's true Sharpe beats what the best of as many worthless trials would have shown "
        "(Bailey and López de Prado, 2014).",
    ),
    "minimum_track_record_bars": Word(
        "Track record needed",
        "count",
        "Bars out of sample needed to tell this Sharpe from zero with 95 % confidence; n/a where it is not above zero.",
    ),
    "combinatorial_sharpe": Word(
        "Cross-validated Sharpe",
        "ratio",
        "Median Sharpe on held-out parts of the sample of the set that was best on all others, over every way to hold "
        "out (combinatorial purged cross-validation, López de Prado, 2018).",
    ),
    "combinatorial_share_positive": Word(
        "Cross-validated gains",
        "percent",
        "Share of those ways to hold out in which the chosen set has a Sharpe above zero on the held-out parts.",
    ),
    "random_entry_rank": Word(
        "Beats random entries",
        "percent",
        "Share of random placements of the same trades, with the same lengths and costs, that these trades beat.",
    ),
    "plateau_score": Word(
        "Plateau score",
        "ratio",
        "Median Sharpe of the winner's neighbours over its own: near 1 on a plateau, low on a lonely peak.",
    ),
    "factor": Word("Times the costs", "text", "1 is the run's own fees and slippage."),
    "overfitting_probability": Word(
        "Overfitting probability",
        "percent",
        "How often the best set of one half of the sample was no better than the median set on the other, over all "
        "symmetric splits (CSCV; Bailey, Borwein, López de Prado and Zhu, 2015).",
    ),
}


def word(name: str) -> Word:
    """Return how to speak of `name`; an unknown figure gets a readable title and no meaning.

    The prefixes ``is_`` and ``oos_`` are taken off first and come back in the title.
    """
    if name in WORDS:
        return WORDS[name]
    for prefix, place in (("is_", "In-sample"), ("oos_", "Out-of-sample")):
        base = WORDS.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if base is not None:
            return Word(f"{place} {base.title.lower()}", base.kind, base.meaning)
    return Word(name.replace("_", " ").capitalize(), "text", "")


def percent(value: float | None, digits: int = 2) -> str:
    """Spell a fraction as a per cent: ``0.1234`` is ``12.34 %``; what is not finite is ``n/a``."""
    return _signed(None if value is None else value * 100, f",.{digits}f", " %")


def probability(value: float | None) -> str:
    """Spell a probability as a per cent; what is not quite certain is never rounded to certainty."""
    if value is not None and value > 0.999:
        return "> 99.9 %"
    return "< 0.1 %" if value is not None and value < 0.001 else percent(value, 1)


def ratio(value: float | None, digits: int = 2) -> str:
    """Spell a ratio with fixed decimals."""
    return _signed(value, f",.{digits}f")


def count(value: float | None) -> str:
    """Spell a whole number with thousands separators."""
    return _signed(value, ",.0f")


def number(value: float | None) -> str:
    """Spell a price, quantity or unknown figure with about six significant digits."""
    return _signed(value, ",.2f" if value is not None and abs(value) >= 1_000 else ".6g")


def money(value: float | None) -> str:
    """Spell an amount in the quote asset: cents from one unit on, significant digits below it."""
    return _signed(value, ",.2f" if value is not None and abs(value) >= 1 else ".3g")


def _signed(value: float | None, form: str, unit: str = "") -> str:
    """Spell a number with a typographic minus, and never a negative zero."""
    if value is None or not math.isfinite(value):
        return MISSING
    digits = format(abs(value), form)
    return f"{MINUS if value < 0 and any(digit in digits for digit in '123456789') else ''}{digits}{unit}"


_KINDS = {"percent": percent, "probability": probability, "ratio": ratio, "count": count, "money": money}


def spell(name: str, value: object) -> str:
    """Spell any figure by the kind its name has; text stays as it is."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, (int, float)):
        return _KINDS.get(word(name).kind, number)(value)
    return str(value)


def moment(value: datetime | None) -> str:
    """Spell a timestamp in UTC to the minute; midnight is the day alone."""
    if value is None:
        return MISSING
    return f"{value:%Y-%m-%d}" if (value.hour, value.minute, value.second) == (0, 0, 0) else f"{value:%Y-%m-%d %H:%M}"


def duration(value: timedelta | None) -> str:
    """Spell a length of time in its two largest units: ``3 d 4 h``, ``4 h 37 min``, ``45 s``."""
    if value is None:
        return MISSING
    left, found = int(value.total_seconds()), []
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, seconds)
        if amount:
            found.append(f"{amount:,} {unit}")
        elif found:
            break
    return " ".join(found[:2]) or "0 s"
