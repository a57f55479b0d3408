"""Every code of the vendor means one cure."""

from __future__ import annotations

import pytest

from tasks.errors import (
    ConfigurationError,
    InputError,
    KlinehouseError,
    ProtocolError,
    QuotaExhaustedError,
    RateLimitedError,
    TransientError,
    UnknownSymbolError,
)
from tasks.exchange.codes import error_for

CURES: dict[type[KlinehouseError], tuple[int, ...]] = {
    ConfigurationError: (1001, 1002, 1003, 1004, 3003, 3004, 4003, 4004, 401, 403),
    InputError: (2001, 2003, 2004, 400),
    UnknownSymbolError: (2002,),
    RateLimitedError: (3001, 429),
    QuotaExhaustedError: (3002,),
    ProtocolError: (4001, 4002, 404, 9999, 302),
    TransientError: (5000, 5001, 5002, 500, 502, 503),
}


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in CURES.items() for code in codes])
def test_a_code_means_its_cure(kind: type[KlinehouseError], code: int) -> None:
    """Each documented code, and each status of an answer without a body, is exactly one error class."""
    error = error_for(code, "as the vendor says", where="/v1/market/kline")
    assert type(error) is kind
    assert str(code) in str(error)
    assert "as the vendor says" in str(error)


def test_a_rate_limit_carries_the_wait() -> None:
    """The wait the vendor named travels with the error."""
    error = error_for(3001, "slow down", where="x", retry_after_s=7.0)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 7.0


def test_an_ambiguous_symbol_says_what_to_add() -> None:
    """The one parameter error with a cure of its own names it."""
    error = error_for(2001, "AMBIGUOUS_SYMBOL X, pass type as one of stock, crypto", where="x")
    assert isinstance(error, InputError)
    assert "name its type" in str(error)
