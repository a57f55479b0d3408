"""Why a live path differs from research: every difference with a cause that its evidence proves. Pure.

Nothing is explained by being left over. A decision's cause is found by repairing one thing about what the driver knew
and deciding again; a fill's by what the journal says of its order. What follows from an earlier difference has to show
it: the accounts were apart at that moment, and the same rule applied to the live account gives the live order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

import polars as pl

from flows.parity_causes import Account, Cause, Difference, Findings, near, told, view_word
from flows.parity_market import arrives_at, came_in_turn, is_charged, is_thin, may_refuse
from flows.parity_paths import Case, PathFill
from flows.parity_replay import LiveOrder, Replayed, Script
from flows.signals import Decision, views_of
from flows.trading_proposal import BOOK_GATE
from lake.bars import VALUES
from tasks.broker.matching import exact
from tasks.orders.order import Status
from tasks.sweep.costs import Costs

#: Differences that set positions apart for longer than an order is on its way, and not cash alone.
_SIZES = ("decision", "fill", "quantity")


def explain(
    case: Case, script: Script, live: Replayed, sweep: Sequence[PathFill], *, after: int = 0
) -> list[Difference]:
    """Return every difference between the sweep and the live path in the order of bars, each with its cause.

    Args:
        case: What was traded.
        script: What the live path met.
        live: What it did.
        sweep: What research did.
        after: How many differences were numbered before these.
    """
    found, account = Findings(case, after=after), Account(case.costs.initial_cash)
    planned = {fill.bar - 1: fill for fill in sweep}
    for row in range(case.first, len(case.stamps) - 1):
        decision, order, fill = live.decisions.get(row), live.orders.get(row), planned.get(row)
        if decision is not None and account.is_like(decision):
            found.apart.clear()
        _compare_views(found, script, live, row, decision)
        step = _Step(found, script, account, row, decision)
        if order is not None and fill is not None:
            step.compare(order, fill)
        elif fill is not None:
            step.only_research(fill)
        elif order is not None:
            step.only_live(order)
        if fill is not None:
            account.took(fill)
    return found.rows


def compare_engines(case: Case, sweep: Sequence[PathFill], event: Sequence[PathFill]) -> list[Difference]:
    """Return where the two research engines differ: never explained, as they are given the same."""
    ours, theirs = ({fill.bar: fill for fill in fills} for fills in (sweep, event))
    bars = [bar for bar in sorted({*ours, *theirs}) if not _is_same(ours.get(bar), theirs.get(bar))]
    why = "both engines were given the same bars, views and costs"
    rows = ((case.stamps[bar - 1], told(ours.get(bar)), told(theirs.get(bar))) for bar in bars)
    return [
        Difference(number, stamp, "event", "fill", expected, found, (Cause.UNEXPLAINED,), why)
        for number, (stamp, expected, found) in enumerate(rows, 1)
    ]


def _is_same(ours: PathFill | None, theirs: PathFill | None) -> bool:
    if ours is None or theirs is None:
        return False
    return all(near(getattr(ours, name), getattr(theirs, name)) for name in ("quantity", "price", "fee"))


def _compare_views(found: Findings, script: Script, live: Replayed, row: int, decision: Decision | None) -> None:
    case, expected = found.case, int(found.case.views[row])
    if decision is None:
        if expected:
            cause, why = Cause.REVISION, "the bar had not come in when the next one did"
            if came_in_turn(script, case.stamps[row]):
                cause, why = Cause.UNEXPLAINED, "the bar came in before the next one, and nothing was decided on it"
            found.add(row, "decision", view_word(expected), "none", [cause], why)
        return
    if decision.view == expected:
        return
    known = _Known(case, row, decision, live.memory(row))
    repairs = known.repairs()
    for count in range(1, len(repairs) + 1):
        for chosen in combinations(repairs, count):
            if known.decide_again(chosen) == expected:
                why = "; ".join(repairs[cause] for cause in chosen)
                found.add(row, "decision", view_word(expected), view_word(decision.view), chosen, why)
                return
    why = f"deciding again gives the same, repaired: {', '.join(repairs) or 'nothing was wrong'}"
    found.add(row, "decision", view_word(expected), view_word(decision.view), [Cause.UNEXPLAINED], why)


@dataclass(frozen=True)
class _Known:
    """What live knew when it decided, beside what research knows of the same bars."""

    case: Case
    row: int
    decision: Decision
    memory: pl.DataFrame

    @property
    def is_early(self) -> bool:
        return self.decision.at < self.case.closes_at(self.row)

    def repairs(self) -> dict[Cause, str]:
        """Return what was not as research has it, with the words for it."""
        case, wrong = self.case, {}
        begun, this = self.memory["timestamp"][0], self.case.stamps[self.row]
        if self.is_early:
            early_s = (case.closes_at(self.row) - self.decision.at).total_seconds()
            wrong[Cause.NOT_CLOSED] = f"decided {early_s:g} s before the bar's close"
        changed = self._changed().filter((pl.col("timestamp") < this) | pl.lit(not self.is_early))
        if changed.height:
            bar = changed.row(-1, named=True)
            wrong[Cause.REVISION] = (
                f"{changed.height} bars were known otherwise, such as {bar['timestamp']:%Y-%m-%d %H:%M} with a close "
                f"of {bar['close_known']}, now {bar['close']}"
            )
        if begun > case.stamps[0]:
            warm_up = case.strategy.warm_up(case.params)
            wrong[Cause.WARM_UP] = f"{self.memory.height} bars remembered of {self.row + 1}, warm-up {warm_up}"
        return wrong

    def decide_again(self, repaired: Sequence[Cause]) -> int:
        """Return the view with some of what was wrong put right."""
        truth, memory, this = self.case.bars[: self.row + 1], self.memory, self.case.stamps[self.row]
        stamp, begun = pl.col("timestamp"), self.memory["timestamp"][0]
        middle = truth if Cause.REVISION in repaired else memory
        newest = truth if (Cause.NOT_CLOSED if self.is_early else Cause.REVISION) in repaired else memory
        parts = [middle.filter((stamp >= begun) & (stamp < this)), newest.filter(stamp == this)]
        if Cause.WARM_UP in repaired:
            parts.insert(0, truth.filter(stamp < begun))
        bars = pl.concat(parts)
        if bars.height <= self.case.strategy.warm_up(self.case.params):
            return 0
        return int(views_of(self.case.strategy, self.case.params, bars)[-1])

    def _changed(self) -> pl.DataFrame:
        truth = self.case.bars[: self.row + 1].filter(pl.col("timestamp") >= self.memory["timestamp"][0])
        both = truth.join(self.memory, on="timestamp", how="left", suffix="_known", maintain_order="left")
        return both.filter(pl.any_horizontal(~pl.col(name).eq_missing(pl.col(f"{name}_known")) for name in VALUES))


@dataclass(frozen=True)
class _Step:
    """One bar that was decided on: what research and live made of it at the next."""

    found: Findings
    script: Script
    account: Account
    row: int
    decision: Decision | None

    @property
    def costs(self) -> Costs:
        """What research assumes trading costs."""
        return self.found.case.costs

    def only_research(self, fill: PathFill) -> None:
        """Explain a fill that live did not even ask for."""
        decision = self.decision
        if self._is_apart():
            self._follow("fill", told(fill), "none")
        elif decision is not None and decision.side is not None and self._asked_by_rule(decision) == 0:
            sizing = self.script.sizing
            why = f"less than a step of {sizing.quantity_step} or than a value of {sizing.min_notional}"
            self.found.add(self.row, "fill", told(fill), "none", [Cause.ROUNDING], why)
        else:
            why = "live decided the same on the same account, and asked for nothing"
            self.found.add(self.row, "fill", told(fill), "none", [Cause.UNEXPLAINED], why)

    def only_live(self, order: LiveOrder) -> None:
        """Explain an order that research did not make; one that nothing came of is no difference."""
        if not order.order.fills:
            return
        case, quantity = self.found.case, order.order.filled_quantity * order.order.request.side.sign
        made = f"{order.order.request.side} {abs(quantity):.12g}"
        if self._is_apart():
            self._follow("fill", "none", made)
        elif not case.market.tradable[self.row + 1]:
            why = f"the bar after {case.stamps[self.row]:%Y-%m-%d %H:%M} is missing"
            self.found.add(self.row, "fill", "none", made, [Cause.HOLE], why)
        else:
            why = "research decided the same on the same account, and traded nothing"
            self.found.add(self.row, "fill", "none", made, [Cause.UNEXPLAINED], why)

    def compare(self, order: LiveOrder, fill: PathFill) -> None:
        """Explain how an order and its fills differ from research's fill."""
        done, sign = order.order, order.order.request.side.sign
        if order.refused_by:
            why = f"{order.refused_by}: {done.reason}"
            cause = Cause.BOOK if order.refused_by == BOOK_GATE else Cause.RISK
            if cause is Cause.RISK and not may_refuse(self.script, order.decided_at):
                cause, why = Cause.UNEXPLAINED, f"{why}; there was no limit, and nothing wrong with the market"
            self.found.add(self.row, "fill", told(fill), "refused", [cause], why)
            return
        if done.status is Status.REJECTED or sign * fill.quantity < 0:
            self._compare_rejected(order, fill)
            return
        self._compare_asked(order, fill)
        if not done.fills and not done.is_terminal:
            cause, why = Cause.LATENCY, f"asked for at {order.decided_at}, had not arrived when the period ended"
            if (meets := arrives_at(self.found.case, self.script, order.decided_at)) is not None:
                why = (
                    f"asked for at {order.decided_at}, it met no bar, also not that of {self.found.case.stamps[meets]}"
                )
                cause = Cause.UNEXPLAINED
            self.found.add(self.row, "fill", told(fill), "none", [cause], why)
            return
        if done.filled_quantity < done.request.quantity:
            asked, got = f"{done.request.quantity:.12g}", f"{done.filled_quantity:.12g}"
            why = f"the broker filled {got} of {asked}: {done.reason}"
            cause = Cause.PARTIAL if is_thin(self.found.case, self.script, order) else Cause.UNEXPLAINED
            self.found.add(self.row, "quantity", asked, got, [cause], why)
        if done.fills:
            self._compare_fills(order, fill)

    def _compare_rejected(self, order: LiveOrder, fill: PathFill) -> None:
        """Explain an order that the broker refused, or that went the other way."""
        request, decision, terms = order.order.request, self.decision, self.script.terms
        made = f"{request.side} {request.quantity:.12g} {order.order.status}"
        rejected = order.order.status is Status.REJECTED
        if rejected and decision is not None and decision.equity is not None and decision.price is not None:
            value, cash = request.quantity * decision.price, decision.equity - decision.position * decision.price
            charged, assumed = (value * (1 + rate / 10_000) for rate in (terms.fee_bps, exact(self.costs.fee_bps)))
            if assumed <= cash < charged:
                why = f"{order.order.reason}; with the assumed fee it would have been {assumed:.2f}"
                self.found.add(self.row, "fill", told(fill), made, [Cause.FEE], why)
                return
        if self._is_apart(of_cash=True):
            self._follow("fill", told(fill), made)
        else:
            why = (
                f"the accounts are alike, and no control refused it; the broker says: {order.order.reason or 'nothing'}"
            )
            self.found.add(self.row, "fill", told(fill), made, [Cause.UNEXPLAINED], why)

    def _compare_fills(self, order: LiveOrder, fill: PathFill) -> None:
        case, done = self.found.case, order.order
        moment, price = done.fills[0].timestamp, done.average_price
        assert price is not None  # noqa: S101  (there are fills)
        late = moment != case.stamps[fill.bar]
        if late:
            took_s = (moment - order.decided_at).total_seconds()
            why = f"asked for at {order.decided_at:%H:%M:%S}, filled {took_s:g} s later"
            expected, found = (f"{stamp:%Y-%m-%d %H:%M}" for stamp in (case.stamps[fill.bar], moment))
            meets = arrives_at(case, self.script, order.decided_at)
            cause = Cause.LATENCY if meets is not None and case.stamps[meets] == moment else Cause.UNEXPLAINED
            self.found.add(self.row, "bar", expected, found, [cause], why)
        if not near(float(price), fill.price):
            self._explain_price(float(price), fill, case.stamps.index(moment) if late else fill.bar)
        rate = float(done.fees / (price * done.filled_quantity)) * 1e4
        if not near(rate, case.costs.fee_bps):
            why = f"the broker's fills carry {rate:g} basis points, its terms say {self.script.terms.fee_bps:g}"
            cause = Cause.FEE if is_charged(self.script, done) else Cause.UNEXPLAINED
            self.found.add(self.row, "fee", f"{case.costs.fee_bps:g} bps", f"{rate:g} bps", [cause], why)

    def _explain_price(self, price: float, fill: PathFill, bar: int) -> None:
        """Find whose open a price was made from."""
        case, known = self.found.case, self.script.fills_from["open"]
        moved = 1 + (1 if fill.quantity > 0 else -1) * case.costs.slippage_bps / 1e4
        expected, found = f"{fill.price:.12g}", f"{price:.12g}"
        if not near(price, known[bar] * moved):
            why = f"neither the open of {case.stamps[bar]} as live knew it ({known[bar]}) nor the slippage gives it"
            self.found.add(self.row, "price", expected, found, [Cause.UNEXPLAINED], why)
        elif bar != fill.bar:
            self._follow("price", expected, found, "the price of the bar it arrived at")
        else:
            why = f"the bar opened at {known[bar]} when it was traded, now it says {case.market.opens[bar]}"
            self.found.add(self.row, "price", expected, found, [Cause.REVISION], why)

    def _compare_asked(self, order: LiveOrder, fill: PathFill) -> None:
        """Explain an order of another size: another account, another price, or rounding."""
        request, decision, case = order.order.request, self.decision, self.found.case
        asked = request.side.sign * request.quantity
        if near(float(asked), fill.quantity):
            return
        expected, found = f"{fill.quantity:.12g}", f"{asked:.12g}"
        if decision is None or decision.price is None or self._asked_by_rule(decision) != asked:
            why = "the sizing rule does not give what live asked for"
            self.found.add(self.row, "quantity", expected, found, [Cause.UNEXPLAINED], why)
        elif self._is_apart(of_cash=True):
            self._follow("quantity", expected, found, "the same rule on the live account")
        elif decision.price != exact(case.market.opens[fill.bar]):
            cause, why = self._other_price(decision, fill)
            self.found.add(self.row, "quantity", expected, found, [cause], why)
        elif abs(float(asked) - fill.quantity) <= float(self.script.sizing.quantity_step):
            why = f"whole steps of {self.script.sizing.quantity_step}"
            self.found.add(self.row, "quantity", expected, found, [Cause.ROUNDING], why)
        else:
            why = "the same rule on the same account at the same price gives another quantity"
            self.found.add(self.row, "quantity", expected, found, [Cause.UNEXPLAINED], why)

    def _other_price(self, decision: Decision, fill: PathFill) -> tuple[Cause, str]:
        case, opened = self.found.case, self.found.case.market.opens[fill.bar]
        if decision.at < case.closes_at(self.row):
            return Cause.NOT_CLOSED, f"sized before the bar's close at {decision.price}, the next opened at {opened}"
        if self.script.fills_from["open"][fill.bar] != opened:
            return Cause.REVISION, f"sized at {decision.price}; the bar that opened so now says {opened}"
        if decision.at >= case.stamps[fill.bar]:
            return Cause.UNEXPLAINED, f"sized at {decision.price} although the bar had opened at {opened}"
        return Cause.LATENCY, f"sized at {decision.price}, the bar opened at {opened}"

    def _asked_by_rule(self, decision: Decision) -> Decimal | None:
        ends = self.row == self.found.case.last - 1
        side = decision.side if not ends and decision.decided_on == decision.timestamp else 0
        equity = None if ends else decision.equity
        return self.script.sizing.order(side or 0, decision.position, equity, decision.price)

    def _is_apart(self, *, of_cash: bool = False) -> bool:
        """Return whether an earlier difference shows in the account, or this bar's decision differed."""
        if not self.found.apart:
            return False
        decision = self.decision
        if decision is None or decision.view != self.found.case.views[self.row]:
            return True
        return not (self.account.is_like(decision) if of_cash else self.account.holds(decision))

    def _follow(self, what: str, expected: str, found: str, why: str = "") -> None:
        """Note what the differences so far led to: the newest where positions are apart, the first where cash is."""
        decision, apart = self.decision, self.found.apart
        sized = [one for one in apart if one.what in _SIZES]
        moved = (what == "quantity" and sized) or [one for one in apart if one.what in (*_SIZES, "bar")]
        held = decision is None or self.account.holds(decision)
        here = moved and moved[-1].timestamp == self.found.case.stamps[self.row]
        origin = moved[-1] if moved and (here or not held) else apart[0]
        state = "" if decision is None else f"live held {decision.position:.12g}, research {self.account.position:.12g}"
        self.found.follow(self.row, what, expected, found, origin, "; ".join(filter(None, (why, state))))
