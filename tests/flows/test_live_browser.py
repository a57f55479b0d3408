"""The page of a live run in a real browser while orders fill: HALT pressed there stops them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from flows.live_plan import TradingPlan
from flows.settings import Settings
from flows.trading_proposal import Proposal
from tasks.orders.account import TradingState
from tasks.orders.order import OrderType, Side, Status, TimeInForce
from tests.flows.live_rig import live_side, wall_now

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Where pictures are left for whoever wants to look.
PICTURES = os.environ.get("KLINEHOUSE_PICTURES")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: install chromium to run browser tests")


@asynccontextmanager
async def browser(settings: Settings, scheme: str) -> AsyncIterator[Page]:
    """Open the page, with the token in its address."""
    async with async_playwright() as engine:
        options = {"args": ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]}
        opened = await engine.chromium.launch(executable_path=CHROMIUM, **options)  # type: ignore[arg-type]
        page = await opened.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        token = (settings.state_dir / "control.token").read_text()
        await page.goto(f"http://127.0.0.1:{settings.control_port}/#token={token}")
        yield page
        await opened.close()


async def picture(page: Page, name: str) -> None:
    """Leave a picture where somebody asked for one."""
    if PICTURES:
        await page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def resting(price: Decimal) -> Proposal:
    """Return an order that waits below anything that the market comes to meanwhile."""
    limit, kind = round(price * Decimal("0.9"), 1), OrderType.LIMIT
    return Proposal("test", "BTCUSDT", Side.BUY, Decimal("0.01"), "rest", wall_now(), kind, limit, TimeInForce.GTC)


async def test_halt_pressed_in_the_browser_stops_the_orders(tmp_path: Path) -> None:
    """The page shows fills as they happen; after HALT the open order is cancelled and none is sent any more."""
    plan = TradingPlan(strategy="ma_crossover", strategy_params={"fast": 1, "slow": 2})
    async with live_side(tmp_path, plan) as (desk, settings, account):
        trading, orders = desk.trading, desk.trading.desk
        await _until(lambda: trading.view.filled > 0)
        async with browser(settings, "dark") as page:
            await page.wait_for_selector("#fills tbody tr")
            await _until(lambda: orders.state is TradingState.ACTIVE and trading.price("BTCUSDT") is not None)
            price = trading.price("BTCUSDT")
            assert price is not None
            identifier = trading.propose(resting(price))
            await page.wait_for_selector("#working .status.accepted")
            assert "token" not in page.url  # it is the tab's alone
            assert re.search(r"market → limit [\d,.]+ IOC", await page.inner_text("#orders"))
            assert re.search(r"limit [\d,.]+ GTC", await page.inner_text("#working"))
            await picture(page, "filling")
            await page.click("#halt")
            await page.click("#no")
            assert not orders.halted_for
            await page.click("#halt")
            await page.click("#yes")
            await page.wait_for_selector("#tradestate:has-text('HALTED')")
            await page.wait_for_selector("#orders .status.canceled")
            await page.wait_for_selector("#working .none")
            await picture(page, "halted")
        state = account.journal.state
        assert state.orders[identifier].status is Status.CANCELED
        sent = _sent(state.orders.values())
        asked = trading.strategies.describe()
        await _until(lambda: _signals(trading.strategies.describe()) > _signals(asked) + 1)
        assert _sent(state.orders.values()) == sent


def _signals(told: list[dict]) -> int:
    return sum(one["signals"] for one in told)


def _sent(orders) -> set[str]:
    return {one.request.client_order_id for one in orders if one.status is not Status.DENIED}


async def _until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (any condition the test can think of)
            await asyncio.sleep(0.02)
