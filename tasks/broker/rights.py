"""What an exchange says its key may do, read from its own answers. Pure; a table of who tells, and how.

ccxt has no unified question for it, so that each exchange's own one is named. An exchange that is not in the table does
not tell, or nobody has checked how: its key's rights are unknown, and a person has to look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.errors import ConfigurationError, ProtocolError


@dataclass(frozen=True, slots=True)
class Rights:
    """What a key may do."""

    trade: bool
    withdraw: bool


@dataclass(frozen=True, slots=True)
class Question:
    """How an exchange is asked.

    Attributes:
        method: ccxt's name of the exchange's own question.
        read: Reads the answer; whatever it raises means that the answer had another shape.
    """

    method: str
    read: Callable[[Any], Rights]


def _binance(answer: Any) -> Rights:
    return Rights(_yes(answer["enableSpotAndMarginTrading"]), _yes(answer["enableWithdrawals"]))


def _binance_futures(answer: Any) -> Rights:
    return Rights(_yes(answer["enableFutures"]), _yes(answer["enableWithdrawals"]))


def _bybit(answer: Any) -> Rights:
    key = answer["result"]
    return Rights(int(key["readOnly"]) == 0, "Withdraw" in key["permissions"]["Wallet"])


def _okx(answer: Any) -> Rights:
    may = answer["data"][0]["perm"].split(",")
    return Rights("trade" in may, "withdraw" in may)


def _coinbase(answer: Any) -> Rights:
    return Rights(_yes(answer["can_trade"]), _yes(answer["can_transfer"]))


def _yes(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, found {value!r}")
    return value


_SAPI, _OKX = "sapiGetAccountApiRestrictions", "privateGetAccountConfig"
#: By the documents of Binance and Coinbase, SDKs of Bybit, and common use for OKX. None was asked for real.
QUESTIONS: dict[str, Question] = {
    "binance": Question(_SAPI, _binance),
    "binanceusdm": Question(_SAPI, _binance_futures),
    "binancecoinm": Question(_SAPI, _binance_futures),
    "bybit": Question("privateGetV5UserQueryApi", _bybit),
    "okx": Question(_OKX, _okx),
    "okxus": Question(_OKX, _okx),
    "myokx": Question(_OKX, _okx),
    "coinbase": Question("v3PrivateGetBrokerageKeyPermissions", _coinbase),
}


def read_rights(exchange: str, answer: Any) -> Rights:
    """Read an exchange's answer about a key.

    Raises:
        ProtocolError: It has another shape than documented.
    """
    try:
        return QUESTIONS[exchange].read(answer)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"{exchange}: a key's rights of an unexpected shape ({type(error).__name__})") from None


def check_rights(exchange: str, rights: Rights | None) -> None:
    """Refuse a key that may do what it must not, or not what it must; None means that nobody told.

    Raises:
        ConfigurationError: It may withdraw, or may not trade.
    """
    if rights is None:
        return
    if rights.withdraw:
        raise ConfigurationError(
            f"{exchange} key: expected one that may not withdraw, found one that may: who steals it takes the money; "
            "make another key with trading alone"
        )
    if not rights.trade:
        raise ConfigurationError(f"{exchange} key: expected one that may trade, found one that may only read")
