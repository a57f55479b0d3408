"""What the account is worth to risk, without asking the market more than it has to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from flows.trading_account import Exposure, last_minute, recent_orders
from tasks.broker.port import Account
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tasks.orders.account import Limits, Market, TradingState
from tasks.orders.lifecycle import Event
from tasks.orders.order import OrderRequest, Side
from tasks.orders.states import Happening


def test_what_is_held_is_valued_at_prices_of_at_most_a_second() -> None:
    """Within a second the market is asked once for each symbol; after it, or when the clock was set back, again."""
    prices, asked = {"BTCUSDT": Decimal(100), "ETHUSDT": None}, []

    def market(symbol: str) -> Market:
        asked.append(symbol)
        return Market(prices[symbol])

    exposure, held = Exposure(Limits(), market), {"BTCUSDT": Decimal(1), "ETHUSDT": Decimal(2)}

    def valued(now_s: float) -> dict[str, Decimal]:
        return exposure.book(TradingState.ACTIVE, held, (), now_s).prices

    assert valued(50.0) == {"BTCUSDT": Decimal(100)}
    prices |= {"BTCUSDT": Decimal(90), "ETHUSDT": Decimal(5)}
    assert valued(50.9) == {"BTCUSDT": Decimal(100)}
    assert sorted(asked) == ["BTCUSDT", "ETHUSDT"]
    assert valued(51.0) == {"BTCUSDT": Decimal(90), "ETHUSDT": Decimal(5)}
    prices["BTCUSDT"] = Decimal(80)
    assert valued(50.0)["BTCUSDT"] == Decimal(80)


def test_a_clock_set_back_over_midnight_forgives_no_loss() -> None:
    """A day begins once: two seconds later it is yesterday again, and what was lost since midnight stays lost."""
    exposure = Exposure(Limits(), lambda symbol: Market(None))
    midnight = datetime(2026, 3, 3, tzinfo=UTC)

    def lost(at: datetime, equity: int) -> Decimal:
        exposure.measure(Account(Decimal(equity), Decimal(equity), {}), at)
        return exposure.book(TradingState.ACTIVE, {}, (), 0.0).day_pnl

    assert lost(midnight, 1000) == 0
    assert lost(midnight + timedelta(seconds=1), 900) == -100
    assert lost(midnight - timedelta(seconds=1), 900) == -100
    assert lost(midnight + timedelta(days=1), 900) == 0


def test_what_was_sent_again_lately_counts_however_old_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order of a minute ago and more may have been sent again since: that request counts after a start too."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    old = OrderRequest("kh1", "paper", "BTCUSDT", Side.BUY, Decimal(1), signal_key="a")
    intended = Event(Happening.SUBMIT_INTENDED)
    with Journal(tmp_path / "orders.sqlite") as journal:
        monkeypatch.setattr("tasks.journal.journal.time.time_ns", lambda: round(at.timestamp() * 1e9))
        journal.commit_now([Entry(Kind.CREATED, "kh1", old), Entry(Kind.EVENT, "kh1", intended)])
        later = at + timedelta(seconds=70)
        monkeypatch.setattr("tasks.journal.journal.time.time_ns", lambda: round(later.timestamp() * 1e9))
        journal.commit_now([Entry(Kind.SEND, "kh1", {"again": True})])
        found = last_minute(journal, recent_orders(journal), later + timedelta(seconds=5))
    assert [(age_s, line.kind) for age_s, _, line in found] == [(5.0, Kind.SEND)]
