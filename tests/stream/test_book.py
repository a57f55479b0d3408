"""A book says why it cannot be trusted, and derives nothing while it cannot."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.stream.book import Book, BookPolicy, Fault, imbalance, microprice, pressure_ratio
from tasks.stream.messages import Depth

GOOD = Depth("A", [(100.0, 3.0), (99.5, 1.0)], [(100.5, 1.0), (101.0, 2.0)], 1_000)


def warm(depth: Depth = GOOD, at: float = 10.0) -> Book:
    """Return a book past its warm-up."""
    book = Book("A", BookPolicy())
    for _ in range(3):
        book.apply(depth, at)
    return book


def test_a_good_book_derives() -> None:
    """Ratio, imbalance, microprice and spread follow the house's formulas."""
    quote = warm().quote(10.1)
    assert quote.validity.ok
    assert quote.validity.age_s == pytest.approx(0.1)
    assert (quote.pressure_ratio, quote.imbalance, quote.spread) == (3.0, 0.5, 0.5)
    assert quote.microprice == pytest.approx((100.5 * 3 + 100.0 * 1) / 4)


BAD = [
    (Depth("A", [], [(100.5, 1.0)], 1), Fault.THIN),
    (Depth("A", [(100.0, 1.0)], [], 1), Fault.THIN),
    (Depth("A", [(100.5, 1.0)], [(100.5, 1.0)], 1), Fault.CROSSED),
    (Depth("A", [(101.0, 1.0)], [(100.5, 1.0)], 1), Fault.CROSSED),
    (Depth("A", [(99.0, 1.0), (100.0, 1.0)], [(100.5, 1.0)], 1), Fault.UNSORTED),
    (Depth("A", [(100.0, 1.0)], [(101.5, 1.0), (100.5, 1.0)], 1), Fault.UNSORTED),
    (Depth("A", [(100.0, 0.0)], [(100.5, 1.0)], 1), Fault.BAD_LEVEL),
    (Depth("A", [(100.0, 1.0)], [(100.5, -1.0)], 1), Fault.BAD_LEVEL),
    (Depth("A", [(math.nan, 1.0)], [(100.5, 1.0)], 1), Fault.BAD_LEVEL),
    (Depth("A", [(100.0, math.inf)], [(100.5, 1.0)], 1), Fault.BAD_LEVEL),
    (Depth("A", [(100.0, 1e300)], [(100.5, 1e-300)], 1), Fault.BAD_LEVEL),
]


@pytest.mark.parametrize(("depth", "fault"), BAD)
def test_a_bad_book_derives_nothing(depth: Depth, fault: Fault) -> None:
    """Each defect is named, and every figure is NaN."""
    quote = warm(depth).quote(10.0)
    assert quote.validity.faults == (fault,)
    figures = (quote.bid, quote.ask, quote.spread, quote.pressure_ratio, quote.imbalance, quote.microprice)
    assert all(math.isnan(figure) for figure in figures)


def test_age_counts_from_us_and_from_the_venue() -> None:
    """Two seconds without a snapshot, or five-second-old news, are too old."""
    book = warm()
    assert book.quote(12.0, 1_000.0).validity.ok
    assert book.quote(12.1, 1_000.0).validity.faults == (Fault.OLD,)
    assert book.quote(10.0, 6_001.0).validity.faults == (Fault.OLD,)


def test_a_gap_empties_the_book_and_asks_for_warm_up() -> None:
    """Nothing of the book survives a gap; three snapshots later it is trusted again."""
    book = warm()
    book.begin_gap()
    assert book.quote(10.0).validity.faults == (Fault.GAP, Fault.NO_DATA)
    book.apply(GOOD, 10.0)
    assert Fault.GAP in book.quote(10.0).validity.faults
    book.begin_gap()
    book.end_gap()
    for count in range(3):
        assert not book.quote(10.0).validity.ok, count
        book.apply(GOOD, 10.0)
    assert book.quote(10.0).validity.ok


def test_old_news_is_not_taken_for_new() -> None:
    """Every snapshot older than the newest is named, also one that is newer than its predecessor; the next heals."""
    book = warm()
    for timestamp in (800, 900, 999):
        book.apply(Depth("A", GOOD.bids, GOOD.asks, timestamp), 10.0)
        assert book.quote(10.0).validity.faults == (Fault.OUT_OF_ORDER,)
    book.apply(GOOD, 10.0)
    assert book.quote(10.0).validity.ok


def test_one_stamp_from_the_future_costs_one_snapshot() -> None:
    """A venue whose clock was set back, or that stamped one snapshot wrong, is not disbelieved for as long."""
    book = warm(Depth("A", GOOD.bids, GOOD.asks, 3_600_000))
    book.apply(GOOD, 10.0)
    assert book.quote(10.0).validity.faults == (Fault.OUT_OF_ORDER,)
    book.apply(Depth("A", GOOD.bids, GOOD.asks, 1_100), 10.0)
    assert book.quote(10.0).validity.ok


def test_degraded_is_said_and_derives() -> None:
    """A book polled by REST is flagged, and still right."""
    book = warm()
    book.degraded = True
    quote = book.quote(10.0)
    assert quote.validity.faults == (Fault.DEGRADED,)
    assert quote.validity.ok
    assert quote.pressure_ratio == 3.0


SIZES = st.floats(1e-8, 1e12)
PRICES = st.floats(1e-6, 1e7)


@given(PRICES, SIZES, PRICES, SIZES)
def test_derived_values_keep_their_bounds(bid: float, bid_size: float, ask: float, ask_size: float) -> None:
    """Microprice lies between bid and ask, imbalance in [−1, 1], and sides swap to the inverse ratio."""
    low, high = min(bid, ask), max(bid, ask)
    assert low * (1 - 1e-9) <= microprice(bid, bid_size, ask, ask_size) <= high * (1 + 1e-9)
    assert -1.0 <= imbalance(bid_size, ask_size) <= 1.0
    assert pressure_ratio(bid_size, ask_size) * pressure_ratio(ask_size, bid_size) == pytest.approx(1.0)


@pytest.mark.parametrize("sizes", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_missing_side_is_nan(sizes: tuple[float, float]) -> None:
    """No size on a side gives NaN, never 0 or infinity."""
    assert math.isnan(pressure_ratio(*sizes))
    assert math.isnan(imbalance(*sizes))
    assert math.isnan(microprice(1.0, sizes[0], 2.0, sizes[1]))
