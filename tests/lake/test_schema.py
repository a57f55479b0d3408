"""Frames are bars only with the columns and types that every room expects."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from lake.schema import BARS, as_bars
from tasks.errors import SchemaError

ROW = {"timestamp": datetime(2024, 1, 1, tzinfo=UTC), "open": 1, "high": 2, "low": 1, "close": 2, "volume": 3}


def test_columns_are_put_in_order_and_cast() -> None:
    """Whole numbers become float64, other columns are left out, an absent quote volume is null."""
    frame = pl.DataFrame([{"extra": "x", **ROW}])
    bars = as_bars(frame.select(reversed(frame.columns)))
    assert bars.schema == BARS
    assert bars.row(0)[1:] == (1.0, 2.0, 1.0, 2.0, 3.0, None)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"close": None}, "missing"),
        ({"timestamp": datetime(2024, 1, 1)}, "time zone"),  # naive on purpose
        ({"close": "two"}, "expected types"),
    ],
)
def test_what_is_no_bar_is_refused(spoilt: dict[str, object], message: str) -> None:
    """A missing column, a time without a zone and text for a price are named, not guessed."""
    row = {name: value for name, value in {**ROW, **spoilt}.items() if value is not None}
    with pytest.raises(SchemaError, match=message):
        as_bars(pl.DataFrame([row]))


def test_rows_are_left_to_quality() -> None:
    """Wrong rows stay as they are: sorting or dropping them would hide what is wrong."""
    frame = pl.DataFrame([ROW, ROW])
    assert as_bars(frame).height == 2
