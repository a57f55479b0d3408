"""What a key may do, as each exchange tells it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ccxt.async_support as ccxt
import pytest

from tasks.broker.ccxt import CcxtBroker
from tasks.broker.rights import QUESTIONS, Rights, check_rights, read_rights
from tasks.errors import ConfigurationError, ProtocolError, TransientError
from tests.broker.contract import assert_secret_free
from tests.broker.test_ccxt import SECRET, SETTINGS, now

#: As the exchanges' documents show it, for a key that may trade and withdraw.
ANSWERS: dict[str, Any] = {
    "binance": {"enableReading": True, "enableWithdrawals": True, "enableSpotAndMarginTrading": True},
    "binanceusdm": {"enableWithdrawals": True, "enableFutures": True, "enableSpotAndMarginTrading": False},
    "bybit": {"retCode": 0, "result": {"readOnly": 0, "permissions": {"Wallet": ["AccountTransfer", "Withdraw"]}}},
    "okx": {"code": "0", "data": [{"acctLv": "2", "perm": "read_only,withdraw,trade"}]},
    "coinbase": {"can_view": True, "can_trade": True, "can_transfer": True},
}
SAFE: dict[str, Any] = {
    "binance": ANSWERS["binance"] | {"enableWithdrawals": False},
    "binanceusdm": ANSWERS["binanceusdm"] | {"enableWithdrawals": False},
    "bybit": {"retCode": 0, "result": {"readOnly": 0, "permissions": {"Wallet": ["AccountTransfer"]}}},
    "okx": {"code": "0", "data": [{"acctLv": "2", "perm": "read_only,trade"}]},
    "coinbase": ANSWERS["coinbase"] | {"can_transfer": False},
}


@pytest.mark.parametrize("exchange", ANSWERS)
def test_a_key_that_may_withdraw_is_refused(exchange: str) -> None:
    """Each exchange's own words for withdrawing refuse the key, and without them it passes."""
    assert read_rights(exchange, ANSWERS[exchange]) == Rights(trade=True, withdraw=True)
    with pytest.raises(ConfigurationError, match="may not withdraw"):
        check_rights(exchange, read_rights(exchange, ANSWERS[exchange]))
    check_rights(exchange, read_rights(exchange, SAFE[exchange]))


def test_a_key_that_may_only_read_is_refused() -> None:
    """It would be refused with each order, and three refusals halt."""
    with pytest.raises(ConfigurationError, match="may trade"):
        check_rights("okx", read_rights("okx", {"data": [{"perm": "read_only"}]}))


@pytest.mark.parametrize("answer", [None, [], {}, {"data": []}, {"enableWithdrawals": "no"}, "no", [["withdraw"]]])
@pytest.mark.parametrize("exchange", ANSWERS)
def test_an_answer_of_another_shape_says_nothing(exchange: str, answer: Any) -> None:
    """What cannot be read is no leave to trade."""
    with pytest.raises(ProtocolError):
        read_rights(exchange, answer)


@pytest.mark.parametrize("exchange", QUESTIONS)
def test_every_question_exists(exchange: str) -> None:
    """The table holds the name by which ccxt knows each question."""
    assert callable(getattr(getattr(ccxt, exchange)(), QUESTIONS[exchange].method))


class AskedExchange:
    """A client of Binance that answers about its key, or fails."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def sapiGetAccountApiRestrictions(self) -> Any:  # noqa: N802  (ccxt's name)
        """Return the answer."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (ANSWERS["binance"], ConfigurationError),
        (SAFE["binance"], None),
        (ccxt.AuthenticationError(f"binance GET https://a?signature={SECRET}"), ConfigurationError),
        (ccxt.RequestTimeout(f"binance GET https://a?signature={SECRET}"), TransientError),
        ({}, ProtocolError),
    ],
)
async def test_the_broker_asks_about_its_key(answer: Any, raised: type[Exception] | None) -> None:
    """A live key is asked about; where the exchange fails to answer nothing is begun, and nothing secret is told."""
    broker = CcxtBroker(replace(SETTINGS, sandbox=False), clock=now, exchange=AskedExchange(answer))
    if raised is None:
        assert await broker.check_key() is True
    else:
        with pytest.raises(raised) as caught:
            await broker.check_key()
        assert_secret_free(caught.value, SECRET)
    await broker.close()


@pytest.mark.parametrize("changes", [{"sandbox": True}, {"sandbox": False, "exchange": "kraken"}])
async def test_who_does_not_tell_is_not_asked(changes: dict[str, Any]) -> None:
    """A sandbox holds no money, and an exchange outside the table tells nothing: a person has to look."""
    broker = CcxtBroker(replace(SETTINGS, **changes), clock=now, exchange=AskedExchange(RuntimeError("asked")))
    assert await broker.check_key() is False
    await broker.close()
