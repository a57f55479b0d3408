"""ccxt's own Binance client against the local market's Binance dialect, and what exchanges are trusted with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import ccxt.async_support as ccxt
import pytest
from msgspec import UNSET, structs
from pydantic import SecretStr

from tasks.broker.ccxt import CcxtBroker, CcxtSettings, open_exchange
from tasks.broker.exchanges import KNOWN, REFUSING, deadline_fields, known, read_objection, refuses
from tasks.broker.port import DefiniteRejection, NotSentError, OutcomeUnknownError
from tasks.broker.unified import read_fill, read_order
from tasks.errors import ConfigurationError, ProtocolError, TransientError
from tasks.orders.guarantees import IdempotencyClass
from tasks.orders.order import OrderRequest, OrderType, Side, Status
from tasks.simulator.orderfaults import OrderFaults
from tasks.simulator.server import Simulator
from tests.broker.contract import BrokerContract, Rig, assert_secret_free

D = Decimal
SECRET = "canary-secret"  # noqa: S105  (what no error may show)
NOON = datetime(2025, 3, 4, 12, tzinfo=UTC)
SETTINGS = CcxtSettings("binance", SecretStr("canary-key"), SecretStr(SECRET), ("BTC/USDT",), poll_s=0.05)


def now() -> datetime:
    """Return the wall clock."""
    return datetime.now(UTC)


def at(url: str, key: str, **changes: Any) -> CcxtBroker:
    """Return a broker whose exchange lives at an address of ours."""
    exchange = ccxt.binance(
        {
            "apiKey": key,
            "secret": SECRET,
            "timeout": 2_000,
            "enableRateLimit": False,
            "options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False},
        }
    )
    exchange.urls["api"] |= {"public": f"{url}/api/v3", "private": f"{url}/api/v3"}
    settings = replace(SETTINGS, key=SecretStr(key), **changes)
    # the standing market's fills are of its own day, long before the poller's
    return CcxtBroker(settings, clock=now, exchange=exchange)


@pytest.fixture
async def rig(sim: Simulator) -> AsyncIterator[Rig]:
    """Binance as the local market plays it: ids unique among open orders."""
    sim.order_faults = OrderFaults(uniqueness="open")
    broker = at(sim.url, sim.api_key)
    broker._poller._since = NOON - timedelta(days=1)

    async def trade() -> None:
        await asyncio.sleep(0)

    @contextmanager
    def lost_replies() -> Iterator[None]:
        before, sim.order_faults = sim.order_faults, replace(sim.order_faults, lost_reply_p=1.0)
        yield
        sim.order_faults = before

    yield Rig(broker, "BTC/USDT", D("0.01"), D(30), D("28506.8"), D(100_000), D(100), trade, lost_replies, SECRET)
    await broker.close()


class TestContract(BrokerContract):
    """ccxt keeps the contract, with its own client code over loopback."""

    @pytest.fixture
    async def rig(self, rig: Rig) -> Rig:
        """The rig of this file."""
        return rig


@pytest.mark.parametrize(
    "fault", ["lost_reply_p", "error_after_p", "throttle_after_p", "reset_body_p", "error_before_p"]
)
async def test_replies_that_go_astray_leave_doubt(rig: Rig, sim: Simulator, fault: str) -> None:
    """Whatever happens to the reply, the order is in doubt and was sent once; a query tells what became of it."""
    await rig.broker.account()
    sim.order_faults = OrderFaults(uniqueness="open", **{fault: 1.0})
    request = rig.resting(fault)
    with pytest.raises(OutcomeUnknownError) as caught:
        await rig.submit(request)
    assert_secret_free(caught.value, SECRET)
    found = await rig.broker.query(request.client_order_id, rig.symbol)
    assert (found is None) == (fault == "error_before_p")
    assert [one.target for one in sim.injected if one.target.startswith("place")] == [
        f"place {request.client_order_id} #1"
    ]


async def test_an_exchange_that_is_not_there_was_sent_nothing() -> None:
    """Where not even the steps of the market can be loaded nothing was sent, and nothing secret is told."""
    broker = at("http://127.0.0.1:9", "canary-key")
    with pytest.raises(NotSentError) as caught:
        await broker.submit(OrderRequest("kh1", "a", "BTC/USDT", Side.BUY, D(1)), now())
    assert_secret_free(caught.value, SECRET)
    with pytest.raises(TransientError) as asked:
        await broker.open_orders()
    assert_secret_free(asked.value, SECRET)
    await broker.close()


async def test_a_gone_exchange_was_sent_nothing(rig: Rig) -> None:
    """With the steps loaded, a refused connection still proves that not one byte left."""
    await rig.broker.account()
    rig.broker._exchange.urls["api"] |= {"private": "http://127.0.0.1:9/api/v3"}
    with pytest.raises(NotSentError) as caught:
        await rig.submit(rig.resting("gone"))
    assert_secret_free(caught.value, SECRET)


@pytest.mark.parametrize(("quantity", "price"), [("0.00001", "100"), ("0.01", "100.05")])
async def test_what_ccxt_would_round_is_not_sent(rig: Rig, quantity: str, price: str) -> None:
    """A quantity or price off the exchange's steps is refused here, never sent as another one."""
    request = structs.replace(rig.resting("steps"), quantity=D(quantity), limit_price=D(price))
    with pytest.raises(NotSentError):
        await rig.submit(request)
    assert await rig.broker.query(request.client_order_id, rig.symbol) is None


async def test_a_deadline_that_has_passed_is_not_sent(rig: Rig) -> None:
    """An order older than its own deadline is kept back; a younger one's deadline counts from its own moment."""
    with pytest.raises(NotSentError, match="deadline"):
        await rig.broker.submit(rig.resting("old"), now() - timedelta(seconds=6))
    assert deadline_fields(KNOWN["binance"], NOON) == {"timestamp": 1741089600000, "recvWindow": 5000}
    assert deadline_fields(known("kraken"), NOON) == {}


async def test_a_wrong_key_is_a_matter_of_configuration(sim: Simulator) -> None:
    """Questions under a wrong key ask for a person."""
    broker = at(sim.url, "canary-key")
    with pytest.raises(ConfigurationError) as caught:
        await broker.account()
    assert_secret_free(caught.value, "canary-key")
    await broker.close()


class SwitchedExchange:
    """A client of an exchange with a dead man's switch."""

    def __init__(self) -> None:
        self.called: list[int] = []

    async def cancel_all_orders_after(self, timeout_ms: int) -> None:
        """Note a call."""
        self.called.append(timeout_ms)
        if timeout_ms < 0:
            raise ccxt.RequestTimeout(f"kraken POST https://a?signature={SECRET}")

    async def close(self) -> None:
        """Do nothing."""


async def test_the_exchanges_own_switch_is_used_where_it_counts_from_our_calls() -> None:
    """Kraken is told in milliseconds; Bybit's switch hangs on a WebSocket that we do not hold, and is not trusted."""
    exchange = SwitchedExchange()
    broker = CcxtBroker(replace(SETTINGS, exchange="kraken"), clock=now, exchange=exchange)
    assert broker.features.dead_man
    await broker.cancel_all_after(60.0)
    assert exchange.called == [60_000]
    with pytest.raises(TransientError) as caught:
        await broker.cancel_all_after(-1.0)
    assert_secret_free(caught.value, SECRET)
    await broker.close()
    for name in ("bybit", "hyperliquid", "binance"):
        assert not known(name).has_dead_man
    for name in (one for one, found in KNOWN.items() if found.has_dead_man):
        assert getattr(ccxt, name)().has["cancelAllOrdersAfter"]


class SearchedExchange:
    """A client of an exchange that finds no order by our id and lists what it has."""

    has = {"fetchOpenOrders": True, "fetchClosedOrders": True}  # noqa: RUF012  (ccxt's own shape)

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    async def fetch_open_orders(self, symbol: str) -> list[dict[str, Any]]:
        """Return one open order."""
        return [{"id": "1", "clientOrderId": "open", "symbol": symbol, "side": "buy", "amount": 1.0, "status": "open"}]

    async def fetch_closed_orders(self, symbol: str) -> list[dict[str, Any]]:
        """Return one that has ended."""
        return [{"id": "2", "clientOrderId": "done", "symbol": symbol, "side": "buy", "amount": 1.0, "filled": 1.0}]

    async def cancel_order(self, number: str, symbol: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Note what was cancelled."""
        self.cancelled.append(number)
        return {
            "id": number,
            "clientOrderId": "open",
            "symbol": symbol,
            "side": "buy",
            "amount": 1.0,
            "status": "canceled",
        }

    async def close(self) -> None:
        """Do nothing."""


async def test_where_ids_cannot_be_asked_for_lists_are_searched() -> None:
    """An unknown exchange is class C: its orders are found in its lists and cancelled by its own id."""
    exchange = SearchedExchange()
    broker = CcxtBroker(replace(SETTINGS, exchange="kraken"), clock=now, exchange=exchange)
    assert broker.profile.grade is IdempotencyClass.C
    statuses = [one and one.status for one in [await broker.query(name, "BTC/USD") for name in ("open", "done", "no")]]
    assert statuses == [Status.ACCEPTED, Status.FILLED, None]
    assert (await broker.cancel("open", "BTC/USD")).status is Status.CANCELED
    assert exchange.cancelled == ["1"]
    with pytest.raises(DefiniteRejection):
        await broker.cancel("no", "BTC/USD")
    await broker.close()


def test_the_sandbox_is_the_default() -> None:
    """Without a word about it, orders go to the exchange's test environment, and ccxt never repeats a request."""
    exchange = open_exchange(SETTINGS)
    assert "testnet" in exchange.urls["api"]["private"]
    assert exchange.options["maxRetriesOnFailure"] == 0
    assert CcxtBroker(SETTINGS, clock=now, exchange=exchange).is_live is False


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exchange": "nonsense"}, "found 'nonsense'"),
        ({"exchange": "kraken"}, "no sandbox"),
        ({"exchange": "kraken", "sandbox": False}, "class C"),
        ({"exchange": "coinbaseexchange", "sandbox": False}, "class D"),
        ({"exchange": "kraken", "sandbox": False, "allow_non_idempotent": "binance"}, "class C"),
    ],
)
def test_what_is_not_safe_is_refused(changes: dict[str, Any], words: str) -> None:
    """Class C and D trade live only by their own name, and an exchange without sandbox not by accident."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        open_exchange(replace(SETTINGS, **changes))
    assert_secret_free(caught.value, SECRET)


@pytest.mark.parametrize("name", ["binance", "kraken"])
def test_live_trading_is_said_aloud(name: str) -> None:
    """A live exchange is opened for class B, or for class C by name, and the broker says that it is live."""
    settings = replace(SETTINGS, exchange=name, sandbox=False, allow_non_idempotent=name)
    assert CcxtBroker(settings, clock=now, exchange=open_exchange(settings)).is_live is True


def _classes() -> list[type[Exception]]:
    found = [one for one in vars(ccxt).values() if isinstance(one, type) and issubclass(one, ccxt.BaseError)]
    return sorted(set(found), key=lambda one: one.__name__)


@pytest.mark.parametrize("kind", _classes())
def test_only_the_table_refuses(kind: type[Exception]) -> None:
    """Of all classes of ccxt those of the table refuse; none does because its base is there."""
    for name in ("binance", "kraken"):
        assert refuses(known(name), read_objection(kind("it went wrong"))) == (kind.__name__ in REFUSING)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (ccxt.BadRequest('binance {"code":-1013,"msg":"Filter failure: NOTIONAL"}'), True),
        (ccxt.BadRequest('binance {"code":-1111,"msg":"Too much precision"}'), True),
        (ccxt.ExchangeError('binance {"code":-1102,"msg":"Mandatory parameter"}'), True),
        (ccxt.InvalidOrder('binance {"code":-2010,"msg":"Order would immediately match and take."}'), True),
        (ccxt.InvalidOrder('binance {"code":-2010,"msg":"Duplicate order sent."}'), False),
        (ccxt.InvalidOrder('binance {"code":-4116,"msg":"ClientOrderId is duplicated."}'), False),
        (ccxt.OperationFailed('binance {"code":-1000,"msg":"An unknown error"}'), False),
        (ccxt.OperationFailed('binance {"code":-1001,"msg":"Internal error"}'), False),
        (ccxt.RateLimitExceeded('binance {"code":-1003,"msg":"Too many requests"}'), False),
        (ccxt.OperationFailed('binance {"code":-1006,"msg":"Execution status unknown"}'), False),
        (ccxt.RequestTimeout('binance {"code":-1007,"msg":"Timeout; execution status unknown"}'), False),
        (ccxt.RateLimitExceeded('binance {"code":-1015,"msg":"Too many new orders"}'), False),
        (ccxt.InvalidNonce('binance {"code":-1021,"msg":"outside of the recvWindow"}'), False),
        (ccxt.RequestTimeout('binance POST https://x {"code":-2010}'), False),
        (ccxt.ExchangeNotAvailable('binance 503 {"code":-1013}'), False),
        (ccxt.DDoSProtection("binance 418"), False),
        (ccxt.ExchangeError("binance POST https://api/order?signature=abc"), False),
        (ccxt.BadResponse("binance <html>"), False),
    ],
)
def test_codes_of_binance(error: Exception, refused: bool) -> None:
    """Codes that say the engine never took the order refuse; those that leave it open, and duplicates, do not."""
    assert refuses(KNOWN["binance"], read_objection(error)) is refused


def test_words_with_a_secret_are_dropped() -> None:
    """An exchange that repeats our key in its words is not quoted, and addresses never are."""
    said = read_objection(
        ccxt.BadRequest(f'x POST https://a?signature=abc {{"code":-1,"msg":"bad {SECRET}"}}'), (SECRET,)
    )
    assert str(said) == "BadRequest -1"


RAW: dict[str, Any] = {"id": "7", "clientOrderId": "kh1", "symbol": "BTC/USDT", "side": "buy", "amount": 2.0}
ASKED = OrderRequest("kh1", "a", "BTC/USDT", Side.BUY, D(2), OrderType.LIMIT, D(100))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "open", "filled": 0.0}, Status.ACCEPTED),
        ({"status": "open", "filled": 0.5}, Status.PARTIALLY_FILLED),
        ({"status": "closed", "filled": 2.0}, Status.FILLED),
        ({"status": "closed", "filled": 0.5}, Status.EXPIRED),
        ({"status": "canceled", "filled": 0.5}, Status.CANCELED),
        ({"status": "expired"}, Status.EXPIRED),
        ({"status": "rejected"}, Status.REJECTED),
        ({"status": None}, Status.PENDING_NEW),
        ({}, Status.PENDING_NEW),
    ],
)
def test_orders_are_read(fields: dict[str, Any], status: Status) -> None:
    """The words of ccxt and the filled quantity together say where an order stands; an id alone means it is there."""
    order = read_order(RAW | fields)
    assert order is not None
    assert order.status is status


def test_a_terse_answer_is_completed_from_what_was_asked() -> None:
    """An answer with nothing but an id is our order; one with another client id is not."""
    terse = read_order({"id": "7"}, ASKED)
    assert terse is not None
    assert (terse.client_order_id, terse.quantity, terse.status) == ("kh1", 2, Status.PENDING_NEW)
    assert read_order(RAW | {"clientOrderId": "other"}, ASKED) is None
    assert read_order({"id": None}, ASKED) is None
    assert read_order({"id": "7"}) is None


@pytest.mark.parametrize(
    "nonsense",
    [
        *({"timestamp": stamp} for stamp in (1e300, -1e300, 10**20, float("nan"), "soon")),
        {"side": "up"},
        {"amount": "x"},
    ],
)
def test_nonsense_is_refused_as_such(nonsense: dict[str, Any]) -> None:
    """An absurd moment, side or figure breaks the protocol; no error of the platform, which elsewhere means a wire."""
    with pytest.raises(ProtocolError, match="an order of an unexpected shape"):
        read_order(RAW | nonsense)
    trade = RAW | {"order": "7", "price": 1.0, "timestamp": 0} | nonsense
    with pytest.raises(ProtocolError, match="a trade of an unexpected shape"):
        read_fill(trade, "kh1")


@pytest.mark.parametrize(
    ("fees", "value", "taken", "others"),
    [
        ({"fee": {"cost": 0.2, "currency": "USDT"}}, "0.2", UNSET, UNSET),
        ({"fee": {"cost": 0.002, "currency": "BTC"}}, "0.2", D("0.002"), UNSET),
        ({"fee": {"cost": 0.0, "currency": "BTC"}}, "0", UNSET, UNSET),
        ({"fee": {"cost": 0.01, "currency": "BNB"}}, "0", UNSET, (("BNB", D("0.01")),)),
        ({"fee": None}, "0", UNSET, UNSET),
        ({"fee": {"cost": 0.2, "currency": "USDT"}, "fees": [{"cost": 0.2, "currency": "USDT"}]}, "0.2", UNSET, UNSET),
        (
            {
                "fee": {"cost": None, "currency": None},
                "fees": [{"cost": 0.001, "currency": "BTC"}, {"cost": 0.5, "currency": "BNB"}],
            },
            "0.1",
            D("0.001"),
            (("BNB", D("0.5")),),
        ),
    ],
)
def test_fees_are_in_the_quote_asset(fees: dict[str, Any], value: str, taken: Any, others: Any) -> None:
    """Fees in the base asset are valued at the trade's price and taken off what was bought; others are told apart."""
    trade = {
        "id": "1",
        "order": "7",
        "symbol": "BTC/USDT",
        "side": "buy",
        "price": 100.0,
        "amount": 1.0,
        "timestamp": 0,
    }
    found = read_fill(trade | fees, "kh1").fill
    assert (found.fee, found.base_fee, found.other_fees) == (D(value), taken, others)
    with pytest.raises(ProtocolError):
        read_fill(trade | {"id": None}, "kh1")
