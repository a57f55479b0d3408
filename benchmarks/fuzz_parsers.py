"""The parsers of bytes from outside, the inputs that each is fed with, and what must hold of its answers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import ccxt.async_support as ccxt
import msgspec
import polars as pl

from benchmarks import fuzz_samples as samples
from benchmarks.fuzz_inputs import Maker, arrow_inputs, csv_inputs, json_inputs, lines_inputs, parquet_inputs
from benchmarks.fuzz_samples import MINUTE, START
from flows.live_limits import read_limits
from lake.hot import parse_hot
from lake.schema import BARS
from lake.transfer import read_bars_file
from tasks.broker import unified
from tasks.broker.evidence import REFUSALS, judge, read_answer
from tasks.broker.port import BrokerFill
from tasks.broker.private import read_report
from tasks.control.server import MAX_BODY_BYTES, read_said
from tasks.errors import ProtocolError
from tasks.exchange import parse
from tasks.exchange.ccxt_source import CcxtSource, strict
from tasks.exchange.page import Page
from tasks.exchange.request import Window
from tasks.stream.messages import Message, decode, read_connections, refusal_code

WINDOW = Window(START, START + 10 * MINUTE)
NOW = START + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Parser:
    """One way in.

    Attributes:
        what: What arrives.
        make: Makes an input.
        opened: Context manager that yields the parser as a function of bytes; it asserts what must hold of an answer.
    """

    what: str
    make: Maker
    opened: Callable[[], Any]


@contextmanager
def _bars() -> Iterator[Callable[[bytes], None]]:
    def read(body: bytes) -> None:
        page = parse.parse_klines(body, symbol="BTCUSDT", interval_name="1m", window=WINDOW, limit=10, now=NOW)
        _check_page(page)

    yield read


@contextmanager
def _exchange_bars() -> Iterator[Callable[[bytes], None]]:
    exchange, body = strict(ccxt.binance({"enableRateLimit": False})), b""
    market = {"id": "BTCUSDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "type": "spot", "spot": True}
    exchange.set_markets([market])

    async def fetch(*_: object, **__: object) -> Any:
        """Return what ccxt's own fetch returns: JSON, or the text where it is none."""
        text = body.decode(errors="replace")
        answer = exchange.parse_json(text)
        return text if answer is None else answer

    exchange.fetch = fetch
    source = CcxtSource(exchange, _Once())  # type: ignore[arg-type]
    with asyncio.Runner() as runner:

        def read(answer: bytes) -> None:
            nonlocal body
            body = answer
            _check_page(runner.run(source.fetch_page("BTC/USDT", "1m", WINDOW, now=NOW)))

        yield read
        runner.run(exchange.close())


class _Once:
    """A sender that asks once and at once."""

    async def send(self, attempt: Callable[[], Any], where: str) -> Any:
        return await attempt()


def _check_page(page: Page) -> None:
    opens = page.bars["timestamp"]
    assert page.bars.schema == pl.Schema(BARS)
    assert opens.is_sorted()
    assert not opens.len() or (opens[0] >= WINDOW.start and opens[-1] < WINDOW.end and opens.is_unique().all())


@contextmanager
def _answers() -> Iterator[Callable[[bytes], None]]:
    kinds = (
        *(parse.Products, parse.Depth, parse.Trades, list[parse.Ticker]),
        *(parse.Intervals, parse.TradeDays, parse.Sessions),
    )

    def read(body: bytes) -> None:
        parse.parse_head(body)
        value: Any = parse.parse_data(body, kinds[len(body) % len(kinds)], where="fuzz")
        if isinstance(value, parse.TradeDays):
            assert set(value.half_days()) <= set(value.days())
        if isinstance(value, parse.Sessions):
            for session in value.trading_sessions:
                session.begins(), session.ends()

    yield read


@contextmanager
def _frames() -> Iterator[Callable[[bytes], None]]:
    def read(frame: bytes) -> None:
        assert isinstance(decode(frame), get_args(Message))

    yield read


@contextmanager
def _replies() -> Iterator[Callable[[bytes], None]]:
    def read(body: bytes) -> None:
        answer = read_answer(200, body)
        for verb in REFUSALS:
            evidence = judge(verb, "ours", answer)
            assert evidence.order is None or evidence.order.client_order_id == "ours"
        read_report(body)

    yield read


@contextmanager
def _refusals() -> Iterator[Callable[[bytes], None]]:
    def read(body: bytes) -> None:
        assert isinstance(refusal_code(body), int | str | None)
        read_connections(body)

    yield read


@contextmanager
def _exchange_orders() -> Iterator[Callable[[bytes], None]]:
    decoder = msgspec.json.Decoder()

    def read(body: bytes) -> None:
        try:
            raw = decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raw = None
        if not isinstance(raw, dict):
            raise ProtocolError("ccxt decodes, and hands on nothing but its own dictionaries")
        order = unified.read_order(raw)
        assert order is None or order.quantity
        assert isinstance(unified.read_fill(raw, "ours"), BrokerFill)

    yield read


@contextmanager
def _hot() -> Iterator[Callable[[bytes], None]]:
    def read(body: bytes) -> None:
        assert parse_hot(body, where="fuzz").schema == pl.Schema(BARS)

    yield read


@contextmanager
def _limits() -> Iterator[Callable[[bytes], None]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "limits.toml"

        def read(body: bytes) -> None:
            path.write_bytes(body)
            assert read_limits(path).version

        yield read


@contextmanager
def _actions() -> Iterator[Callable[[bytes], None]]:
    def read(body: bytes) -> None:
        assert all(isinstance(value, str) for value in read_said(body[:MAX_BODY_BYTES]).values())

    yield read


def _files(suffix: str) -> Callable[[], Any]:
    @contextmanager
    def opened() -> Iterator[Callable[[bytes], None]]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"bars{suffix}"

            def read(body: bytes) -> None:
                path.write_bytes(body)
                bars = read_bars_file(path, time_zone="UTC")
                assert bars.schema == pl.Schema(BARS)
                assert bars["timestamp"].is_sorted()

            yield read

    return opened


PARSERS: dict[str, Parser] = {
    "bars": Parser("the vendor's pages of bars", json_inputs(samples.klines()), _bars),
    "answers": Parser("the vendor's other answers", json_inputs(samples.other_answers()), _answers),
    "frames": Parser("frames of the live stream", json_inputs(samples.stream_frames()), _frames),
    "refusals": Parser("refused handshakes, lists of connections", json_inputs(samples.refusals()), _refusals),
    "exchange_bars": Parser("an exchange's bars, by ccxt", json_inputs(samples.exchange_bars()), _exchange_bars),
    "exchange_orders": Parser(
        "an exchange's orders and trades, by ccxt", json_inputs(samples.exchange_orders()), _exchange_orders
    ),
    "replies": Parser("a broker's replies and reports", json_inputs(samples.broker_replies()), _replies),
    "csv": Parser("CSV files", csv_inputs(samples.csv_files()), _files(".csv")),
    "parquet": Parser("Parquet files", parquet_inputs(samples.frames_of_bars()), _files(".parquet")),
    "hot": Parser("bars out of Redis", arrow_inputs(samples.frames_of_bars()), _hot),
    "limits": Parser("files of risk limits", lines_inputs(samples.limits_files()), _limits),
    "actions": Parser("actions of the control page", json_inputs(samples.actions()), _actions),
}
