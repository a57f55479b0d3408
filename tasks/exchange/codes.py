"""The vendor's answer codes, mapped to errors by what cures them."""

from __future__ import annotations

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

SUCCESS = 0

_CONFIGURATION = {
    1001: "the API key is not valid: set a valid key",
    1002: "no API key arrived: set the key",
    1003: "this machine's address is not on the key's list: add it at the vendor, or use another key",
    1004: "the plan lacks this right: use a higher plan, or ask for less history",
    3003: "too many connections for the plan: close one, or use a higher plan",
    3004: "too many subscriptions for the plan: subscribe to fewer symbols, or use a higher plan",
    4003: "the plan or symbol has no depth channel: read /v1/market/depth instead",
    4004: "the plan or symbol has no trade channel: read /v1/market/trades instead",
}
_INPUT = {
    2001: "a parameter is wrong",
    2003: "the time range is wrong",
    2004: "the limit is too large",
    400: "a parameter is wrong",
}
_PROTOCOL = {
    4001: "the vendor does not know the command we sent: a defect of ours",
    4002: "the vendor cannot read the message we sent: a defect of ours",
    404: "the vendor has no such endpoint: check base_url",
}
_TRANSIENT = {5000: "server error", 5001: "service unavailable", 5002: "upstream timeout"}
_UNAUTHORISED = (401, 403)
_TOO_MANY_REQUESTS = 429
_FIRST_SERVER_ERROR = 500


def error_for(code: int, message: str, *, where: str, retry_after_s: float | None = None) -> KlinehouseError:
    """Return the error that an answer means.

    Args:
        code: The vendor's code; an HTTP status where the answer had no readable body.
        message: The vendor's own words, free of secrets.
        where: The request, as the reader of the error should see it.
        retry_after_s: Seconds the vendor asked us to wait.
    """
    said = f"{where}: vendor code {code} ({message})"
    if code in _CONFIGURATION:
        return ConfigurationError(f"{said}: {_CONFIGURATION[code]}")
    if code in _UNAUTHORISED:
        return ConfigurationError(f"{said}: the vendor refuses the key: check the key and the plan")
    if code == 2002:
        return UnknownSymbolError(f"{said}: the vendor does not list this symbol: check its spelling")
    if "AMBIGUOUS_SYMBOL" in message:
        return InputError(f"{said}: several instruments share this symbol: name its type (stock, crypto, …)")
    if code in _INPUT:
        return InputError(f"{said}: {_INPUT[code]}")
    if code in (3001, _TOO_MANY_REQUESTS):
        return RateLimitedError(f"{said}: rate limit; lower requests_per_minute if this repeats", retry_after_s)
    if code == 3002:
        return QuotaExhaustedError(f"{said}: the quota is used up; run again after its reset, saved pages are kept")
    if code in _TRANSIENT or _FIRST_SERVER_ERROR <= code < 600:
        return TransientError(f"{said}: {_TRANSIENT.get(code, 'server error')}; retried within bounds")
    return ProtocolError(f"{said}: {_PROTOCOL.get(code, 'a code the published protocol does not name')}")
