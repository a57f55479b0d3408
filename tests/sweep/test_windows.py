"""Walk-forward windows."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.sweep.windows import WindowPlan, plan_windows


@given(
    rows=st.integers(40, 5_000),
    count=st.integers(1, 8),
    scheme=st.sampled_from(["rolling", "anchored"]),
    warm_up=st.integers(0, 3_000),
    embargo=st.integers(0, 3),
)
def test_no_test_bar_is_ever_trained_on_before_it(rows, count, scheme, warm_up, embargo) -> None:
    """Each train part ends before its test; tests are side by side, disjoint, and reach the end."""
    windows = plan_windows(rows, WindowPlan(count=count, scheme=scheme, embargo=embargo), warm_up=warm_up)
    assert windows[-1].test_stop == rows
    for window in windows:
        assert 0 <= window.train_start < window.train_stop
        assert window.train_stop + embargo + min(warm_up, rows // 20) <= window.test_start
    for earlier, later in pairwise(windows):
        assert earlier.test_stop == later.test_start


def test_rolling_keeps_the_length_and_anchored_the_start() -> None:
    """The two schemes differ in where a train part begins."""
    rolling = plan_windows(1_000, WindowPlan(count=4))
    anchored = plan_windows(1_000, WindowPlan(count=4, scheme="anchored"))
    assert [w.train_start for w in rolling] == [0, 125, 250, 375]
    assert [w.train_start for w in anchored] == [0, 0, 0, 0]
    assert [w.test_start for w in rolling] == [w.test_start for w in anchored] == [500, 625, 750, 875]


def test_purge_and_embargo_come_off_the_train_part() -> None:
    """An explicit purge is taken as it is."""
    (window,) = plan_windows(1_000, WindowPlan(count=1, purge=30, embargo=5), warm_up=400)
    assert window.train_stop == 465


def test_too_few_bars_are_refused() -> None:
    """A window nobody could trade in is an error that says what to change."""
    with pytest.raises(InputError, match="fewer windows"):
        plan_windows(10, WindowPlan(count=5))
