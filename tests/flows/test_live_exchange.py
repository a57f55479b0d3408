"""A live run at an exchange: the vendor's stream on one side, ccxt's own Binance client on the other, over loopback."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import ccxt.async_support as ccxt
import pytest
from msgspec import structs
from pydantic import SecretStr

from flows.live_account import open_account
from flows.live_alerts import AlertSender
from flows.live_desk import LiveDesk
from flows.live_plan import TradingPlan, check_plan
from flows.live_switch import KillSwitch
from flows.live_vendor import open_live_vendor
from flows.settings import Settings
from flows.trading_proposal import Proposal
from tasks.errors import ConfigurationError
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tasks.journal.place import journal_path
from tasks.orders.account import TradingState
from tasks.orders.lifecycle import Event
from tasks.orders.order import Fill, OrderType, Side, Status, TimeInForce
from tasks.orders.states import Happening
from tasks.simulator.clock import MarketClock
from tasks.simulator.market import generated
from tasks.simulator.server import Simulator
from tasks.stream.monitor import MonitorPolicy
from tests.flows.conftest import free_port
from tests.flows.live_rig import wall_now

PLAN = TradingPlan(broker="ccxt:binance")


def binance_at(simulator: Simulator):
    """Return what stands in for `open_exchange`: ccxt's client of a Binance that lives at an address of ours."""

    def opened(chosen) -> ccxt.Exchange:
        assert chosen.sandbox
        keys = {"apiKey": chosen.key.get_secret_value(), "secret": chosen.secret.get_secret_value()}
        options = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}
        exchange = ccxt.binance({**keys, "enableRateLimit": False, "options": options})
        exchange.urls["api"] |= {"public": f"{simulator.url}/api/v3", "private": f"{simulator.url}/api/v3"}
        return exchange

    return opened


def settings_for(simulator: Simulator, folder: Path) -> Settings:
    """Return settings that lead stream and orders to the simulator."""
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        stream_url=simulator.stream_url,
        vendor_url=simulator.url,
        api_key=SecretStr(simulator.api_key),
        sandbox_key=SecretStr(simulator.api_key),
        sandbox_secret=SecretStr("canary-secret"),
        plan="enterprise",
        lake_root=str(folder / "lake"),
        state_dir=folder / "state",
        control_port=free_port(),
    )


@pytest.fixture
def simulator():
    """Return a market of now."""
    first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=7)
    market = generated(seed=3, symbols=("BTCUSDT",), start=first, end=first + timedelta(hours=10))
    with Simulator(market, now=MarketClock(datetime.now(UTC))) as simulator:
        yield simulator


async def test_an_order_at_an_exchange_fills_on_the_streams_prices(simulator, tmp_path: Path, monkeypatch) -> None:
    """Symbols are spelled both ways, steps bind, fill and cancel are journaled in an account of its own, as ours."""
    settings = settings_for(simulator, tmp_path)
    check_plan(PLAN, settings)
    monkeypatch.setattr("tasks.broker.ccxt.open_exchange", binance_at(simulator))
    stop = asyncio.Event()
    async with (
        open_account(settings, PLAN, ["BTCUSDT"]) as account,
        open_live_vendor(settings, ["BTCUSDT"]) as vendor,
        AlertSender([]) as alerts,
    ):
        switch = KillSwitch(settings.state_dir)
        live = LiveDesk(settings, vendor, ["BTCUSDT"], "1m", MonitorPolicy(), alerts, account, switch)
        running = asyncio.create_task(live.run(stop))
        await _until(lambda: live.trading.desk.state is TradingState.ACTIVE)
        await _until(lambda: live.trading.price("BTC/USDT") is not None)
        wish = Proposal("test", "BTC/USDT", Side.BUY, Decimal("0.01"), "now", wall_now())
        identifier = live.trading.propose(wish)
        orders = account.journal.state.orders
        await _until(lambda: identifier in orders and orders[identifier].is_terminal)
        assert orders[identifier].status is Status.FILLED, orders[identifier]
        resting = live.trading.propose(_resting(wish, live.trading.price("BTC/USDT")))
        await _until(lambda: resting in orders and orders[resting].status is Status.ACCEPTED)
        live.trading.desk.cancel(resting)
        await _until(lambda: orders[resting].is_terminal)
        assert orders[resting].status is Status.CANCELED, orders[resting]
        assert account.journal.last(Kind.ANOMALY) is None  # as a cancel's answer under an unknown id would be
        told = live.snapshot()["trading"]
        stop.set()
        await asyncio.wait_for(running, 60.0)
    assert (told["account"], told["broker"], told["live"]) == ("binance-sandbox", "ccxt:binance", False)
    assert (told["positions"][0]["symbol"], told["positions"][0]["quantity"]) == ("BTC/USDT", 0.01)
    assert told["positions"][0]["price"] == pytest.approx(told["fills"][0]["price"], rel=0.01)
    assert (settings.state_dir / "journal-binance-sandbox.db").exists()
    assert not (settings.state_dir / "journal.db").exists()


async def test_a_live_key_that_may_withdraw_ends_the_start(simulator, tmp_path: Path, monkeypatch) -> None:
    """Before anything is streamed or traded the exchange is asked what the key may do, and its connection closed."""
    opened, answer = binance_at(simulator), {"enableSpotAndMarginTrading": True, "enableWithdrawals": True}
    exchanges: list[ccxt.Exchange] = []

    def live(chosen) -> ccxt.Exchange:
        exchange = opened(dataclasses.replace(chosen, sandbox=True))

        async def told() -> dict[str, bool]:
            return answer

        exchange.sapiGetAccountApiRestrictions = told
        exchanges.append(exchange)
        return exchange

    monkeypatch.setattr("tasks.broker.ccxt.open_exchange", live)
    keys = {"trade_key": SecretStr(simulator.api_key), "trade_secret": SecretStr("canary-secret")}
    settings = settings_for(simulator, tmp_path).model_copy(update=keys | {"live_account": "main"})
    plan = TradingPlan(broker="ccxt:binance", mode="live", i_accept_live="main")
    with pytest.raises(ConfigurationError, match="may not withdraw"):
        async with open_account(settings, plan, ["BTCUSDT"]):
            pass
    assert exchanges[0].session is None
    answer["enableWithdrawals"] = False
    async with open_account(settings, plan, ["BTCUSDT"]) as account:
        assert account.broker.is_live


async def test_what_is_held_is_among_the_symbols(simulator, tmp_path: Path, monkeypatch) -> None:
    """An exchange is asked for the run's symbols alone: what is held of another would look lost, and halt."""
    settings = settings_for(simulator, tmp_path)
    monkeypatch.setattr("tasks.broker.ccxt.open_exchange", binance_at(simulator))
    request = Proposal("test", "ETH/USDT", Side.BUY, Decimal(1), "then", wall_now()).request("binance-sandbox")
    name, fill = request.client_order_id, Fill("t", Decimal(100), Decimal(1), Decimal(0), wall_now())
    with Journal(journal_path(settings.state_dir, "binance-sandbox")) as journal:
        intended, filled = Event(Happening.SUBMIT_INTENDED), Event(Happening.FILLED_PART, fill=fill)
        events = (Entry(Kind.EVENT, name, one) for one in (intended, filled))
        journal.commit_now([Entry(Kind.CREATED, name, request), *events])
    with pytest.raises(ConfigurationError, match="ETH/USDT among them"):
        async with open_account(settings, PLAN, ["BTCUSDT"]):
            pass


async def test_an_unknown_market_is_refused_before_the_stream(simulator, tmp_path: Path, monkeypatch) -> None:
    """A symbol that the exchange does not list ends the start in our words, without its address or keys."""
    settings = settings_for(simulator, tmp_path)
    monkeypatch.setattr("tasks.broker.ccxt.open_exchange", binance_at(simulator))
    with pytest.raises(ConfigurationError, match="no symbol DOGE/USDT") as refused:
        async with open_account(settings, PLAN, ["DOGEUSDT"]):
            pass
    assert "canary-secret" not in str(refused.value)


def _resting(wish: Proposal, price: Decimal | None) -> Proposal:
    """Return a wish for the same at a price that the market does not reach, on the exchange's steps."""
    assert price is not None
    below = (price * Decimal("0.985")).quantize(Decimal("0.1"))
    order = {"order_type": OrderType.LIMIT, "limit_price": below, "time_in_force": TimeInForce.GTC}
    return structs.replace(wish, signal_key="below", decided_at=wall_now(), **order)


async def _until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (any condition the test can think of)
            await asyncio.sleep(0.02)
