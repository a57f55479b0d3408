"""The vendor's error codes and, above 6000, the local market's own for orders: HTTP status and words of each."""

from __future__ import annotations

import json
from typing import Any

#: Code → HTTP status and the vendor's words.
CODES: dict[int, tuple[int, str]] = {
    404: (404, "Not found"),
    1001: (401, "Invalid API key"),
    1002: (401, "API key missing"),
    1003: (403, "IP address not in the whitelist"),
    1004: (403, "Plan does not include this right"),
    2001: (400, "Invalid parameters"),
    2002: (404, "Symbol not found"),
    2003: (400, "Invalid time range"),
    2004: (400, "Limit exceeds the maximum"),
    3001: (429, "Rate limit exceeded"),
    3002: (403, "Quota exhausted"),
    3003: (403, "Too many connections"),
    3004: (403, "Too many subscriptions"),
    4001: (400, "Unknown command"),
    4002: (400, "Malformed message"),
    4003: (403, "Depth channel unavailable, use GET /v1/market/depth"),
    4004: (403, "Trade channel unavailable, use GET /v1/market/trades"),
    5000: (500, "Internal server error"),
    5001: (503, "Service unavailable"),
    5002: (504, "Upstream timeout"),
    6001: (404, "Order not found"),
    6002: (409, "Client order id already used"),
    6003: (400, "Order rejected"),
    6004: (400, "Request expired before it reached the matching engine"),
    6005: (409, "Order is no longer open"),
}


class Refusal(Exception):  # noqa: N818 - an answer on its way out, not a failure of ours
    """A request answered with an error code; raised by whoever finds the reason, written by the server.

    Attributes:
        code: The vendor's code, a key of `CODES`.
        message: The vendor's words, with the detail.
        data: What the error's body carries besides.
        headers: Extra headers of the answer.
    """

    def __init__(
        self, code: int, detail: str = "", *, data: object = None, headers: dict[str, str] | None = None
    ) -> None:
        words = CODES[code][1]
        super().__init__(code, f"{words}: {detail}" if detail else words)
        self.code = code
        self.message: str = self.args[1]
        self.data = data
        self.headers = headers or {}

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return CODES[self.code][0]

    def body(self) -> bytes:
        """The envelope as JSON."""
        return envelope(self.data, code=self.code, message=self.message)


def envelope(data: Any, *, code: int = 0, message: str = "success") -> bytes:
    """Wrap `data` as every answer is wrapped."""
    return json.dumps({"code": code, "message": message, "data": data}, separators=(",", ":")).encode()
