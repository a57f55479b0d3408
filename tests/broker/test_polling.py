"""Reports by asking: what vanished is not asked for at every turn for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tasks.broker.feed import ReportFeed
from tasks.broker.polling import Poller
from tasks.broker.port import BrokerFill, BrokerOrder
from tasks.orders.order import Fill, Side, Status

D = Decimal
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Forgetful:
    """A broker that lost every order, and dates its trades as it likes."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun: list[datetime] = []
        self.told: list[BrokerFill] = []

    async def query(self, client_order_id: str, symbol: str) -> BrokerOrder | None:
        """Find nothing."""
        self.asked += 1
        return None

    async def open_orders(self) -> list[BrokerOrder]:
        """Know nothing."""
        return []

    async def fills(self, since: datetime) -> list[BrokerFill]:
        """Tell the trades of a test."""
        self.begun.append(since)
        return self.told


async def test_an_order_that_vanished_is_let_go() -> None:
    """Neither open nor found ten times in a row, an order costs no request any more; the desk asks by itself."""
    broker = Forgetful()
    poller = Poller(broker, ReportFeed(), clock=lambda: NOON, poll_s=1.0)
    poller.watch(BrokerOrder("kh1", "7", "BTC/USDT", Side.BUY, D(1), D(0), Status.ACCEPTED, NOON))
    for _ in range(20):
        await poller.turn()
    assert broker.asked == 10


async def test_a_trade_from_the_future_hides_no_other() -> None:
    """The next turn asks from a minute ago at the latest, whatever a trade is dated."""
    broker = Forgetful()
    trade = Fill("t", D(1), D(1), D(0), NOON + timedelta(days=9000))
    broker.told = [BrokerFill("kh1", "7", "BTC/USDT", Side.BUY, trade)]
    poller = Poller(broker, ReportFeed(), clock=lambda: NOON, poll_s=1.0)
    for _ in range(2):
        await poller.turn()
    assert broker.begun[-1] == NOON - timedelta(minutes=1)
