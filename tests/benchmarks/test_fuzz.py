"""Damaged bytes from outside are answered or refused, never anything else; the long version is `make proof-fuzz`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.fuzz import GROWTH_MB, SECONDS, fuzz, made
from benchmarks.fuzz_parsers import PARSERS
from tasks.broker.private import BrokenStreamError
from tasks.errors import KlinehouseError

INPUTS = {"csv": 300, "parquet": 500, "exchange_bars": 500, "limits": 1_000}
#: Files whose damaged length made the reader of that time end the process.
DAMAGED = Path(__file__).parent / "found"


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_inputs_are_survived(name: str) -> None:
    """Some thousands of damaged inputs raise nothing but errors of ours, take no time and leave no memory behind."""
    tally = fuzz(name, INPUTS.get(name, 3_000))
    assert tally.crashes == {}
    assert tally.outcomes["answered"] > 0, "the inputs are so broken that they prove nothing"
    assert tally.outcomes["answered"] < tally.inputs / 2
    assert tally.slowest_s < SECONDS
    assert tally.growth_mb < GROWTH_MB


def test_an_input_can_be_made_again() -> None:
    """Input number i of a parser is always the same bytes, so that a find can be looked at."""
    assert made("bars", PARSERS["bars"], 7) == made("bars", PARSERS["bars"], 7)
    assert len({made("bars", PARSERS["bars"], number) for number in range(50)}) > 45


_BAR = b'{"open":"1","high":"1","low":"1","close":"1","volume":"1"'
_PAGE = b'{"code":0,"data":{"symbol":"BTCUSDT","interval":"1m","klines":[%s]}}'
#: Each of these once ended in an error that was not ours.
FOUND = [
    ("bars", _PAGE % (_BAR + b',"time":18446744073709551616}')),
    ("bars", _PAGE % (_BAR + b',"time":-99999999999999}')),
    ("bars", _PAGE % (_BAR[:-3] + b'"x","time":99999999999999999}')),
    ("bars", _PAGE % (_BAR + b',"time":null},[]')),
    ("bars", (_PAGE % (_BAR + b',"time":"","close":null}'))[:-1]),
    ("bars", b'{"code":"\xff"}'),
    ("bars", b'{"code":0,"a":' + b"[" * 5_000),
    ("answers", b'{"code":0,"data":{"market":"US","trade_days":["20240230"]}}'),
    ("frames", '{"cmd":"subscribe","code":"²"}'.encode()),
    ("frames", b'{"cmd":"subscribe","code":"' + b"9" * 5_000 + b'"}'),
    ("frames", b'{"cmd":"pong","data":{"timestamp":18446744073709551616}}'),
    ("frames", b'{"cmd":"subscribe","code":0,"data":{"channel":"\xff"}}'),
    (
        "replies",
        b'{"cmd":"fill","data":{"client_order_id":"ours","order_id":"b1","symbol":"A","side":"buy","trade_id":"t",'
        b'"price":"1","quantity":"2","fee":"0","timestamp":170406720000067200000}}',
    ),
    ("csv", b"timestamp,open\n1,2,3\n"),
    ("csv", b"timestamp,open,high,low,close,volume\n-9223372036854775809,1,1,1,1,1"),
    ("csv", b""),
    ("csv", b"\xff\xfe"),
    ("parquet", b"PAR1 and no more"),
    ("parquet", (DAMAGED / "length.parquet").read_bytes()),
    ("hot", (DAMAGED / "length.arrow").read_bytes()),
    ("exchange_bars", b"7"),
    ("exchange_bars", b'["no"]'),
    ("exchange_bars", b'[[1704067200000,"\xff",1,1,1,1]]'),
    ("exchange_bars", b"[[99999999999999999999,1,1,1,1,1]]"),
    ("actions", b"[" * 1_024),
    ("actions", b'{"account":"\xff"}'),
    ("limits", b"max_day_loss = 0.1 # \xff"),
    ("limits", b"max_day_loss = " + b"[" * 5_000),
    ("limits", b"orders_per_minute = inf"),
    ("limits", b"orders_per_minute = 1e999999999"),
    ("limits", b"orders_per_minute = " + b"9" * 5_000),
    ("limits", b"max_day_loss = 1e9999999999999999999"),
]


@pytest.mark.parametrize(("name", "body"), FOUND, ids=range(len(FOUND)))
def test_what_was_found_stays_mended(name: str, body: bytes) -> None:
    """Inputs that once crashed a parser are refused in our own words or answered."""
    with PARSERS[name].opened() as parse, suppress(KlinehouseError, BrokenStreamError):
        parse(body)
