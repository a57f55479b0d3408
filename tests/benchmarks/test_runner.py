"""The runner that every benchmark and proof prints its table with."""

from __future__ import annotations

import pytest

from benchmarks.runner import Table, compare


def test_sides_are_measured_in_turn() -> None:
    """A comparison runs A B A B, warm-up pairs first, so that both sides meet the same machine."""
    calls: list[str] = []
    compare(lambda: calls.append("a"), lambda: calls.append("b"), repeats=2, warm_up=1)
    assert calls == ["a", "b"] * 3


def test_the_ratio_is_the_median_of_the_pairs() -> None:
    """One disturbed pair moves the spread, never the verdict."""
    ours, theirs = iter([1.0, 1.0, 10.0]), iter([5.0, 6.0, 5.0])
    found = compare(lambda: next(ours), lambda: next(theirs), repeats=3, warm_up=0)
    assert found.ratio == 5.0
    assert found.spread == (0.5, 6.0)


@pytest.mark.parametrize(("value", "code"), [(0.98, 0), (0.96, 1)])
def test_a_missed_bar_ends_the_script_with_1(value: float, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A script says MISSED and exits 1 where a figure does not reach its bar, 0 where every one does."""
    table = Table("rates")
    table.figure("requests used", value, at_least=0.97)
    table.figure("answers 429", 0, at_most=0)
    with pytest.raises(SystemExit) as ended:
        table.finish()
    assert ended.value.code == code
    assert ("MISSED" in capsys.readouterr().out) is bool(code)


def test_a_comparison_is_judged_by_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """The table shows the ratio beside its bar and both sides' rates."""
    table = Table("speeds")
    table.compare("rows", lambda: 0.1, lambda: 0.3, bar=5, repeats=3, work=100)
    assert table.rows[0].found == "3.0×"
    assert not table.rows[0].passed
    assert "ours 1,000/s, other 333/s" in capsys.readouterr().out
