"""From a proposal to what the journal says of it: the order, risk's verdict, and what both were decided from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from flows.trading_account import Exposure
from flows.trading_core import Core, event
from flows.trading_parents import Parents
from flows.trading_proposal import Proposal
from tasks.journal.entries import Entry, Kind
from tasks.orders.account import Book, Market, Verdict
from tasks.orders.collar import capped
from tasks.orders.order import OrderRequest
from tasks.orders.risk import check
from tasks.orders.states import Happening

_REHEARSED = "rehearsed, never sent"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a proposal.

    Attributes:
        request: The order, with its collar.
        verdict: Whether it may be sent.
        entries: All of it for the journal, its intent to be sent included where it may.
    """

    request: OrderRequest
    verdict: Verdict
    entries: tuple[Entry, ...]


class Decisions:
    """Decides on proposals, and changes nothing.

    Args:
        core: The desk's world.
        exposure: What the limits are held against.
        parents: What the orders of a signal asked for together.
        market: What is known of a symbol right now.
        book: The account at this moment.
    """

    def __init__(
        self,
        core: Core,
        exposure: Exposure,
        parents: Parents,
        *,
        market: Callable[[str], Market],
        book: Callable[[], Book],
    ) -> None:
        self._core, self._exposure, self._parents = core, exposure, parents
        self._market, self._book = market, book
        self._last: Proposal | None = None

    def decide(self, request: OrderRequest, proposal: Proposal, now: datetime) -> Decision:
        """Return what becomes of a proposal at this moment."""
        age_s, market = (now - proposal.decided_at).total_seconds(), self._market(request.symbol)
        book, limits, now_s = self._book(), self._exposure.limits, self._core.steady()
        if self._core.broker.features.immediate_limits:
            request = capped(request, market, limits)
        parent = self._parents.of(request, proposal.parent_quantity)
        verdict = check(request, book, market, limits, now_s=now_s, signal_age_s=age_s, parent=parent)
        verdict = proposal.judged(verdict, request, book)
        held = book.positions.get(request.symbol)
        inputs = {"market": market, "state": book.state, "equity": book.equity, "position": held}
        happening = Happening.SUBMIT_INTENDED if verdict.passed else Happening.RISK_DENIED
        identifier, self._last = request.client_order_id, proposal
        entries = (
            Entry(Kind.SIGNAL, identifier, proposal.signal()),
            Entry(Kind.CREATED, identifier, request),
            Entry(Kind.RISK, identifier, {"verdict": verdict, "inputs": inputs}),
            event(identifier, happening, verdict.reason),
        )
        return Decision(request, verdict, entries)

    def rehearse(self) -> None:
        """Decide once more on the last proposal, as if it came anew, and forget the outcome.

        An order's way is gone so seldom that the processor has its code and data no more, and then takes several times
        as long for it.
        """
        if self._last is not None and self._core.is_idle:
            now = self._core.clock()
            proposal = replace(self._last, signal_key=_REHEARSED, decided_at=now)
            decision = self.decide(proposal.request(self._core.account), proposal, now)
            self._core.journal.rehearse(decision.entries)
