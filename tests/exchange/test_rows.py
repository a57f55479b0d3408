"""The compiled reader of pages gives what msgspec gives, bit for bit, or nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import KlinehouseError
from tasks.exchange import parse
from tests.exchange.conftest import body, kline

FIELDS = parse.Kline.__struct_fields__


def decimal(digits: int, places: int) -> str:
    """Return the digits as text with so many of them after the point."""
    return f"{digits // 10**places}.{digits % 10**places:0{places}}" if places else str(digits)


#: Decimals as vendors write them, and as they could: 17 digits, leading zeros, exponents, signs, nothing at all.
PRICES = st.builds(decimal, st.integers(0, 10**17), st.integers(0, 8))
ODD = st.text("0123456789.e-", max_size=20) | st.sampled_from(["NaN", "inf"])
ORDERS = st.permutations(["time", "open", "high", "low", "close", "volume", "quote_volume"])
SPACING = st.sampled_from([(",", ":"), (", ", ": "), (",\n", " : ")])


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Compile before anything is timed."""
    parse.read_quickly(body([kline(0), kline(1)]))


def page(texts: list[list[str]], order: list[str], spacing: tuple[str, str], **more: object) -> bytes:
    """Return an answer with bars of these texts, their names in that order."""
    names = [name for name in order if name != "time"]
    bars = [{**kline(minute), **dict(zip(names, row, strict=True)), **more} for minute, row in enumerate(texts)]
    document = json.loads(body([]))
    document["data"]["klines"] = [{name: bar[name] for name in [*order, *more]} for bar in bars]
    return json.dumps(document, separators=spacing).encode()


def slowly(raw: bytes) -> tuple[parse.Klines, dict[str, list]] | None:
    """Return an answer as msgspec reads it, None where it does not."""
    try:
        data = parse._decode_klines(raw, "x")
    except KlinehouseError:
        return None
    return data, {name: [getattr(bar, name) for bar in data.klines] for name in FIELDS}


def check_equal(raw: bytes) -> bool:
    """Check that the compiled reader, where it reads an answer, reads what msgspec does; return whether it did."""
    quick, slow = parse.read_quickly(raw), slowly(raw)
    if quick is None:
        return False
    assert slow is not None
    assert (quick[0].symbol, quick[0].interval) == (slow[0].symbol, slow[0].interval)
    for name in FIELDS:
        assert np.array(quick[1][name], float).tobytes() == np.array(slow[1][name], float).tobytes()
    return True


@given(st.lists(st.lists(PRICES, min_size=6, max_size=6), min_size=2, max_size=4), ORDERS, SPACING)
def test_ordinary_pages_are_read_and_equal(texts: list[list[str]], order: list[str], spacing: tuple[str, str]) -> None:
    """Whatever the order of names and the spacing, decimals become the floats that msgspec makes of them."""
    exact = all(int(text.replace(".", "")) <= 1 << 53 for row in texts for text in row)
    assert check_equal(page(texts, order, spacing)) == exact


@given(st.lists(st.lists(PRICES | ODD, min_size=6, max_size=6), min_size=2, max_size=4), ORDERS)
def test_odd_numbers_are_read_alike_or_not_at_all(texts: list[list[str]], order: list[str]) -> None:
    """Exponents, signs, blanks and long numbers never become another value than msgspec's, nor one where it fails."""
    check_equal(page(texts, order, (",", ":")))


@given(st.data())
def test_a_damaged_page_is_read_alike_or_not_at_all(data: st.DataObject) -> None:
    """One byte changed, dropped or doubled anywhere: the compiled reader never sees another page than msgspec."""
    raw = bytearray(page([["1.5"] * 6, ["20.25"] * 6, ["3"] * 6], list(FIELDS), (",", ":")))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place : place + 1] = data.draw(
        st.sampled_from([b"", bytes(raw[place : place + 1]) * 2]) | st.binary(max_size=1)
    )
    check_equal(bytes(raw))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(body([kline(0), kline(1, close=None)]), id="a null"),
        pytest.param(body([kline(0), {"open": "1", **kline(1)}]), id="another order"),
        pytest.param(body([kline(0, low="NaN"), kline(1, low="NaN")]), id="no number under a name"),
        pytest.param(body([kline(0)]), id="one bar"),
        pytest.param(body([]), id="no bar"),
        pytest.param(body([kline(0), kline(1)], code=2002), id="an error's code"),
        pytest.param(body([kline(0, time=1.5), kline(1, time=2.5)]), id="half a millisecond"),
        pytest.param(body([kline(0, time=10**15), kline(1, time=10**15)]), id="beyond the year 9999"),
        pytest.param(body([kline(0), kline(1)])[:-30], id="cut"),
        pytest.param(body([kline(0), kline(1)]).replace(b'"symbol"', b'"klines":[],"symbol"'), id="bars named twice"),
        pytest.param(body([kline(0), kline(1)]).replace(b'"low"', b'"open"'), id="a name twice, one missing"),
    ],
)
def test_unusual_pages_are_left_to_msgspec(raw: bytes) -> None:
    """Whatever is not a page of bars written alike is refused by the compiled reader."""
    assert parse.read_quickly(raw) is None


def test_fields_nobody_stores_are_skipped() -> None:
    """Open interest and flags stand in every bar of futures; quote volume is null there."""
    raw = page([["1"] * 6] * 3, list(FIELDS), (",", ":"), open_interest="77", final=True)
    assert check_equal(raw)
    bars = [{name: value for name, value in kline(minute).items() if name != "quote_volume"} for minute in range(3)]
    quick = parse.read_quickly(body(bars))
    assert quick is not None
    assert parse._frame(quick[1])["quote_volume"].null_count() == 3
