"""What a running sweep shows: rows that read well and a picture."""

from __future__ import annotations

import io
import math

import matplotlib.image
import pytest

from tasks.report.standing import standing_png, standing_rows, standing_sentence
from tasks.sweep.standings import Standings

ROW = {"fast": 5, "slow": 20, "total_return": 0.1234, "sharpe": 1.5, "max_drawdown": -0.2, "trades": 40.0}
FOUND = Standings(
    total=12,
    done=4,
    best=(ROW | {"win_rate": 0.5},),
    axes=("slow", "fast"),
    cells={(20.0, 5.0): 1.5, (30.0, 5.0): -0.5, (20.0, 10.0): math.nan},
)


def test_rows_and_sentence_spell_their_figures() -> None:
    """A rank, the parameters as given, figures with their titles, and words that promise nothing."""
    row = standing_rows(FOUND)[0]
    assert (row["Rank"], row["fast"], row["Sharpe"], row["Total return"]) == ("1", "5", "1.50", "12.34 %")
    assert standing_sentence(FOUND) == "4 of 12 combinations; best Sharpe so far 1.50 (in sample, not judged yet)"
    assert standing_sentence(Standings(total=12)) == "0 of 12 combinations (in sample, not judged yet)"


@pytest.mark.parametrize(
    "found", [FOUND, Standings(2, 2, (), ("fast",), {(3.0,): 0.1, (5.0,): math.nan})], ids=["two axes", "one axis"]
)
def test_the_map_is_a_picture_with_colours(found) -> None:
    """One or two axes give a PNG that is not blank."""
    picture = matplotlib.image.imread(io.BytesIO(standing_png(found)))
    assert picture.shape[:2] == (560, 900)
    assert len({tuple(colour) for colour in picture[::7, ::7].reshape(-1, picture.shape[2]).tolist()}) > 5


def test_without_an_axis_there_is_no_map() -> None:
    """A sweep of one combination has nothing to draw, and the error says why."""
    with pytest.raises(ValueError, match="needs a parameter that varies"):
        standing_png(Standings(total=1))
