"""The spelling of figures."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.report.words import MINUS, MISSING, duration, moment, number, percent, ratio, spell, word


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("total_return", 0.1234, "12.34 %"),
        ("total_return", -0.1234, f"{MINUS}12.34 %"),
        ("total_return", -0.00001, "0.00 %"),
        ("oos_total_return", 12.0, "1,200.00 %"),
        ("sharpe", math.nan, MISSING),
        ("sharpe", None, MISSING),
        ("sharpe", math.inf, MISSING),
        ("trades", 53028.0, "53,028"),
        ("entry_price", 0.00001234, "1.234e-05"),
        ("entry_price", 41234.5, "41,234.50"),
        ("stop", True, "yes"),
        ("deflated_sharpe_probability", 0.98765, "98.8 %"),
        ("deflated_sharpe_probability", 0.99999, "> 99.9 %"),
        ("probabilistic_sharpe", 0.0, "< 0.1 %"),
        ("probabilistic_sharpe", math.nan, MISSING),
        ("side", "long", "long"),
    ],
)
def test_every_kind_of_figure_has_one_spelling(name: str, value: object, text: str) -> None:
    """A figure's kind decides its spelling; nothing that is no number looks like one."""
    assert spell(name, value) == text


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(days=34), "34 d"),
        (timedelta(hours=4, minutes=37, seconds=30), "4 h 37 min"),
        (timedelta(days=1, minutes=5), "1 d"),
        (timedelta(0), "0 s"),
        (None, MISSING),
    ],
)
def test_a_length_of_time_has_its_two_largest_units(length: timedelta | None, text: str) -> None:
    """Nobody reads seconds beside days."""
    assert duration(length) == text


def test_prefixed_figures_say_their_sample() -> None:
    """The same figure in and out of sample never shares a title."""
    assert word("is_win_rate").title == "In-sample win rate"
    assert word("oos_win_rate").title == "Out-of-sample win rate"
    assert word("oos_win_rate").meaning == word("win_rate").meaning


def test_an_unknown_figure_still_reads_well() -> None:
    """A figure that the report has never heard of gets a readable title and a plain number."""
    assert word("tail_risk_99").title == "Tail risk 99"
    assert spell("tail_risk_99", 0.123456789) == "0.123457"


def test_midnight_is_a_day() -> None:
    """Daily bars show no useless hours."""
    assert moment(datetime(2022, 1, 2, tzinfo=UTC)) == "2022-01-02"
    assert moment(datetime(2022, 1, 2, 3, 4, tzinfo=UTC)) == "2022-01-02 03:04"


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_float_breaks_a_spelling(value: float) -> None:
    """Any float at all has a spelling, and never one with an ASCII minus in front or of a negative zero."""
    for spelled in (percent(value), ratio(value), number(value)):
        assert spelled
        assert not spelled.startswith("-")
        if spelled.startswith(MINUS):
            assert any(digit in spelled for digit in "123456789")
