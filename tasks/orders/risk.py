"""Whether an order may be sent: every control with its limit, its verdict, and the words for the journal. Pure.

The controls follow the market-access rule 15c3-5 (SEC) and RTS 6 article 15 (MiFID II): size, value, price collar,
position and exposure including what is open or in doubt, message rates, repeated execution, loss limits. They fail
closed: a missing or old reference price, an unknown equity, a book that is not valid, figures that cannot be reckoned
with refuse the order. Cancels always pass, and so does what can only bring a position closer to zero, short of the kill
switch.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from tasks.orders.account import Book, Limits, Market, Parent, TradingState, Verdict
from tasks.orders.order import TERMINAL, ZERO, Order, OrderRequest, OrderType, Side, Status


def check(
    request: OrderRequest,
    book: Book,
    market: Market,
    limits: Limits,
    *,
    now_s: float,
    signal_age_s: float,
    parent: Parent | None = None,
) -> Verdict:
    """Return whether an order may be sent, and why not.

    Args:
        request: What is wanted.
        book: The account.
        market: Its symbol.
        limits: What is allowed.
        now_s: The clock of the book's recent orders, which nobody sets.
        signal_age_s: Age of the signal behind it.
        parent: What the signal asked for in all; None where the order is all of it.
    """
    checked: list[str] = []
    try:
        reducing = reduces(request, book)
        whole = parent or Parent(request.quantity)
        question = _Question(request, book, market, limits, now_s, signal_age_s, reducing, worst_cases(book), whole)
        for name, control in _CONTROLS:
            if reducing and name in _WAIVED_WHEN_REDUCING:
                continue
            checked.append(name)
            reason = control(question)
            if reason:
                return Verdict(passed=False, refused_by=name, reason=reason, checked=tuple(checked))
    except ArithmeticError as error:  # absurd figures, such as a quantity of more steps than exact arithmetic counts
        reason = f"expected figures of at most 28 digits, found none to reckon with ({type(error).__name__})"
        return Verdict(
            passed=False, refused_by=checked[-1] if checked else "precision", reason=reason, checked=tuple(checked)
        )
    return Verdict(passed=True, checked=tuple(checked))


def reduces(request: OrderRequest, book: Book) -> bool:
    """Return whether an order, with everything open on its side filled too, only brings the position closer to zero."""
    position = book.positions.get(request.symbol, ZERO)
    open_orders = [order for order in book.orders if _alike(order, request) and order.status not in TERMINAL]
    same_side = sum((order.remaining_quantity for order in open_orders), ZERO)
    return position * request.side.sign < 0 and request.quantity + same_side <= abs(position)


def worst_cases(book: Book) -> dict[str, Decimal]:
    """Return each symbol's largest absolute position that can result if open and doubtful orders fill as they like."""
    most, least = dict(book.positions), dict(book.positions)
    for order in book.orders:
        request = order.request
        bound = most if request.side is Side.BUY else least
        bound[request.symbol] = bound.get(request.symbol, ZERO) + request.side.sign * order.remaining_quantity
    return {s: max(abs(most.get(s, ZERO)), abs(least.get(s, ZERO))) for s in most | least}


class _Question(Struct, frozen=True):
    request: OrderRequest
    book: Book
    market: Market
    limits: Limits
    now_s: float
    signal_age_s: float
    reducing: bool
    worst: dict[str, Decimal]
    parent: Parent

    @property
    def position_value(self) -> Decimal:
        """The symbol's position with everything open and the order itself filled, at the order's price."""
        return (self.worst.get(self.request.symbol, ZERO) + self.request.quantity) * self.price

    @property
    def price(self) -> Decimal:
        """What the order is valued at; asked after the reference price was checked."""
        price = self.request.limit_price or self.market.reference_price
        assert price is not None  # noqa: S101
        return price

    @property
    def equity(self) -> Decimal:
        """The account's equity; asked after it was checked."""
        assert self.book.equity is not None  # noqa: S101
        return self.book.equity


def _alike(order: Order, request: OrderRequest) -> bool:
    return order.request.symbol == request.symbol and order.request.side is request.side


def _state(q: _Question) -> str:
    allowed = q.book.state is TradingState.ACTIVE or (q.book.state is TradingState.REDUCING and q.reducing)
    return "" if allowed else f"expected trading to be active, found {q.book.state}"


def _signal(q: _Question) -> str:
    if abs(q.signal_age_s) <= q.limits.max_signal_age_s:  # one from the future is as old as the clock was set back
        return ""
    return f"expected a signal of at most {q.limits.max_signal_age_s} s, found one of {q.signal_age_s:.1f} s"


def _data(q: _Question) -> str:
    price, age = q.market.reference_price, q.market.reference_age_s
    if not q.market.valid:
        return "expected a book the stream vouches for, found a gap, silence or a crossed book"
    if price is None or not (price.is_finite() and price > 0):
        return f"expected a reference price above 0, found {price}"
    if age <= q.limits.max_reference_age_s:
        return ""
    return f"expected a reference price of at most {q.limits.max_reference_age_s} s, found {age} s"


def _precision(q: _Question) -> str:
    if not (q.market.quantity_step > 0 and q.market.price_step > 0):
        return f"expected steps above 0, found {q.market.quantity_step} and {q.market.price_step}"
    if q.request.quantity % q.market.quantity_step:
        return f"expected a quantity in steps of {q.market.quantity_step}, found {q.request.quantity}"
    price = q.request.limit_price
    if price is not None and price % q.market.price_step:
        return f"expected a price in steps of {q.market.price_step}, found {price}"
    most = q.market.max_quantity
    if most is not None and q.request.quantity > most:
        return f"expected a quantity of at most {most}, found {q.request.quantity}"
    value = q.request.quantity * q.price
    return (
        "" if value >= q.market.min_notional else f"expected a value of at least {q.market.min_notional}, found {value}"
    )


def _collar(q: _Question) -> str:
    price, reference = q.request.limit_price, q.market.reference_price
    if q.request.order_type is not OrderType.LIMIT or price is None or reference is None:
        return ""
    away = abs(price / reference - 1)
    if away <= q.limits.price_collar:
        return ""
    return f"expected a price within {q.limits.price_collar:%} of {reference}, found {price}"


def _period(q: _Question) -> str:
    earlier = q.market.period_price
    if earlier is None or not (earlier.is_finite() and earlier > 0):
        return f"expected a price of {q.limits.collar_period_s} s ago, found {earlier}"
    if abs(q.price / earlier - 1) <= q.limits.period_collar:
        return ""
    moved = f"{q.limits.period_collar:%} of {earlier}, where it was {q.limits.collar_period_s} s ago"
    return f"expected a price within {moved}, found {q.price}"


def _parent(q: _Question) -> str:
    asked = q.parent.taken + q.request.quantity
    if asked <= q.parent.quantity:
        return ""
    return f"expected orders of one signal to ask for {q.parent.quantity} at most, found {asked} with this one"


def _equity(q: _Question) -> str:
    equity = q.book.equity
    return "" if equity is not None and equity > 0 else f"expected a known equity above 0, found {equity}"


def _order_value(q: _Question) -> str:
    value, allowed = q.request.quantity * q.price, q.limits.max_order_fraction * q.equity
    return "" if value <= allowed else f"expected an order of at most {allowed:.2f}, found {value:.2f}"


def _position_value(q: _Question) -> str:
    value, allowed = q.position_value, q.limits.max_position_fraction * q.equity
    if value <= allowed:
        return ""
    return f"expected a position of at most {allowed:.2f} with all open orders filled, found {value:.2f}"


def _gross_value(q: _Question) -> str:
    others = {symbol: most for symbol, most in q.worst.items() if most and symbol != q.request.symbol}
    missing = sorted(others.keys() - q.book.prices.keys())
    if missing:
        return f"expected a price of every position, found none of {missing}"
    value = sum((most * q.book.prices[symbol] for symbol, most in others.items()), q.position_value)
    allowed = q.limits.max_gross_fraction * q.equity
    return "" if value <= allowed else f"expected a gross exposure of at most {allowed:.2f}, found {value:.2f}"


def _doubt(q: _Question) -> str:
    mine = [order for order in q.book.orders if order.request.symbol == q.request.symbol]
    doubtful = [order.request.client_order_id for order in mine if order.status is Status.IN_DOUBT]
    return f"expected no order of {q.request.symbol} in doubt, found {doubtful[0]}" if doubtful else ""


def _repeated(q: _Question) -> str:
    alike = [order for order in q.book.orders if _alike(order, q.request) and not order.is_terminal]
    return f"expected no working entry on the same side, found {alike[0].request.client_order_id}" if alike else ""


def _rate(q: _Question) -> str:
    limits, symbol, strategy = q.limits, q.request.symbol, q.request.strategy
    least = min(limits.strategy_orders_per_minute, limits.symbol_orders_per_minute, limits.orders_per_minute)
    if len(q.book.recent_orders) < least:
        return ""
    recent = [one for one in q.book.recent_orders if q.now_s - one[0] < 60]
    counted = (
        (f" of {strategy}", sum(one[2] == strategy for one in recent), q.limits.strategy_orders_per_minute),
        (f" of {symbol}", sum(one[1] == symbol for one in recent), q.limits.symbol_orders_per_minute),
        ("", len(recent), q.limits.orders_per_minute),
    )
    for whose, found, allowed in counted:
        if found >= allowed:
            return f"expected fewer than {allowed} orders{whose} a minute, found {found}"
    return ""


#: Every control in the order they are asked, each returning why it refuses, or nothing.
_CONTROLS = (
    ("trading_state", _state),
    ("signal_age", _signal),
    ("data_quality", _data),
    ("precision", _precision),
    ("price_collar", _collar),
    ("period_collar", _period),
    ("parent_quantity", _parent),
    ("equity_known", _equity),
    ("order_value", _order_value),
    ("position_value", _position_value),
    ("gross_exposure", _gross_value),
    ("in_doubt", _doubt),
    ("repeated_entry", _repeated),
    ("order_rate", _rate),
)
#: What would keep a position open that must be closed.
_WAIVED_WHEN_REDUCING = frozenset(
    {
        "period_collar",
        "parent_quantity",
        "equity_known",
        "order_value",
        "position_value",
        "gross_exposure",
        "repeated_entry",
        "signal_age",
    }
)


def next_state(book: Book, limits: Limits, *, troubles_last_minute: int) -> TradingState:
    """Return the state that losses and troubles call for; never a milder one than now.

    Args:
        book: The account.
        limits: What is allowed.
        troubles_last_minute: Orders that were rejected or went into doubt within a minute.
    """
    if book.state is TradingState.HALTED:
        return TradingState.HALTED
    if troubles_last_minute >= limits.max_doubt_and_rejects:
        return TradingState.HALTED
    if book.equity is not None and book.peak_equity > 0:
        if 1 - book.equity / book.peak_equity >= limits.max_drawdown:
            return TradingState.HALTED
        if book.state is TradingState.ACTIVE and -book.day_pnl >= limits.max_day_loss * book.peak_equity:
            return TradingState.REDUCING
    if book.state is TradingState.ACTIVE and book.losses_in_a_row >= limits.max_losses_in_a_row:
        return TradingState.REDUCING
    return book.state
