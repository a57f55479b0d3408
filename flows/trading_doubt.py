"""Sending orders, and finding out what became of those whose outcome is unknown: after a lost reply or a crash alike.

An order is sent again only where `tasks.orders.guarantees.next_step` says that its absence is proved, under the same
id, and only if risk would still let it pass. An order the broker once acknowledged is never sent again. A broker that
refuses the second request has said nothing about the first, which may still be on its way: the order stays in doubt
until that one is dead too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from time import monotonic_ns, perf_counter

from flows.trading_account import LEFT_BEHIND, is_sending
from flows.trading_core import Adopt, Core, Doubt, Priority, event, log
from tasks.broker.port import BrokerOrder, DefiniteRejection, NotSentError, Recorded
from tasks.errors import ProtocolError, TransientError
from tasks.journal.entries import Entry, Kind, Line
from tasks.orders.guarantees import Step, next_step
from tasks.orders.lifecycle import Applied
from tasks.orders.order import UNCERTAIN, Order, OrderRequest, Pending, Status
from tasks.orders.states import Happening

#: An adapter that does not answer for so long is taken as one that does not know.
SUBMIT_TIMEOUT_S = 30.0


class Doubts:
    """Every order from its sending to its answer.

    Args:
        core: The desk's world.
        adopt: Takes over what the broker says of an order.
        objection: Why an order must not be sent again now, empty where it may.
        compared: Whether journal and broker were held against each other since a moment of the steady clock; where not,
            they will be.
        sent: Counts a request towards the order rates, the first and every further one.
        skew_s: How far our clock and the broker's may be apart.
        step: The rule; tests put broken ones here.
    """

    def __init__(
        self,
        core: Core,
        *,
        adopt: Adopt,
        objection: Callable[[Order, Doubt], str],
        compared: Callable[[float], Awaitable[bool]],
        sent: Callable[[OrderRequest], None],
        skew_s: float,
        step: Callable[..., Step] = next_step,
    ) -> None:
        self._core, self._adopt, self._objection, self._sent = core, adopt, objection, sent
        self._compared = compared
        self._skew_s, self._step = skew_s, step
        core.followers.append(self._follow)

    @property
    def unresolved(self) -> bool:
        """Whether an order's outcome is unknown and may yet be found out."""
        return any(not doubt.given_up for doubt in self._core.doubts.values())

    @property
    def lingering(self) -> bool:
        """Whether that is so of an order which is not just being sent for the first time."""
        doubts, order = self._core.doubts.items(), self._core.order
        return any(
            not doubt.given_up and (found := order(key)) is not None and found.status is not Status.SUBMITTING
            for key, doubt in doubts
        )

    def submit(
        self,
        request: OrderRequest,
        sent_at: datetime,
        decided_at: datetime,
        *,
        before_s: float | None = None,
        durable: Awaitable[None] | None = None,
    ) -> None:
        """Send an order once its intent is durable; the request is made meanwhile.

        Args:
            request: What to send.
            sent_at: The moment its deadline counts from.
            decided_at: When its signal was decided.
            before_s: When it was sent the time before, where it was.
            durable: Tells when its intent is; None where it is already.
        """
        doubt = Doubt(self._core.steady(), decided_at, busy=True, before_s=before_s)
        self._core.doubts[request.client_order_id] = doubt
        self._sent(request)
        self._core.spawn(self._submit(request, sent_at, partial(self._recorded, request, doubt, durable)), first=True)

    async def recall(self) -> None:
        """Take up every order that an earlier process left without an answer, timed from its last intent to send."""
        core, entries = self._core, []
        for identifier, order in core.working.items():
            if order.status in UNCERTAIN:
                core.doubts[identifier] = self._recalled(identifier)
            if order.status is Status.SUBMITTING:
                entries.append(event(identifier, Happening.OUTCOME_UNKNOWN, LEFT_BEHIND))
        await core.commit(*entries)

    async def resolve(self) -> None:
        """Do the next thing about every order in doubt."""
        now_s = self._core.steady()
        for identifier, doubt in list(self._core.doubts.items()):
            order = self._core.order(identifier)
            if order is None or doubt.busy or doubt.given_up:
                continue
            since_s = now_s - doubt.sent_s
            profile = self._core.broker.profile
            step = self._step(
                profile,
                since_sent_s=since_s,
                not_found=doubt.not_found,
                skew_s=self._skew_s,
                refused=bool(doubt.refused),
            )
            if step is Step.QUERY:
                self._ask(order.request, doubt, since_s)
            elif step is Step.PROVED_ABSENT:
                await self._absent(order, doubt, since_s)
            elif step is Step.GIVE_UP and doubt.looked_at:
                await self._put_down(identifier, doubt, "a person looked, and the broker does not find it")
            elif step is Step.GIVE_UP:
                await self._give_up(identifier, doubt, "the broker neither finds it nor proves its absence")

    def settle(self) -> None:
        """Ask once more about what was given up: a person has looked."""
        for doubt in self._core.doubts.values():
            if doubt.given_up:
                doubt.given_up, doubt.looked_at, doubt.not_found = False, True, 0

    def ask(self, order: Order) -> None:
        """Ask the broker about an order at once; an answer "not found" counts for nothing yet."""
        core = self._core
        doubt = core.doubts.setdefault(order.request.client_order_id, Doubt(core.steady(), core.clock()))
        if not doubt.busy and not doubt.given_up:
            self._ask(order.request, doubt, None)

    def _follow(self, applied: Applied) -> None:
        if applied.query and applied.order.request.client_order_id not in self._core.doubts:
            self.ask(applied.order)

    def _recalled(self, identifier: str) -> Doubt:
        sent: list[Line] = []
        decided_at, refused = None, ""
        for line in self._core.journal.lines(identifier):
            if is_sending(line):
                sent.append(line)
            elif line.kind == Kind.REPLY and "refused_again" in line.body():
                sent, refused = sent[:-1], line.body()["refused_again"]
            elif line.kind == Kind.SIGNAL:
                decided_at = datetime.fromisoformat(line.body()["decided_at"])
        sent_s = [self._core.steady() - self._age_s(line) for line in sent]
        before_s = sent_s[-2] if len(sent_s) > 1 else None
        decided_at = decided_at or datetime.fromtimestamp(sent[-1].wall_ns / 1e9, self._core.clock().tzinfo)
        return Doubt(sent_s[-1], decided_at, before_s=before_s, refused=refused)

    def _age_s(self, line: Line) -> float:
        """Return how long ago an earlier process wrote a line.

        The wall clock may have been set since. The monotonic one ran on, or began anew with the machine and shows too
        little, which only prolongs a doubt; what the broker may have forgotten is for the wall clock to say.
        """
        by_wall = max(self._core.clock().timestamp() - line.wall_ns / 1e9, 0.0)  # else it was set back
        ran_s = (monotonic_ns() - line.mono_ns) / 1e9
        is_known = ran_s >= 0 and by_wall < self._core.broker.profile.retention_s
        return min(by_wall, ran_s) if is_known else by_wall

    async def _recorded(self, request: OrderRequest, doubt: Doubt, durable: Awaitable[None] | None) -> None:
        """Return once an order may leave. What it may take to have an effect counts from there."""
        if durable is not None:
            await durable
            self._core.failpoint("K2")
        order = self._core.order(request.client_order_id)
        if order is not None and order.pending is Pending.CANCEL:  # by a halt, too, while it waited for its turn
            raise NotSentError(f"{request.client_order_id}: its cancellation was asked for before it left: not sent")
        doubt.sent_s = self._core.steady()

    async def _submit(self, request: OrderRequest, sent_at: datetime, recorded: Recorded) -> None:
        core, began = self._core, perf_counter()
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                found = await core.broker.submit(request, sent_at, recorded)
        except DefiniteRejection as error:
            happening, said = Happening.REJECTED, str(error)
        except NotSentError as error:
            happening, said = Happening.NOT_SENT, str(error)
        except Exception as error:  # noqa: BLE001  (whatever else went wrong, the order may be at the broker)
            happening, said = Happening.OUTCOME_UNKNOWN, f"{type(error).__name__}: {error}"
        else:
            source = f"submit, {perf_counter() - began:.3f} s"
            core.put(Priority.REPLY, partial(self._told, request.client_order_id, found, source))
            return
        core.put(Priority.REPLY, partial(self._failed, request.client_order_id, happening, said))

    async def _failed(self, identifier: str, happening: Happening, said: str) -> None:
        core, doubt, order = self._core, self._core.doubts.get(identifier), self._core.order(identifier)
        core.failpoint("K7")
        if happening is Happening.REJECTED and order is not None and order.status not in UNCERTAIN:
            # The broker spoke of the order meanwhile: another request of it, or the stream, was quicker than this one.
            await core.commit(Entry(Kind.REPLY, identifier, {"refused": said, "while": order.status}))
            if not order.is_terminal:
                self.ask(order)
            return
        if happening is Happening.REJECTED and doubt is not None and doubt.before_s is not None:
            await core.commit(Entry(Kind.REPLY, identifier, {"refused_again": said}))
            core.doubts[identifier] = Doubt(doubt.before_s, doubt.decided_at, refused=said)
            return
        (applied,) = await core.commit(event(identifier, happening, said))
        core.failpoint("K8")
        if doubt is None:
            return
        doubt.busy, doubt.not_found = False, 0
        if applied.order.status not in UNCERTAIN:
            core.doubts.pop(identifier, None)

    def _ask(self, request: OrderRequest, doubt: Doubt, counts_at_s: float | None) -> None:
        doubt.busy = True
        self._core.spawn(self._query(request, counts_at_s))

    async def _query(self, request: OrderRequest, counts_at_s: float | None) -> None:
        identifier = request.client_order_id
        try:
            found = await self._core.answered(self._core.broker.query(identifier, request.symbol))
        except (TransientError, ProtocolError) as error:
            log.warning("query.failed", client_order_id=identifier, error=str(error))
            self._core.put(Priority.TICK, partial(self._unanswered, identifier))
            return
        self._core.failpoint("K13")
        self._core.put(Priority.REPLY, partial(self._answered, identifier, found, counts_at_s))

    async def _unanswered(self, identifier: str) -> None:
        doubt = self._core.doubts.get(identifier)
        if doubt is not None:
            doubt.busy = False

    async def _answered(self, identifier: str, found: BrokerOrder | None, counts_at_s: float | None) -> None:
        if found is not None:
            await self._told(identifier, found, "query")
            return
        doubt = self._core.doubts.get(identifier)
        if doubt is None:
            return  # an answer came another way meanwhile
        doubt.busy = False
        if counts_at_s is not None:
            doubt.not_found, doubt.asked_after_s = doubt.not_found + 1, counts_at_s
        await self._core.commit(event(identifier, Happening.NOT_FOUND, "the broker does not find it"))

    async def _told(self, identifier: str, found: BrokerOrder, source: str) -> None:
        """Take over an answer; one that does not tell of this order, or contradicts it, leaves it to be asked for."""
        await self._adopt(found, source)
        doubt = self._core.doubts.get(identifier)
        if doubt is not None:
            doubt.busy = False

    async def _absent(self, order: Order, doubt: Doubt, since_s: float) -> None:
        """Send an order again that cannot become two, or put down that it was never placed."""
        request, now = order.request, self._core.clock()
        if doubt.refused:
            await self._core.commit(event(request.client_order_id, Happening.REJECTED, doubt.refused))
            self._core.doubts.pop(request.client_order_id, None)
            return
        seen = order.status not in UNCERTAIN or bool(order.broker_order_ids or order.fills)
        objection = "the broker knew it once" if seen else self._objection(order, doubt)
        if not objection and not await self._compared(doubt.sent_s + doubt.asked_after_s):
            return  # its position may tell of the order that a query does not find
        if not objection:
            again = {"again": True, "because": "its absence was proved", "since_sent_s": round(since_s, 3)}
            await self._core.commit(Entry(Kind.SEND, request.client_order_id, again))
            self._core.failpoint("K14")
            self.submit(request, now, doubt.decided_at, before_s=doubt.sent_s)
            return
        # Where ids are unique for ever, sending again needs no proof; "never placed" does.
        conclusive_s = self._core.broker.profile.conclusive_after_s(self._skew_s)
        if doubt.asked_after_s >= conclusive_s:
            await self._put_down(request.client_order_id, doubt, objection)
        elif since_s >= conclusive_s:
            self._ask(request, doubt, since_s)

    async def _put_down(self, identifier: str, doubt: Doubt, reason: str) -> None:
        (applied,) = await self._core.commit(event(identifier, Happening.PROVED_ABSENT, reason))
        if applied.order.status in UNCERTAIN:
            await self._give_up(identifier, doubt, "the broker forgot an order it had acknowledged")
        else:
            self._core.doubts.pop(identifier, None)

    async def _give_up(self, identifier: str, doubt: Doubt, reason: str) -> None:
        doubt.given_up = True
        await self._core.commit(Entry(Kind.ANOMALY, identifier, {"in_doubt": reason}))
        log.error("order.in_doubt", client_order_id=identifier, reason=reason)
