"""Every control refuses what it must, passes what it may, and fails closed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec import structs

from tasks.errors import InputError
from tasks.orders.account import Book, Limits, Market, Parent, TradingState, Verdict
from tasks.orders.order import Order, OrderRequest, OrderType, Side, Status
from tasks.orders.risk import check, next_state, reduces, worst_cases

D = Decimal
LIMITS = Limits()
MARKET = Market(
    D(100),
    D(1),
    quantity_step=D("0.01"),
    price_step=D("0.1"),
    min_notional=D(10),
    max_quantity=D(500),
    period_price=D(100),
)
BOOK = Book(TradingState.ACTIVE, D(10_000), {}, {})


def buy(quantity: str = "1", **changes: object) -> OrderRequest:
    """Return a market order to buy at about 100 a unit."""
    fields = {
        "client_order_id": "x",
        "account": "paper",
        "symbol": "BTCUSDT",
        "side": Side.BUY,
        "quantity": D(quantity),
    }
    return OrderRequest(**(fields | changes))  # type: ignore[arg-type]


def limit(price: str, quantity: str = "1") -> OrderRequest:
    """Return a limit order to buy."""
    return buy(quantity, order_type=OrderType.LIMIT, limit_price=D(price))


def held(side: Side, quantity: str, status: Status = Status.ACCEPTED, symbol: str = "BTCUSDT") -> Order:
    """Return an order that has not ended."""
    return Order(buy(quantity, side=side, client_order_id=f"{side}{quantity}{symbol}", symbol=symbol), status=status)


def verdict(
    request: OrderRequest, book: Book = BOOK, market: Market = MARKET, *, age: float = 0.0, parent: Parent | None = None
) -> Verdict:
    """Ask with the default limits."""
    return check(request, book, market, LIMITS, now_s=1_000.0, signal_age_s=age, parent=parent)


def test_a_sound_order_passes_every_control() -> None:
    """Nothing refuses an order within all limits, and each control was asked."""
    found = verdict(buy())
    assert found.passed
    assert len(found.checked) == 14


@pytest.mark.parametrize(
    ("control", "request_", "book", "market", "age"),
    [
        ("trading_state", buy(), structs.replace(BOOK, state=TradingState.HALTED), MARKET, 0),
        ("trading_state", buy(), structs.replace(BOOK, state=TradingState.RECONCILING), MARKET, 0),
        ("trading_state", buy(), structs.replace(BOOK, state=TradingState.REDUCING), MARKET, 0),
        ("signal_age", buy(), BOOK, MARKET, 61),
        ("data_quality", buy(), BOOK, structs.replace(MARKET, valid=False), 0),
        ("data_quality", buy(), BOOK, structs.replace(MARKET, reference_price=None), 0),
        ("data_quality", buy(), BOOK, structs.replace(MARKET, reference_price=D("NaN")), 0),
        ("data_quality", buy(), BOOK, structs.replace(MARKET, reference_age_s=D(3)), 0),
        ("precision", buy("1.005"), BOOK, MARKET, 0),
        ("precision", limit("100.05"), BOOK, MARKET, 0),
        ("precision", buy("0.09"), BOOK, MARKET, 0),
        ("price_collar", limit("102.1"), BOOK, MARKET, 0),
        ("price_collar", limit("97.9"), BOOK, MARKET, 0),
        ("precision", buy("500.01"), structs.replace(BOOK, equity=D(10**9)), MARKET, 0),
        ("period_collar", buy(), BOOK, structs.replace(MARKET, period_price=None), 0),
        ("period_collar", buy(), BOOK, structs.replace(MARKET, period_price=D("97.08")), 0),
        ("period_collar", buy(side=Side.SELL), BOOK, structs.replace(MARKET, period_price=D("103.1")), 0),
        ("period_collar", limit("101.9"), BOOK, structs.replace(MARKET, period_price=D("98.9")), 0),
        ("equity_known", buy(), structs.replace(BOOK, equity=None), MARKET, 0),
        ("equity_known", buy(), structs.replace(BOOK, equity=D(0)), MARKET, 0),
        ("order_value", buy("1.01"), BOOK, MARKET, 0),
        ("position_value", buy(), structs.replace(BOOK, positions={"BTCUSDT": D("9.01")}), MARKET, 0),
        ("position_value", buy(), structs.replace(BOOK, orders=(held(Side.SELL, "11"),)), MARKET, 0),
        ("gross_exposure", buy(), structs.replace(BOOK, positions={"E": D(50)}, prices={"E": D(100)}), MARKET, 0),
        ("gross_exposure", buy(), structs.replace(BOOK, positions={"E": D(1)}), MARKET, 0),
        ("in_doubt", buy(), structs.replace(BOOK, orders=(held(Side.SELL, "1", Status.IN_DOUBT),)), MARKET, 0),
        ("repeated_entry", buy(), structs.replace(BOOK, orders=(held(Side.BUY, "1"),)), MARKET, 0),
        ("order_rate", buy(strategy="s"), structs.replace(BOOK, recent_orders=((999.0, "E", "s"),) * 10), MARKET, 0),
        ("order_rate", buy(), structs.replace(BOOK, recent_orders=((999.0, "BTCUSDT", "t"),) * 30), MARKET, 0),
        ("order_rate", buy(), structs.replace(BOOK, recent_orders=((999.0, "E", "t"),) * 60), MARKET, 0),
    ],
)
def test_each_control_refuses(control: str, request_: OrderRequest, book: Book, market: Market, age: float) -> None:
    """The control that must refuse does, by name, and says what it expected."""
    found = verdict(request_, book, market, age=age)
    assert found.refused_by == control
    assert found.reason.startswith("expected")


@pytest.mark.parametrize(
    ("request_", "book"),
    [
        (limit("102", "0.9"), BOOK),
        (buy("1"), BOOK),
        (buy("1"), structs.replace(BOOK, positions={"BTCUSDT": D(9)})),
        (buy(), structs.replace(BOOK, recent_orders=((939.0, "BTCUSDT", ""),) * 60)),
        (
            buy(),
            structs.replace(BOOK, orders=(held(Side.BUY, "1", Status.IN_DOUBT, "ETHUSDT"),), prices={"ETHUSDT": D(10)}),
        ),
    ],
)
def test_the_limit_itself_is_allowed(request_: OrderRequest, book: Book) -> None:
    """What stands exactly at a limit, or is another symbol's trouble, passes."""
    assert verdict(request_, book).passed


def test_what_reduces_may_go_where_entries_may_not() -> None:
    """A way out stays open while reducing, with an unknown equity and beyond the entry limits, and not beyond zero."""
    book = structs.replace(BOOK, state=TradingState.REDUCING, equity=None, positions={"BTCUSDT": D(-20)})
    assert verdict(buy("20"), book, age=500).passed
    assert verdict(buy("20.01"), book).refused_by == "trading_state"
    assert not reduces(buy("15"), structs.replace(book, orders=(held(Side.BUY, "10"),)))
    assert verdict(buy("20"), structs.replace(book, state=TradingState.HALTED)).refused_by == "trading_state"


def test_a_way_out_stays_open_in_a_crash() -> None:
    """What only reduces passes however far the price ran within the period, and whatever its signal asked for."""
    book, crashed = structs.replace(BOOK, positions={"BTCUSDT": D(5)}), structs.replace(MARKET, period_price=D(120))
    assert verdict(buy("5", side=Side.SELL), book, crashed, parent=Parent(D(1))).passed
    assert verdict(buy("1"), book, crashed).refused_by == "period_collar"


def test_orders_of_one_signal_ask_for_no_more_than_it() -> None:
    """What a signal's other orders filled, and what of them works, leaves the rest (Knight sent 4 million for 212)."""
    assert verdict(buy("0.4"), parent=Parent(D(1), D("0.6"))).passed
    assert verdict(buy("0.41"), parent=Parent(D(1), D("0.6"))).refused_by == "parent_quantity"


def test_doubtful_orders_count_as_filled() -> None:
    """The worst case takes every open and doubtful order, on the side that makes it worse."""
    orders = (held(Side.BUY, "3", Status.IN_DOUBT), held(Side.BUY, "2"), held(Side.SELL, "9"))
    book = structs.replace(BOOK, positions={"BTCUSDT": D(1)}, orders=orders)
    assert worst_cases(book) == {"BTCUSDT": 8}
    assert worst_cases(structs.replace(book, orders=orders[:2])) == {"BTCUSDT": 6}


def test_losses_and_troubles_tighten_and_never_loosen() -> None:
    """A day's loss leaves reducing, a drawdown or a burst of troubles halts, and a halt stays."""
    book = structs.replace(BOOK, peak_equity=D(10_000))
    assert next_state(book, LIMITS, troubles_last_minute=2) is TradingState.ACTIVE
    assert next_state(book, LIMITS, troubles_last_minute=3) is TradingState.HALTED
    assert next_state(structs.replace(book, day_pnl=D(-200)), LIMITS, troubles_last_minute=0) is TradingState.REDUCING
    assert next_state(structs.replace(book, losses_in_a_row=3), LIMITS, troubles_last_minute=0) is TradingState.ACTIVE
    assert next_state(structs.replace(book, losses_in_a_row=4), LIMITS, troubles_last_minute=0) is TradingState.REDUCING
    assert next_state(structs.replace(book, equity=D(9_500)), LIMITS, troubles_last_minute=0) is TradingState.HALTED
    for state in (TradingState.HALTED, TradingState.REDUCING, TradingState.RECONCILING):
        assert next_state(structs.replace(book, state=state), LIMITS, troubles_last_minute=0) is state


@pytest.mark.parametrize("value", [D(0), D(-1), D("NaN"), D("Infinity")])
def test_limits_that_do_not_limit_are_refused(value: Decimal) -> None:
    """Zero, negative and unbounded limits never come into force."""
    with pytest.raises(InputError, match="max_drawdown"):
        Limits(max_drawdown=value)


def test_limits_have_a_version() -> None:
    """The same limits have the same hash, others another."""
    assert Limits().version == LIMITS.version != Limits(orders_per_minute=59).version
