"""The vendor's JSON becomes bars, or an error that says what is wrong with it."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time, timedelta

import polars as pl
import pytest

from lake.schema import BARS
from tasks.errors import ProtocolError, TransientError, UnknownSymbolError
from tasks.exchange import parse
from tasks.exchange.page import Page
from tests.exchange.conftest import MINUTE, NOW, START, body, kline, window


def read(raw: bytes, bars: int = 10, now: datetime = NOW) -> Page:
    """Parse an answer to a request for that many bars."""
    return parse.parse_klines(raw, symbol="BTCUSDT", interval_name="1m", window=window(bars), limit=bars, now=now)


def test_strings_become_floats_exactly() -> None:
    """Prices are the correctly rounded floats of the vendor's decimal strings, opens are UTC."""
    page = read(body([kline(0, open="0.1", high="1e5", low="545.5", close="16718.21", volume="842560983.33")]))
    assert page.bars.schema == pl.Schema(BARS)
    assert page.bars.row(0) == (START, 0.1, 1e5, 545.5, 16718.21, 842560983.33, 500.0)


def test_a_missing_quote_volume_is_null() -> None:
    """Futures have none: null, which is not zero. Open interest is left out of the bars."""
    bars = [kline(minute, open_interest="77") for minute in range(20)]
    for bar in bars:
        del bar["quote_volume"]
    assert read(body(bars), bars=20).bars["quote_volume"].to_list() == [None] * 20


@pytest.mark.parametrize("blank", [None, "", "NaN"])
def test_a_blank_price_is_a_row_for_quality(blank: object) -> None:
    """One blank bar does not cost the others of its page: it becomes NaN, which quality rejects."""
    page = read(body([kline(0), kline(1, close=blank), kline(2)]))
    assert page.bars.height == 3
    assert math.isnan(page.bars["close"][1])
    assert page.bars["open"].to_list() == [100.0] * 3


def test_text_that_is_no_number_names_bar_and_field() -> None:
    """A price that cannot be read is a breach of the protocol; the message names the bar's time, field and text."""
    with pytest.raises(ProtocolError, match=r"bar 2024-01-01T00:01:00\+00:00, field high: found 'about 100'"):
        read(body([kline(0), kline(1, high="about 100")]))


@pytest.mark.parametrize("cut", [0, 1, 40, 300])
def test_a_cut_body_is_transient(cut: int) -> None:
    """A body that ends early is asked for again; it is never taken for a short page."""
    with pytest.raises(TransientError, match="not whole JSON"):
        read(body([kline(i) for i in range(5)])[:cut])


@pytest.mark.parametrize("data", ['"data":null', '"data":{}', '"data":[]', '"other":1'])
def test_an_error_code_wins_over_the_shape_of_data(data: str) -> None:
    """An error answer is recognised whatever its `data` looks like."""
    with pytest.raises(UnknownSymbolError, match="2002"):
        read(f'{{"code":2002,"message":"no such symbol",{data}}}'.encode())


@pytest.mark.parametrize("raw", [b'{"code":0,"message":"ok","data":null}', b"[]", b'{"code":0,"data":{"symbol":"B"}}'])
def test_a_success_without_bars_is_a_breach(raw: bytes) -> None:
    """Code 0 promises data in the published shape."""
    with pytest.raises(ProtocolError, match="format differs"):
        read(raw)


@pytest.mark.parametrize("other", [{"symbol": "ETHUSDT"}, {"interval": "5m"}])
def test_bars_of_another_request_are_refused(other: dict[str, str]) -> None:
    """An answer that names another symbol or interval never reaches the lake under ours."""
    with pytest.raises(ProtocolError, match="nobody asked for"):
        read(body([kline(0)], **other))


def test_the_size_of_the_answer_is_known() -> None:
    """The page remembers how many bytes it cost."""
    raw = body([kline(0)])
    assert read(raw).size_bytes == len(raw)


def test_trade_days_and_sessions_are_dates_and_times() -> None:
    """Half days are trading days too; `hhmm` integers are local times."""
    raw = {"market": "US", "trade_days": ["20240102", "20240103"], "half_trade_days": ["20240105"]}
    days = parse.parse_data(_success(raw), parse.TradeDays, where="x")
    assert days.days() == [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 5)]
    assert days.half_days() == [date(2024, 1, 5)]
    session = parse.Session(begin_time=930, end_time=2400)
    assert (session.begins(), session.ends()) == (time(9, 30), time(0, 0))


def test_other_answers_are_typed() -> None:
    """Book levels arrive as pairs of floats, best first."""
    raw = {"symbol": "X", "timestamp": 1, "bids": [["626", "19700"]], "asks": [["626.5", "36100"]]}
    depth = parse.parse_data(_success(raw), parse.Depth, where="x")
    assert depth.bids == [(626.0, 19700.0)]
    with pytest.raises(TransientError):
        parse.parse_data(_success(raw)[:30], parse.Depth, where="x")
    with pytest.raises(UnknownSymbolError):
        parse.parse_data(b'{"code":2002,"message":"no"}', parse.Depth, where="x")


def test_a_bar_that_has_not_closed_is_dropped_and_counted() -> None:
    """Nothing whose close lies after `now` passes, wherever it stands in the page."""
    page = read(body([kline(1), kline(0), kline(2)]), now=START + 2 * MINUTE + timedelta(seconds=59))
    assert page.bars["timestamp"].to_list() == [START, START + MINUTE]
    assert page.unclosed == 1


def _success(data: object) -> bytes:
    return json.dumps({"code": 0, "message": "success", "data": data}).encode()
