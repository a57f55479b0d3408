"""What ccxt hands on of answers that nobody expected, of long lists, and of keys with three secrets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.broker.ccxt import CcxtBroker, CcxtSettings, open_exchange
from tasks.broker.exchanges import read_objection
from tasks.broker.unified import read_order
from tasks.errors import ConfigurationError, ProtocolError, TransientError
from tasks.orders.order import Status

EPOCH = datetime.fromtimestamp(0, UTC)
SETTINGS = CcxtSettings("binance", SecretStr("canary-key"), SecretStr("canary-secret"), ("BTC/USDT",))
RAW = {"id": "7", "clientOrderId": "kh1", "symbol": "BTC/USDT", "side": "buy", "amount": 2.0, "timestamp": 0}


def stub(**answers: Any) -> CcxtBroker:
    """Return a broker whose exchange answers what a test wants, to questions by their ccxt names."""

    def call(answer: Any) -> Any:
        async def asked(*_: Any) -> Any:
            return answer

        return answer if callable(answer) else asked

    calls = {name: call(answer) for name, answer in answers.items()}
    exchange = SimpleNamespace(features={}, has={}, **calls)
    return CcxtBroker(SETTINGS, clock=lambda: datetime.now(UTC), exchange=exchange)


async def test_an_answer_about_another_order_is_nonsense() -> None:
    """Asked for one order and told of another, we know nothing; without any id it is the one that was asked for."""
    with pytest.raises(ProtocolError, match="expected order kh1, found other"):
        await stub(fetch_order=RAW | {"clientOrderId": "other"}).query("kh1", "BTC/USDT")
    found = await stub(fetch_order=RAW | {"clientOrderId": None}).query("kh1", "BTC/USDT")
    assert found is not None
    assert found.client_order_id == "kh1"


@pytest.mark.parametrize(
    "balance", [None, {"USDT": None}, {"USDT": {"total": "much"}}, {"BTC": {"total": float("nan")}}]
)
async def test_an_account_that_cannot_be_read_breaks_the_protocol(balance: Any) -> None:
    """Whatever shape ccxt lets through, no error but ours comes out: the desk would end over it."""
    with pytest.raises(ProtocolError):
        await stub(fetch_balance=balance).account()


async def test_an_error_inside_ccxt_breaks_the_protocol() -> None:
    """On an answer that it did not expect ccxt fails with whatever Python raises there."""

    async def fails(*_: Any) -> Any:
        raise KeyError("data")

    for question in ("open_orders", "account"):
        with pytest.raises(ProtocolError):
            await getattr(stub(fetch_open_orders=fails, fetch_balance=fails), question)()
    with pytest.raises(ProtocolError):
        await stub(fetch_order=fails).query("kh1", "BTC/USDT")


async def test_a_list_of_trades_that_is_cut_is_asked_for_on() -> None:
    """Exchanges answer a page, the oldest trades of it: the newest are not missed, and none is told twice."""
    fields = {"order": "7", "symbol": "BTC/USDT", "side": "buy", "price": 100.0, "amount": 1.0}
    every = [fields | {"id": str(number), "timestamp": 1_000 * (number // 3)} for number in range(170)]
    begun: list[int] = []

    async def page(symbol: str, since: int) -> list[dict[str, Any]]:
        begun.append(since)
        return [trade for trade in every if trade["timestamp"] >= since][:60]

    broker = stub(fetch_my_trades=page, fetch_order={"clientOrderId": "kh1"})
    told = await broker.fills(EPOCH)
    assert [one.fill.trade_id for one in told] == [trade["id"] for trade in every]
    assert len(begun) == 4


@pytest.mark.parametrize("ours", ["kh1", None])
async def test_an_order_is_asked_for_its_name_once(ours: str | None) -> None:
    """Every look lists the day's trades again: a request for each of their orders would use up the rate limit."""
    asked: list[str] = []

    async def fetch_order(number: str, symbol: str) -> dict[str, Any]:
        asked.append(number)
        return {"clientOrderId": ours}

    broker = stub(fetch_my_trades=[RAW | {"order": "7", "price": 100.0}], fetch_order=fetch_order)
    for _ in range(3):
        (told,) = await broker.fills(EPOCH)
        assert told.client_order_id == (ours or "")
    assert asked == ["7"]


async def test_orders_are_told_apart_by_symbol_and_number() -> None:
    """Binance numbers each symbol's orders anew: a trade is not another symbol's order's because of its number."""

    async def trades(symbol: str, since: int) -> list[dict[str, Any]]:
        return [RAW | {"order": "7", "symbol": symbol, "price": 100.0}]

    async def fetch_order(number: str, symbol: str) -> dict[str, Any]:
        return {"clientOrderId": f"kh {symbol}"}

    broker = stub(fetch_my_trades=trades, fetch_order=fetch_order)
    broker._settings = replace(SETTINGS, symbols=("BTC/USDT", "ETH/USDT"))
    assert {one.client_order_id for one in await broker.fills(EPOCH)} == {"kh BTC/USDT", "kh ETH/USDT"}


async def test_pages_of_fifty_trades_are_all_read() -> None:
    """A page repeats the newest trade of the one before, so that what is new of it is one less than a page."""
    fields = {"order": "7", "symbol": "BTC/USDT", "side": "buy", "price": 100.0, "amount": 1.0}
    every = [fields | {"id": str(number), "timestamp": 1_000 * number} for number in range(170)]

    async def page(symbol: str, since: int) -> list[dict[str, Any]]:
        return [trade for trade in every if trade["timestamp"] >= since][:50]

    told = await stub(fetch_my_trades=page, fetch_order={"clientOrderId": "kh1"}).fills(EPOCH)
    assert len(told) == 170


@pytest.mark.parametrize("answer", [None, 5, [None], ["x"], [[]], [{"id": "1", "timestamp": 1}]], ids=repr)
@pytest.mark.parametrize("question", ["fills", "open_orders", "orders_of_fills", "book", "search"])
async def test_lists_of_another_shape_break_the_protocol(question: str, answer: Any) -> None:
    """Rows that are none, or lack what they are read by, end in an error of ours: any other would end the desk."""
    trades = [RAW | {"order": "7", "price": 100.0}] if question == "orders_of_fills" else answer
    balance = {"BTC": {"total": 1.0}, "USDT": {"total": 1.0, "free": 1.0}}
    lists = dict.fromkeys(("fetch_open_orders", "fetch_closed_orders", "fetch_order", "fetch_order_book"), answer)
    broker = stub(fetch_my_trades=trades, fetch_balance=balance, **lists)
    asked = {"fills": broker.fills(EPOCH), "orders_of_fills": broker.fills(EPOCH), "open_orders": broker.open_orders()}
    asked |= {"book": broker.account(), "search": broker._search("kh1", "BTC/USDT")}
    broker._exchange.has = {"fetchOpenOrders": True}
    if question == "search" and answer == [{"id": "1", "timestamp": 1}]:
        assert await asked[question] is None  # another order of few words
    else:
        with pytest.raises((ProtocolError, TransientError)):
            await asked[question]
    for left in asked.values():
        left.close()


async def test_what_is_found_and_cannot_be_read_is_not_absent() -> None:
    """A list that shows our order without its quantity does not say that there is none."""
    broker = stub(fetch_open_orders=[RAW | {"amount": None}])
    broker._exchange.has = {"fetchOpenOrders": True}
    with pytest.raises(ProtocolError):
        await broker._search("kh1", "BTC/USDT")


@pytest.mark.parametrize("price", [None, 0.0])
async def test_a_book_without_a_price_values_nothing(price: float | None) -> None:
    """A position valued at nothing would be a loss that halts."""
    balance = {"BTC": {"total": 1.0}, "USDT": {"total": 1.0, "free": 1.0}}
    book = {"bids": [[price, 1.0]], "asks": [[100.0, 1.0]]}
    with pytest.raises(TransientError, match="no price"):
        await stub(fetch_balance=balance, fetch_order_book=book).account()


def test_an_order_that_is_closed_and_tells_no_quantity_is_unknown() -> None:
    """Read as one without a fill, what it did fill would be asked for a second time."""
    assert read_order(RAW | {"status": "closed", "filled": None}) is None
    ended = read_order(RAW | {"status": "closed", "filled": 0.5})
    assert ended is not None
    assert (ended.status, ended.filled_quantity) == (Status.EXPIRED, Decimal("0.5"))


@pytest.mark.parametrize("name", ["bitfinex", "bithumb"])
def test_an_exchange_that_counts_digits_is_refused(name: str) -> None:
    """Five digits are no step of five: orders would be rounded to nothing, or priced beyond the market."""
    with pytest.raises(ConfigurationError, match="counts digits"):
        open_exchange(replace(SETTINGS, exchange=name))


async def test_a_passphrase_goes_to_the_exchange_and_into_no_message() -> None:
    """OKX signs with a third secret: without it nothing is opened, with it ccxt has it, and no error shows it."""
    okx = replace(SETTINGS, exchange="okx", allow_non_idempotent="okx")
    with pytest.raises(ConfigurationError, match="KLINEHOUSE_SANDBOX_PASSPHRASE"):
        open_exchange(okx)
    told = replace(okx, passphrase=SecretStr("canary-phrase"))
    exchange = open_exchange(told)
    assert exchange.password == "canary-phrase"  # noqa: S105
    await exchange.close()
    assert "canary-phrase" not in str(read_objection(Exception('{"msg":"canary-phrase"}'), told.secrets))
    assert "canary-phrase" not in repr(told)
