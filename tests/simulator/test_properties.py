"""Invariants that hold for every input: pages, windows of requests, money."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import polars as pl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.simulator.answers import Answers, Dialect
from tasks.simulator.instruments import instrument
from tasks.simulator.ledger import ZERO, Account, Fill, Order, changed
from tasks.simulator.market import Market
from tasks.simulator.plans import PLANS, RequestWindow
from tests.simulator.conftest import NOW, START_MS

MINUTE = 60_000
_SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)


@_SHARED
@given(
    interval=st.sampled_from(["1m", "5m", "1h"]),
    first=st.integers(-100, 2_500),
    length=st.integers(0, 1_500),
    limit=st.integers(1, 1_000),
    dialect=st.builds(Dialect, st.booleans(), st.booleans(), st.booleans()),
)
def test_a_page_is_a_cut_of_the_truth(
    small_market: Market, interval: str, first: int, length: int, limit: int, dialect: Dialect
) -> None:
    """Whatever the range, limit and dialect, a page holds exactly the closed bars they select."""
    market = small_market.at(lambda: int(NOW.timestamp() * 1000))
    answers = Answers(market)
    answers.dialect = dialect
    start, end = START_MS + first * MINUTE, START_MS + (first + length) * MINUTE
    query = {"symbol": "BTCUSDT", "interval": interval, "limit": str(limit)}
    body = json.loads(
        answers.answer(
            "/v1/market/kline", {**query, "start_time": str(start), "end_time": str(end)}, PLANS["unlimited"]
        )
    )
    opens = market.bars("BTCUSDT", interval)["timestamp"].dt.epoch("ms")
    inside = opens.filter((opens >= start) & ((opens <= end) if dialect.end_included else (opens < end)))
    kept = inside.tail(limit) if dialect.newest_kept else inside.head(limit)
    expected = kept.sort(descending=dialect.descending).to_list()
    assert [bar["time"] for bar in body["data"]["klines"]] == expected


@settings(max_examples=60)
@given(limit=st.integers(1, 8), gaps=st.lists(st.floats(0, 30), max_size=80))
@example(limit=1, gaps=[4.266165025400632, 30.0, 30.0, 0.0])  # 4.27 + 60 is the third moment, less 60 not 4.27
def test_no_window_holds_more_than_its_limit(limit: int, gaps: list[float]) -> None:
    """In every rolling minute at most `limit` are admitted, and the wait named is enough and not too long."""
    window, now, admitted = RequestWindow(limit), 0.0, []
    for gap in gaps:
        now += gap
        wait = window.admit(now)
        if wait == 0:
            admitted.append(now)
        else:
            recent = [moment for moment in admitted if moment + 60 > now]
            assert len(recent) == limit
            assert wait > 0
            assert wait == recent[0] + 60 - now
    for moment in admitted:
        assert sum(other <= moment < other + 60 for other in admitted) <= limit


@settings(max_examples=80)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 50), st.integers(1, 500)), min_size=1, max_size=30))
def test_money_is_conserved(trades: list[tuple[bool, int, int]]) -> None:
    """Cash is what was paid and received; the position is the signed sum; a flat account has no cost left."""
    item = instrument("BTCUSDT")
    account, cash, held = Account(Decimal(10_000)), Decimal(10_000), ZERO
    order = Order("1", "a", item, "buy", "market", "ioc", ZERO, None, "filled", ZERO, ZERO, 0, 0)
    for number, (buy, quantity, price) in enumerate(trades):
        signed = Decimal(quantity if buy else -quantity)
        executed = changed(order, side="buy" if buy else "sell")
        account.book(Fill(f"t{number}", executed, Decimal(price), Decimal(quantity), Decimal(1), False, 0))
        cash, held = cash - signed * price - 1, held + signed
    position, cost = account.positions[item]
    assert (account.cash, position) == (cash, held)
    if held == 0:
        assert abs(cost) < Decimal("1e-15")
    else:
        prices = [Decimal(price) for _, _, price in trades]
        assert min(prices) - Decimal("1e-15") <= cost / position <= max(prices) + Decimal("1e-15")


def test_closed_bars_only_ever_grow(small_market: Market) -> None:
    """As the clock moves on, what was served stays what it was, and bars are only added."""
    before = pl.DataFrame()
    for minutes in range(0, 600, 37):
        now_ms = START_MS + minutes * MINUTE + 123
        after = small_market.at(lambda now_ms=now_ms: now_ms).bars("BTCUSDT", "5m")
        assert after.head(len(before)).equals(before) or before.is_empty()
        assert len(after) == minutes // 5
        before = after
    assert before["timestamp"].diff().drop_nulls().unique().to_list() == [timedelta(minutes=5)]
