"""Inputs that a parser of bytes from outside must survive: valid samples, damaged as bytes, as JSON and as tables.

Input number i of a parser is a function of seed, parser and i, so that each find can be made again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import polars as pl

Maker = Callable[[Random], bytes]

#: Values that parsers trip over: edges of integers and floats, things that look like numbers, deep and long ones.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e308),
    *("", " ", "0", "-0", "1e999", "NaN", "Infinity", "-inf", "1_000", "0x10", "²", "٣", "9" * 5_000, "1." + "0" * 400),
    *("\ud800", "\x00", "💥", "é" * 300, "A" * 70_000, "20240230", "99999999", "2024-13-01T00:00:00Z", "BTCUSDT"),
    *([], {}, [[]], [None], [1, 2, 3], {"": 0}, {"code": 0}, ["x"] * 2_000),
)
#: Doublings of doublings of a long text could make a hundred megabytes, and their memory would be the input's own.
MOST_BYTES = 1_000_000
TOKENS = (
    b"[" * 2_000,
    b'{"a":' * 2_000,
    b"\\u0000",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b",",
    b'"',
    b"}",
    b"]",
    b"null",
    b"1e",
)
TOKENS += (b"1e", b"-", b"999999999999999999999", b"\r\n", b"\x00", b";", b"\t", b"NaN", b'\\"')


def damaged(rng: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    """Return `sample` with one to four damages: bits, cuts, doublings, foreign tokens, the tail of another sample."""
    data = bytearray(sample)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(data))
        until = min(len(data), at + rng.choice((1, 2, 8, 64)))
        match rng.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:until]
            case 2:
                data[at:at] = data[at:until] * rng.choice((1, 2, 50))
            case 3:
                data[at:at] = rng.choice(TOKENS)
            case 4:
                del data[at:]
            case 5:
                data[at:until] = rng.randbytes(until - at)
            case _:
                other = rng.choice(others)
                data[at:] = other[rng.randint(0, len(other)) :]
    return bytes(data)


def json_inputs(samples: Sequence[Any]) -> Maker:
    """Return a maker of JSON bodies: half of them well-formed with strange values, half damaged as bytes."""
    texts = [json.dumps(sample).encode() for sample in samples]

    def make(rng: Random) -> bytes:
        kind = rng.random()
        if kind < 0.05:
            return rng.randbytes(rng.randrange(200))
        if kind < 0.5:
            return damaged(rng, rng.choice(texts), texts)
        document = rng.choice(samples)
        for _ in range(rng.choice((1, 1, 2, 3))):
            document = _altered(rng, document)
        return json.dumps(document).encode()[:MOST_BYTES]

    return make


def csv_inputs(samples: Sequence[str]) -> Maker:
    """Return a maker of CSV files: strange cells, lost and foreign separators, damaged bytes."""
    texts = [sample.encode() for sample in samples]

    def make(rng: Random) -> bytes:
        if rng.random() < 0.4:
            return damaged(rng, rng.choice(texts), texts)
        rows = [line.split(",") for line in rng.choice(samples).splitlines()]
        for _ in range(rng.choice((1, 1, 2, 3))):
            row = rng.choice(rows)
            match rng.randrange(5):
                case 0:
                    row[rng.randrange(len(row))] = str(rng.choice(ODD))
                case 1:
                    row.append(str(rng.choice(ODD)))
                case 2 if len(row) > 1:
                    row.pop(rng.randrange(len(row)))
                case 3:
                    rng.shuffle(rows)
                case _:
                    rows.append(list(row))
        return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")

    return make


def parquet_inputs(frames: Sequence[pl.DataFrame]) -> Maker:
    """Return a maker of Parquet files whose bytes are damaged, in the footer as often as in the data."""
    texts = [_parquet(frame) for frame in frames]

    def make(rng: Random) -> bytes:
        text = rng.choice(texts)
        if rng.random() < 0.5:
            return damaged(rng, text, texts)
        data = bytearray(text)
        for _ in range(rng.randint(1, 3)):
            data[-rng.randint(1, min(len(data), 600))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        return bytes(data)

    return make


def arrow_inputs(frames: Sequence[pl.DataFrame]) -> Maker:
    """Return a maker of Arrow streams whose bytes are damaged."""
    texts = [_arrow(frame) for frame in frames]
    return lambda rng: damaged(rng, rng.choice(texts), texts)


def lines_inputs(samples: Sequence[str]) -> Maker:
    """Return a maker of files of ``name = value`` lines: strange values, lost and doubled lines, damaged bytes."""
    texts = [sample.encode() for sample in samples]

    def make(rng: Random) -> bytes:
        if rng.random() < 0.5:
            return damaged(rng, rng.choice(texts), texts)
        lines = rng.choice(samples).splitlines()
        at = rng.randrange(len(lines))
        name, value = lines[at].split(" = ")
        odd = rng.choice(ODD)
        strange = rng.choice((str(odd), json.dumps(odd), "-" + value, "inf", "nan", "1e999999999", f"[{value}]"))
        lines[at : at + 1] = rng.choice(([f"{name} = {strange}"], [f"{strange} = {value}"], [lines[at]] * 2, []))
        return "\n".join(lines).encode("utf-8", "surrogatepass")

    return make


def _altered(rng: Random, node: Any) -> Any:
    """Return a copy of a JSON document in which one node is replaced, removed, doubled or renamed."""
    if not isinstance(node, dict | list) or not node or rng.random() < 0.1:
        return rng.choice(ODD)
    if isinstance(node, list):
        at = rng.randrange(len(node))
        chosen = ([_altered(rng, node[at])], [], [node[at]] * rng.choice((2, 40)))[_fate(rng)]
        return [*node[:at], *chosen, *node[at + 1 :]]
    key = rng.choice(list(node))
    rest = {name: value for name, value in node.items() if name != key}
    return (node | {key: _altered(rng, node[key])}, rest, rest | {str(rng.choice(ODD))[:99]: node[key]})[_fate(rng)]


def _fate(rng: Random) -> int:
    return rng.choices((0, 1, 2), (8, 1, 1))[0]


def _parquet(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


def _arrow(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_ipc_stream(stream)
    return stream.getvalue()
