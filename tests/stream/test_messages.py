"""The vendor's frames become typed values, and nothing else gets through."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_frames import depth

from tasks.errors import ProtocolError
from tasks.stream.messages import Answer, Depth, Message, Pong, Ticker, Trade, Trades, Unknown, decode, encode_command

CASES: list[tuple[str, Message]] = [
    ('{"cmd":"pong","data":{"timestamp":5}}', Pong(5)),
    (
        '{"cmd":"depth","data":{"symbol":"A","bids":[["1.5","2"]],"asks":[],"timestamp":7,"new":[1]}}',
        Depth("A", [(1.5, 2.0)], [], 7),
    ),
    ('{"cmd":"depth","data":{"symbol":"A","bids":[[1.5,2]],"asks":[],"timestamp":7}}', Depth("A", [(1.5, 2.0)], [], 7)),
    (
        '{"cmd":"trade","data":{"symbol":"A","trades":[{"id":"x","price":"3","quantity":"4","side":"sell","timestamp":9}]}}',
        Trades("A", [Trade("x", 3.0, 4.0, "sell", 9)]),
    ),
    (
        '{"cmd":"trade","data":{"symbol":"BU2609","id":8,"price":"3","quantity":"4","side":"buy","timestamp":9}}',
        Trades("BU2609", [Trade(8, 3.0, 4.0, "buy", 9)]),
    ),
    ('{"cmd":"subscribe","code":0,"message":"success","data":null}', Answer("subscribe", 0, "success")),
    (
        '{"cmd":"subscribe","code":"2002","data":{"channel":"depth","symbols":["A"]}}',
        Answer("subscribe", 2002, "", "depth", ("A",)),
    ),
    ('{"cmd":"subscribe","code":"AMBIGUOUS_SYMBOL"}', Answer("subscribe", "AMBIGUOUS_SYMBOL")),
    ('{"cmd":"depth","code":4003,"message":"unavailable"}', Answer("depth", 4003, "unavailable")),
    ('{"code":3003}', Answer("", 3003)),
    ('{"cmd":"subscribe","code":0,"data":["not","ours"]}', Answer("subscribe", 0)),
    ('{"cmd":"news","data":{}}', Unknown("news")),
]


@pytest.mark.parametrize(("frame", "expected"), CASES)
def test_frames_decode(frame: str, expected: Message) -> None:
    """Each documented shape, as text and as bytes, becomes its type."""
    assert decode(frame) == decode(frame.encode()) == expected


def test_ticker_without_extras_decodes() -> None:
    """Fields the vendor leaves out are NaN, never 0."""
    ticker = decode('{"cmd":"ticker","data":{"symbol":"A","last_price":"3.5","timestamp":1}}')
    assert isinstance(ticker, Ticker)
    assert ticker.last_price == 3.5
    assert ticker.volume_24h != ticker.volume_24h


REFUSED = [
    "",
    "[]",
    "3",
    "{}",
    "{",
    "[" * 100_000,
    '{"cmd":"depth","data":null}',
    '{"cmd":"depth","data":{"symbol":"A","bids":null,"asks":[],"timestamp":1}}',
    '{"cmd":"depth","data":{"symbol":"A","bids":[["x","1"]],"asks":[],"timestamp":1}}',
    '{"cmd":"depth","data":{"symbol":"A","bids":[["1e999","1"]],"asks":[],"timestamp":1}}',
    '{"cmd":"trade","data":{"symbol":"A"}}',
    '{"cmd":"pong"}',
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("frame", REFUSED)
def test_malformed_frames_are_protocol_errors(frame: str | bytes) -> None:
    """A frame outside the protocol is refused with one error type."""
    with pytest.raises(ProtocolError):
        decode(frame)


def test_errors_never_quote_the_payload() -> None:
    """What the server sent, a key perhaps, does not reach an exception's text."""
    for frame in ('{"cmd":"depth","data":{"symbol":"CANARY"}}', '{"cmd":3,"CANARY":1}', "CANARY"):
        with pytest.raises(ProtocolError) as caught:
            decode(frame)
        assert "CANARY" not in repr(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(frame: bytes) -> None:
    """No bytes raise anything but ProtocolError."""
    with suppress(ProtocolError):
        decode(frame)


@given(st.data())
def test_damaged_depth_decodes_or_is_refused(data) -> None:
    """A depth frame with bytes cut out or replaced raises nothing but ProtocolError."""
    frame = bytearray(depth())
    first = data.draw(st.integers(0, len(frame) - 1))
    frame[first : first + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=20))
    with suppress(ProtocolError):
        decode(bytes(frame))


def test_commands_are_the_vendors() -> None:
    """A subscribe command has exactly the published shape."""
    assert json.loads(encode_command("subscribe", "depth", ("BTCUSDT", "ETHUSDT"))) == {
        "cmd": "subscribe",
        "data": {"channel": "depth", "symbols": ["BTCUSDT", "ETHUSDT"]},
    }
