"""Cancelling orders, until the broker says that they ended. Asking twice is safe; forgetting to ask is not."""

from __future__ import annotations

from collections import Counter
from functools import partial
from time import monotonic

from flows.trading_core import Adopt, Core, Priority, event, log
from tasks.broker.port import DefiniteRejection
from tasks.journal.entries import Entry
from tasks.orders.lifecycle import Applied
from tasks.orders.order import UNCERTAIN, Order, OrderRequest, Pending, Status
from tasks.orders.states import Happening

#: A cancel that was not answered is sent again after so long.
RETRY_S = 2.0
#: Requests of one order that may be under way: behind a rate limit that is shut more would only pile up.
_MOST = 2
_NOT_YET = UNCERTAIN | {Status.INITIALIZED}


class Cancels:
    """Cancel requests of every order. One for an order in doubt waits until the broker acknowledged that order.

    Args:
        core: The desk's world.
        adopt: Takes over what the broker says of an order.
    """

    def __init__(self, core: Core, adopt: Adopt) -> None:
        self._core, self._adopt = core, adopt
        self._not_before: dict[str, float] = {}
        self._under_way: Counter[str] = Counter()
        self._refused: set[str] = set()
        core.followers.append(self._follow)

    async def request(self, identifier: str) -> None:
        """Note that an order shall be cancelled, and send that as soon as the broker knows the order."""
        if self._core.order(identifier) is None:  # its proposal may still wait, which this has overtaken
            self._core.put(Priority.PROPOSAL, partial(self._note, identifier))
        else:
            await self._note(identifier)

    async def _note(self, identifier: str) -> None:
        order = self._core.working.get(identifier)
        if order is not None and order.pending is not Pending.CANCEL:
            await self._core.commit(event(identifier, Happening.CANCEL_REQUESTED))

    async def retry(self) -> None:
        """Send again what was not answered, and what was refused while the order works all the same."""
        for identifier in self._refused - self._core.doubts.keys():  # else it is being asked for
            self._refused.discard(identifier)
            await self._note(identifier)
        for order in self._core.working.values():
            self._send_due(order)

    def _follow(self, applied: Applied) -> None:
        self._send_due(applied.order)

    def _send_due(self, order: Order) -> None:
        identifier = order.request.client_order_id
        if order.is_terminal:
            self._not_before.pop(identifier, None)
        elif order.pending is Pending.CANCEL and order.status not in _NOT_YET:
            now = monotonic()
            if now >= self._not_before.get(identifier, now) and self._under_way[identifier] < _MOST:
                self._not_before[identifier] = now + RETRY_S
                self._under_way[identifier] += 1
                self._core.failpoint("K11")
                self._core.spawn(self._send(order.request), first=True)

    async def _send(self, request: OrderRequest) -> None:
        identifier = request.client_order_id
        try:
            seen = await self._core.broker.cancel(identifier, request.symbol)
        except DefiniteRejection as error:
            refused = event(identifier, Happening.CANCEL_REFUSED, str(error))
            self._core.put(Priority.REPLY, partial(self._heed, refused))
        except Exception as error:  # noqa: BLE001  (whatever went wrong, the order may still work: ask again)
            log.warning("cancel.unanswered", client_order_id=identifier, error=f"{type(error).__name__}: {error}")
        else:
            self._core.failpoint("K12")
            self._core.put(Priority.REPLY, partial(self._adopt, seen, "cancel"))
        finally:
            self._under_way[identifier] -= 1
            if not self._under_way[identifier]:
                del self._under_way[identifier]

    async def _heed(self, refused: Entry) -> None:
        (applied,) = await self._core.commit(refused)
        if not applied.order.is_terminal:
            self._refused.add(refused.client_order_id)
