"""The simulator's own paths, for tests and clients in other processes: look at the truth, switch the faults.

They belong to nobody's protocol, need no key, and are never struck by a fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from aiohttp import web

from tasks.errors import InputError
from tasks.simulator.faults import ENDINGS, Injection
from tasks.simulator.refusals import Refusal, envelope
from tasks.simulator.rest import refused
from tasks.simulator.venue import Venue

Kind = TypeVar("Kind")


def changed_faults(current: Kind, changes: Mapping[str, Any]) -> Kind:
    """Return faults with some fields changed; lists become tuples.

    Raises:
        InputError: A name is no field, or a value is out of range; the message lists the names.
    """
    known = {field.name for field in fields(current)}  # type: ignore[arg-type]
    unknown = set(changes) - known
    if unknown:
        raise InputError(f"faults: expected some of {' '.join(sorted(known))}, found {' '.join(sorted(unknown))}")
    return replace(current, **{name: tuple(v) if isinstance(v, list) else v for name, v in changes.items()})  # type: ignore[type-var]


class Steering:
    """Serves ``/simulator/…``.

    Args:
        venue: Whose orders are shown, without lag and retention.
        injected: Returns every fault that happened.
        switches: For each kind of faults (``rest``, ``stream``, ``orders``) how to read and replace it.
        strikes: For each stream (``realtime``, ``private``) what ends its connections in a way of `ENDINGS`.
    """

    def __init__(
        self,
        venue: Venue,
        injected: Callable[[], tuple[Injection, ...]],
        switches: Mapping[str, tuple[Callable[[], Any], Callable[[Any], None]]],
        strikes: Mapping[str, Callable[[str], int]],
    ) -> None:
        self._venue = venue
        self._injected = injected
        self._switches = switches
        self._strikes = strikes

    def join(self, app: web.Application) -> None:
        """Add the paths to an application."""
        app.router.add_get("/simulator/orders", self._orders)
        app.router.add_get("/simulator/injected", self._list_injected)
        app.router.add_put("/simulator/faults/{kind}", self._switch)
        app.router.add_post("/simulator/strike/{stream}/{how}", self._struck)

    async def _orders(self, request: web.Request) -> web.Response:
        """Show every account: all orders and fills, and the positions, as they truly are."""
        self._venue.advance()
        truth = {
            key: {
                "orders": [order.describe() for order in account.orders()],
                "fills": [fill.describe() for fill in account.fills],
                "positions": account.describe_positions(),
                "cash": str(account.cash),
            }
            for key, account in self._venue.accounts.items()
        }
        return _answer(truth)

    async def _list_injected(self, request: web.Request) -> web.Response:
        listed = [
            {
                "fault": item.fault,
                "target": item.target,
                "symbol": item.symbol,
                "interval": item.interval,
                "timestamp": item.timestamp.isoformat() if item.timestamp else None,
            }
            for item in self._injected()
        ]
        return _answer(listed)

    async def _switch(self, request: web.Request) -> web.Response:
        """Change fields of one kind of faults; an empty object changes nothing and is the way to read it."""
        kind = request.match_info["kind"]
        if kind not in self._switches:
            return refused(Refusal(404, f"faults are {', '.join(self._switches)}"))
        read, write = self._switches[kind]
        try:
            write(changed_faults(read(), json.loads(await request.read() or b"{}")))
        except (InputError, TypeError, ValueError) as error:
            return refused(Refusal(2001, str(error)))
        current = read()
        return _answer({field.name: getattr(current, field.name) for field in fields(current)})

    async def _struck(self, request: web.Request) -> web.Response:
        stream, how = request.match_info["stream"], request.match_info["how"]
        if stream not in self._strikes or how not in ENDINGS:
            return refused(Refusal(404, f"streams are {', '.join(self._strikes)}; endings are {', '.join(ENDINGS)}"))
        return _answer({"struck": self._strikes[stream](how)})


def _answer(data: object) -> web.Response:
    return web.Response(body=envelope(data), content_type="application/json")
