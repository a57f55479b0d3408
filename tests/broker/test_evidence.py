"""What answers prove: every row of HTTP status, code, body and transport, and nothing outside the table refuses."""

from __future__ import annotations

import asyncio
import json
from itertools import product
from types import SimpleNamespace

import aiohttp
import pytest

from tasks.broker.evidence import REFUSALS, Proof, Verb, judge, never_left, read_answer
from tasks.broker.private import BrokenStreamError, read_report

ORDER = {
    "order_id": "7",
    "client_order_id": "kh1",
    "symbol": "BTCUSDT",
    "side": "buy",
    "order_type": "limit",
    "time_in_force": "gtc",
    "quantity": "2",
    "price": "100",
    "status": "new",
    "filled_quantity": "0",
    "average_price": None,
    "created_at": 1741102217000,
    "updated_at": 1741102217000,
}
FILL = {
    "trade_id": "3",
    "order_id": "7",
    "client_order_id": "kh1",
    "symbol": "BTCUSDT",
    "side": "buy",
    "price": "100",
    "quantity": "1",
    "fee": "0.1",
    "timestamp": 1741102217000,
}
STATUSES = (200, 201, 301, 400, 401, 403, 404, 408, 409, 418, 429, 500, 502, 503, 504)
CODES = (0, 404, 1001, 1002, 1003, 1004, 2001, 2002, 3001, 3002, 5000, 5001, 5002, 6001, 6002, 6003, 6004, 6005, -1006)


def answer(status: int, code: object, data: object = None) -> tuple[int, bytes]:
    """Return an answer as it comes over the wire."""
    return status, json.dumps({"code": code, "message": "words", "data": data}).encode()


@pytest.mark.parametrize(("verb", "status", "code"), list(product(Verb, STATUSES, CODES)))
def test_only_the_table_refuses(verb: Verb, status: int, code: int) -> None:
    """Of all pairs of HTTP status and code those of the table refuse, and no other does."""
    found = judge(verb, "kh1", read_answer(*answer(status, code)))
    assert (found.proof is Proof.REFUSED) == ((status, code) in REFUSALS[verb])
    assert found.proof is not Proof.DONE


def test_the_table_is_the_published_one() -> None:
    """The pairs that refuse, written out once more: a row more is a decision, not an accident."""
    assert {
        Verb.PLACE: {(400, 2001), (404, 2002), (400, 6003), (401, 1001), (401, 1002), (403, 1003), (403, 1004)},
        Verb.CANCEL: {(404, 6001), (409, 6005)},
    } == REFUSALS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502 Bad Gateway</html>",
        b"null",
        b"[]",
        b"6003",
        b'"6003"',
        b'{"code": "6003", "message": "Order rejected"}',
        b'{"code": 6003.0}',
        b'{"code": true}',
        b'{"code": null}',
        b'{"error": {"code": 6003}}',
        b'{"message": "Order rejected"}',
        b'{"code":6003,"message":"Order rej',
        b'\xff\xfe{"code":6003}',
        b"[" * 2_000,
        b'{"code":6003,"message":"\\ud800"}',  # half a character
    ],
)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_what_cannot_be_read_proves_nothing(status: int, body: bytes) -> None:
    """Truncated, foreign and mistyped bodies leave doubt under every status."""
    for verb in Verb:
        assert judge(verb, "kh1", read_answer(status, body)).proof is Proof.UNKNOWN


@pytest.mark.parametrize(
    ("verb", "status", "code", "data", "proof"),
    [
        (Verb.PLACE, 200, 0, ORDER, Proof.DONE),
        (Verb.CANCEL, 200, 0, ORDER | {"status": "canceled"}, Proof.DONE),
        (Verb.PLACE, 409, 6002, ORDER, Proof.DONE),
        (Verb.CANCEL, 409, 6002, ORDER, Proof.UNKNOWN),
        (Verb.PLACE, 409, 6002, None, Proof.UNKNOWN),
        (Verb.PLACE, 200, 0, ORDER | {"client_order_id": "kh2"}, Proof.UNKNOWN),
        (Verb.PLACE, 409, 6002, ORDER | {"client_order_id": "kh2"}, Proof.UNKNOWN),
        (Verb.PLACE, 200, 0, None, Proof.UNKNOWN),
        (Verb.PLACE, 200, 0, [], Proof.UNKNOWN),
        (Verb.PLACE, 200, 0, ORDER | {"status": "odd"}, Proof.UNKNOWN),
        (Verb.PLACE, 200, 0, ORDER | {"side": "both"}, Proof.UNKNOWN),
        (Verb.PLACE, 200, 0, ORDER | {"quantity": "NaN"}, Proof.UNKNOWN),
        (Verb.PLACE, 200, 0, ORDER | {"quantity": 2.0}, Proof.UNKNOWN),
        (Verb.PLACE, 200, 0, ORDER | {"updated_at": "soon"}, Proof.UNKNOWN),
        (Verb.PLACE, 200, 0, ORDER | {"updated_at": 10**30}, Proof.UNKNOWN),
        (Verb.PLACE, 200, 0, {key: ORDER[key] for key in ORDER if key != "order_id"}, Proof.UNKNOWN),
        (Verb.PLACE, 201, 0, ORDER, Proof.UNKNOWN),
        (Verb.PLACE, 500, 0, ORDER, Proof.UNKNOWN),
    ],
)
def test_success_needs_the_order_itself(verb: Verb, status: int, code: int, data: object, proof: Proof) -> None:
    """An answer counts as done only with our whole order in it; an id in use shows the order that uses it."""
    found = judge(verb, "kh1", read_answer(*answer(status, code, data)))
    assert found.proof is proof
    assert (found.order is not None) == (proof is Proof.DONE)


_KEY = SimpleNamespace(host="127.0.0.1", port=1, ssl=True, is_ssl=True)


@pytest.mark.parametrize(
    ("error", "proves"),
    [
        (aiohttp.ClientConnectorError(_KEY, OSError(111, "refused")), True),
        (aiohttp.ClientConnectorDNSError(_KEY, OSError(-2, "no such name")), True),
        (aiohttp.ClientConnectorSSLError(_KEY, OSError(1, "tls")), True),
        (aiohttp.ConnectionTimeoutError("no connection"), True),
        (aiohttp.InvalidURL("nonsense"), True),
        (aiohttp.ServerDisconnectedError(), False),
        (aiohttp.ClientOSError(104, "reset"), False),
        (aiohttp.SocketTimeoutError("slow"), False),
        (aiohttp.ServerTimeoutError("slow"), False),
        (aiohttp.ClientPayloadError("cut"), False),
        (aiohttp.ClientConnectionError("closed"), False),
        (aiohttp.ClientConnectionResetError("reset"), False),
        (aiohttp.ClientError("odd"), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
        (BrokenPipeError(), False),
        (ConnectionRefusedError(), False),
        (OSError(28, "no space"), False),
        (asyncio.CancelledError(), False),
        (RuntimeError("session is closed"), False),
    ],
)
def test_only_errors_before_the_connection_prove_that_nothing_left(error: BaseException, proves: bool) -> None:
    """Once a connection stands, every error leaves doubt."""
    assert never_left(error) is proves


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        "null",
        '{"data":{}}',
        '{"cmd":"odd","data":{}}',
        '{"cmd":"order","data":{}}',
        '{"cmd":"fill"}',
        json.dumps({"cmd": "fill", "data": FILL | {"quantity": "many"}}),
        json.dumps({"cmd": "order", "data": FILL}),
    ],
)
def test_an_unreadable_report_breaks_the_stream(text: str) -> None:
    """What cannot be read may have been a fill: the stream counts as broken, so that everything is asked for."""
    with pytest.raises(BrokenStreamError):
        read_report(text)


def test_reports_are_read() -> None:
    """Orders and fills are told apart, pongs are nothing."""
    order = read_report(json.dumps({"cmd": "order", "data": ORDER}))
    fill = read_report(json.dumps({"cmd": "fill", "data": FILL}))
    assert order is not None
    assert fill is not None
    assert (order.client_order_id, fill.client_order_id) == ("kh1", "kh1")
    assert read_report('{"cmd":"pong","data":{"timestamp":1}}') is None
