"""The account's cash and its days: what nobody explains halts, and each day ends with a report."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs

from flows.live_day import told_day
from flows.live_words import told
from flows.trading import OrderDesk
from flows.trading_day import CashBook, DayBook
from tasks.broker.port import Account
from tasks.journal.entries import Entry, Kind, encode
from tasks.journal.journal import Journal
from tasks.orders.account import TradingState
from tasks.orders.lifecycle import Applied, Event
from tasks.orders.order import Fill, Order, Side, Status
from tasks.orders.position import effect, fold
from tasks.orders.states import Happening
from tests.flows.trading_rig import LIMITS, QUICK, SYMBOL, Rig, market_at, proposal, trading
from tests.flows.trading_rig import now as clock

D = Decimal
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


async def bought(rig: Rig, number: int = 1) -> None:
    """Have one unit bought at 101, for a fee of 0.101."""
    await rig.until_state(TradingState.ACTIVE)
    await rig.until_status(rig.desk.propose(proposal(number)), Status.FILLED)


async def looked(rig: Rig) -> None:
    """Wait until the account was held against the journal once more."""
    agreement, before = rig.desk._agreement, rig.desk._compared_at
    await rig.until(lambda: rig.desk._compared_at > before and not agreement._asking, "another look")


async def test_cash_that_no_fill_explains_halts(tmp_path: Path) -> None:
    """Fills and fees move the cash and are no difference; money that somebody took does halt, until a person looked."""
    async with trading(tmp_path) as rig:
        await bought(rig)
        await looked(rig)
        assert rig.desk.state is TradingState.ACTIVE
        rig.broker.gift = D(-150)
        await rig.until_state(TradingState.HALTED)
        assert "disagree on cash (journal 99898.899" in rig.desk.halted_for
        rig.desk.clear("ada")
        await bought(rig, 2)
    async with trading(tmp_path) as rig:  # paid back while nobody looked
        await rig.until_state(TradingState.HALTED)
        assert rig.bodies(Kind.RECONCILE)[-1]["differing"]["cash"]["broker"] == "99797.798"


async def test_small_change_is_no_difference(tmp_path: Path) -> None:
    """A tenth of a per cent of equity may be rounding; a broker that does not tell its cash is not held against it."""
    async with trading(tmp_path) as rig:
        await bought(rig)
        rig.broker.gift = D(99)
        await looked(rig)
        assert rig.desk.state is TradingState.ACTIVE
        rig.broker.secretive, rig.broker.gift = True, D(5_000)
        await looked(rig)
        assert rig.desk.state is TradingState.ACTIVE


async def test_the_end_of_a_run_is_reported(tmp_path: Path) -> None:
    """The last lines hold what the day came to: worth, fees, fills, refusals, positions, cash, and that all agree."""
    async with trading(tmp_path) as rig:
        await bought(rig)
        rig.broker.paper.halt(SYMBOL)
        await rig.until_status(rig.desk.propose(proposal(2)), Status.REJECTED)
        await rig.until_status(rig.desk.propose(proposal(3, quantity="10000")), Status.DENIED)
        await looked(rig)
    with Journal(tmp_path / "orders.sqlite") as journal:
        line = journal.last(Kind.DAY)
        assert line is not None
        report = line.body()
    assert [report[name] for name in ("orders", "fills", "denied", "rejected", "in_doubt")] == [2, 1, 1, 1, 0]
    assert (D(report["fees"]), report["positions"]) == (D("0.101"), {SYMBOL: "1"})
    assert D(report["cash"]) == D(report["cash_expected"]) == D("99898.899")
    assert (report["agreed"], report["ended"], report["halted_for"]) == (True, False, "")


async def test_counts_survive_a_restart(tmp_path: Path) -> None:
    """Two runs of one day make one report."""
    for number in (1, 2):
        async with trading(tmp_path) as rig:
            await bought(rig, number)
            await looked(rig)
    with Journal(tmp_path / "orders.sqlite") as journal:
        line = journal.last(Kind.DAY)
        assert line is not None
        assert (line.body()["orders"], line.body()["fills"], line.body()["fees"]) == (2, 2, "0.202")


async def test_counts_and_losses_survive_a_crash(tmp_path: Path) -> None:
    """What happened since the account was last written down is counted again from the journal, once; so are losses."""
    never = replace(QUICK, reconcile_s=1e9)
    async with trading(tmp_path, pace=never) as rig:
        await bought(rig)
        rig.broker.paper.halt(SYMBOL)
        await rig.until_status(rig.desk.propose(proposal(2)), Status.REJECTED)
        rig.broker.paper.resume(SYMBOL)
        await rig.until_status(rig.desk.propose(proposal(3, Side.SELL)), Status.FILLED)
        await rig.until(lambda: rig.desk._core.is_idle, "all is handled")
        whole, kept = tmp_path / "orders.sqlite", tmp_path / "crash" / "orders.sqlite"
        kept.parent.mkdir()
        with closing(sqlite3.connect(whole)) as now, closing(sqlite3.connect(kept)) as copy:
            now.backup(copy)  # what is on disk where the process dies now
    with Journal(kept) as journal:
        desk = OrderDesk(journal, rig.broker, account="paper", limits=LIMITS, market=market_at(), clock=clock)  # type: ignore[arg-type]
        desk._remember()
        report = desk._days._book.report(Account(D(1), D(1), {}), {}, "", ended=False)
        assert [report[name] for name in ("orders", "fills", "rejected", "in_doubt")] == [3, 2, 1, 0]
        assert desk._exposure.memory()["losses_in_a_row"] == 1


async def test_fees_in_a_third_asset_are_told_apart(tmp_path: Path) -> None:
    """A fee in BNB is neither in the profit nor in the cash: the day's report names it, in its own asset."""
    paid = structs.replace(filled("100", fee="0").fills[0], other_fees=(("BNB", D("0.002")),))
    with Journal(tmp_path / "orders.sqlite") as journal:
        request = proposal().request("paper")
        name, cash = request.client_order_id, CashBook(journal, "paper", D("0.001"))
        book, account = DayBook(journal, cash), Account(D(10), D(10), {})
        await journal.commit([Entry(Kind.CREATED, name, request), event(name, Happening.SUBMIT_INTENDED)])
        book.begin(NOON, account)
        await journal.commit([Entry(Kind.EVENT, name, Event(Happening.FILLED_PART, fill=paid))])
        report = book.report(account, {}, "", ended=True)
        memory = book.memory()
    assert (report["fees"], report["fees_elsewhere"]) == (D(0), {"BNB": D("0.002")})
    assert "| fees | 0.00, and 0.002 BNB that no profit is told after |" in told_day("paper", report)
    with Journal(tmp_path / "orders.sqlite") as journal:
        again = DayBook(journal, CashBook(journal, "paper", D(1)))
        again.recall(memory)
        assert again.report(account, {}, "", ended=True)["fees_elsewhere"] == {"BNB": D("0.002")}
        again.begin(NOON + timedelta(days=1), account)
        assert again.report(account, {}, "", ended=True)["fees_elsewhere"] == {}


async def test_a_day_is_reported_once_it_is_over(tmp_path: Path) -> None:
    """The first look of a new day tells of the old one, also where nobody looked at midnight; counts begin anew."""
    async with trading(tmp_path) as rig:
        await bought(rig)
        await looked(rig)
        rig.desk._days._book.day -= timedelta(days=1)  # the run has begun yesterday
        await rig.until(lambda: any(body["ended"] for body in rig.bodies(Kind.DAY)), "the day is reported")
        (report,) = rig.bodies(Kind.DAY)
        assert (report["fills"], report["ended"], report["agreed"]) == (1, True, True)
        assert date.fromisoformat(report["day"]) < datetime.now(UTC).date()
    with Journal(tmp_path / "orders.sqlite") as journal:
        line = journal.last(Kind.DAY)
        assert line is not None
        assert (line.body()["fills"], line.body()["ended"]) == (0, False)


def filled(price: str, quantity: str = "1", fee: str = "0.1") -> Order:
    """Return an order that bought once."""
    request = proposal().request("paper")
    return Order(request, Status.FILLED, fills=(Fill("t", D(price), D(quantity), D(fee), NOON),))


async def test_the_fold_of_cash_follows_busts_and_corrections(tmp_path: Path) -> None:
    """A trade that is taken back gives its cash and its fee back; the cash is that of the fills that count."""
    with Journal(tmp_path / "orders.sqlite") as journal:
        request = proposal().request("paper")
        name, cash = request.client_order_id, CashBook(journal, "paper", D("0.001"))
        cash.settle(Account(D(1000), D(1000), {}, D(1000)))
        told = Account(D(1000), D(1000), {}, D("899.9"))
        assert cash.differs(told)
        await journal.commit([Entry(Kind.CREATED, name, request), event(name, Happening.SUBMIT_INTENDED)])
        fill = filled("100").fills[0]
        await journal.commit([Entry(Kind.EVENT, name, Event(Happening.FILLED_PART, fill=fill))])
        assert (cash.compare(told), cash.fees) == ((D("899.9"), D("899.9")), D("0.1"))
        await journal.commit([Entry(Kind.EVENT, name, Event(Happening.BUSTED, trade_id="t"))])
        assert (cash.compare(told), cash.fees) == ((D(1000), D("899.9")), D(0))


async def test_a_fee_in_kind_is_taken_off_the_position(tmp_path: Path) -> None:
    """Binance takes a buyer's fee in what was bought: less is held, no cash is paid, and profit is told with the fee.

    Lines without such a fee are written as they always were, so that an older journal's tables still follow from them.
    """
    fill = Fill("t", D(100), D(1), D("0.1"), NOON, base_fee=D("0.001"))
    with Journal(tmp_path / "orders.sqlite") as journal:
        request = proposal().request("paper")
        name = request.client_order_id
        await journal.commit([Entry(Kind.CREATED, name, request), event(name, Happening.SUBMIT_INTENDED)])
        await journal.commit([Entry(Kind.EVENT, name, Event(Happening.FILLED_PART, fill=fill))])
    with Journal(tmp_path / "orders.sqlite") as journal:
        state = journal.state
        assert (state.positions["paper", SYMBOL], state.money["paper"][:2]) == (D("0.999"), (D(-100), D("0.1")))
        held = fold([(Side.BUY, one) for one in state.orders[name].fills])
    assert (held.quantity, held.average_price, held.fees) == (D("0.999"), 100, D("0.1"))
    worth = -100 + held.quantity * 110
    assert worth == held.realised + held.unrealised(D(110)) - held.fees
    assert b"base_fee" not in encode(filled("100"))


def test_a_fee_in_two_assets_is_paid_in_both() -> None:
    """What a trade's fee took in kind moves no cash, and what it took of the quote asset does."""
    fee = D("0.001") * 100 + D("0.5")
    fill = Fill("t", D(100), D(1), fee, NOON, base_fee=D("0.001"))
    assert effect(Side.BUY, [fill]) == (D("0.999"), D("-100.5"), fee)


def event(name: str, kind: Happening) -> Entry:
    """Return the entry for something that happened."""
    return Entry(Kind.EVENT, name, Event(kind))


def test_a_status_is_counted_once() -> None:
    """Told again and again, an order in doubt is one order in doubt; a new day counts it no more."""
    with_state = Journal(Path("nowhere"))
    book = DayBook(with_state, CashBook(with_state, "paper", D(1)))
    order = Order(proposal().request("paper"), Status.SUBMITTING)
    for status in (Status.SUBMITTING, Status.IN_DOUBT, Status.IN_DOUBT, Status.ACCEPTED):
        book.follow(Applied(structs.replace(order, status=status)))
    account = Account(D(10), D(10), {})
    report = book.report(account, {}, "", ended=True)
    assert (report["orders"], report["in_doubt"], report["rejected"]) == (1, 1, 0)
    book.begin(NOON, account)
    assert book.report(account, {}, "", ended=True)["in_doubt"] == 0
    assert [book.is_over(NOON + timedelta(hours=hours)) for hours in (11, 12)] == [False, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one, "| journal and broker | agree |"),
        (lambda one: one | {"agreed": False, "differing": {"cash": {}}}, "**differ** on cash"),
        (lambda one: one | {"halted_for": "the button"}, "**halted**: the button"),
        (lambda one: one | {"cash": None}, "the broker does not tell"),
        (lambda one: one | {"cash_expected": D(7)}, "10.00, the fills make 7.00"),
    ],
)
def test_a_report_reads_well(change: Callable[[dict], dict], said: str) -> None:
    """People read of worth, fees, orders, positions, cash and agreement, a line each."""
    journal = Journal(Path("nowhere"))
    book = DayBook(journal, CashBook(journal, "paper", D(1)))
    book.begin(NOON, Account(D(9), D(9), {}))
    report = book.report(Account(D(10), D(10), {"BTC": D("0.50")}, D(10)), {}, "", ended=True)
    line = told(NOON, Entry(Kind.DAY, body=report))["text"]
    assert line == "2026-03-02: profit +1.00, fees 0.00, 0 fills, all agrees"
    text = told_day("paper", change(report))
    assert said in text
    assert "# paper: 2026-03-02\n" in text
    assert "| equity | 10.00, +1.00 since 9.00 |" in text
    assert "| positions | 0.50 BTC |" in text
