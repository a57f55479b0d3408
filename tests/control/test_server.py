"""The control page over real HTTP: what it shows, what it refuses, what it looks like when it is drawn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from tasks.control.server import MAX_LISTENERS, ControlServer
from tasks.errors import ConfigurationError, InputError

TOKEN = "let-me-in"  # noqa: S105
TRADING: dict[str, Any] = {
    "account": "paper",
    "broker": "paper",
    "mode": "paper",
    "live": False,
    "state": "halted",
    "why": "the button <i>was</i> pressed",
    "in_doubt": ["khaaaaaaaaaaaaaaaa"],
    "equity": 99_990.5,
    "positions": [
        {
            "symbol": "BTCUSDT",
            "quantity": -0.25,
            "average_price": 97_000.0,
            "price": None,
            "value": None,
            "realised": 12.5,
            "unrealised": None,
            "fees": 3.0,
        }
    ],
    "profit": {"realised": 12.5, "unrealised": None, "fees": 3.0, "net": None},
    "working": [
        {
            "id": "khaaaaaaaaaaaaaaaa",
            "symbol": "BTCUSDT",
            "side": "sell",
            "asked": "limit",
            "type": "limit",
            "time_in_force": "gtc",
            "quantity": 0.25,
            "limit_price": 97_100.0,
            "filled": 0.0,
            "average_price": None,
            "status": "in_doubt",
            "pending": "cancel",
            "strategy": "ma_crossover",
            "signal": "k",
            "reason": "the reply was lost",
        }
    ],
    "orders": [],
    "fills": [
        {
            "at_ms": 1_772_409_590_000,
            "id": "khaaaaaaaaaaaaaaaa",
            "symbol": "BTCUSDT",
            "side": "sell",
            "quantity": 0.25,
            "price": 97_000.0,
            "fee": 3.0,
            "inferred": False,
        }
    ],
    "limits": {"version": "abc", "used": [{"name": "drawdown", "used": 0.01, "limit": 0.05}]},
    "journal": {
        "path": "journal.db",
        "lines": [{"at_ms": 1_772_409_590_000, "kind": "operator", "id": "", "text": "halt the button"}],
    },
    "counts": {"orders": 1, "fills": 1, "working": 1, "in_doubt": 1},
    "strategies": [
        {
            "symbol": "BTCUSDT",
            "strategy": "ma_crossover",
            "interval": "1m",
            "bars": 7,
            "signals": 1,
            "late": 0,
            "last_signal": "BTCUSDT|1m|short|2026-03-02T00:00:00+00:00",
            "wants": "short",
            "silent_s": 0.5,
            "broken": "",
        }
    ],
}
STATE: dict[str, Any] = {
    "trading": TRADING,
    "now_ms": 1_772_409_600_000,
    "alerts": [
        {
            "at_ms": 1_772_409_590_000,
            "symbol": "BTCUSDT",
            "pressure": "buy",
            "ratio": 3.1,
            "threshold": 2.5,
            "episode": "e",
        }
    ],
    "rate_budget": {"used": 7, "limit": 60},
    "stream": {
        "connection": {
            "state": "backoff",
            "sentence": "Waiting before the next attempt.",
            "connects": 3,
            "failures": 2,
            "retry_in_s": 4.0,
            "clock_offset_ms": -12.5,
            "round_trip_ms": 40.0,
            "undecodable": 1,
            "refused": ["depth NOPE"],
            "subscriptions": 4,
            "unfilled": [],
            "history": [{"at_ms": 1_772_409_500_000, "state": "live", "reason": "<b>everything</b> desired flows"}],
        },
        "throughput": {
            "messages": 1234,
            "conflated": 5,
            "trades_waiting": 0,
            "trades_dropped": 0,
            "loop_lag_ms": 1.5,
            "latency_p50_ms": 12.0,
            "latency_p99_ms": None,
        },
        "recording": {"written": 10, "waiting": 2, "lost": 0},
        "alarms": [],
        "symbols": [
            {
                "symbol": "BTCUSDT",
                "last_price": 97000.5,
                "bid": None,
                "ask": None,
                "spread": None,
                "pressure_ratio": None,
                "imbalance": None,
                "microprice": None,
                "trade_flow": 0.5,
                "trades": 3,
                "valid": False,
                "faults": ["data is missing"],
                "age_s": 9.0,
                "levels": 0,
                "latency_ms": 11.0,
                "episode": None,
                "spark": [1.0, None, 2.0],
            }
        ],
    },
}


class Page:
    """A served page and what was done to it."""

    def __init__(self) -> None:
        self.well = True
        self.done: list[str] = []
        self.said: dict[str, str] = {}
        actions = {"reconnect": self._reconnect, "halt": self._halt, "clear": self._clear}
        self.server = ControlServer(lambda: STATE, self._health, actions, token=SecretStr(TOKEN), port=0)

    def _health(self) -> tuple[bool, str]:
        return self.well, "live: all is well" if self.well else "backoff: waiting"

    async def _reconnect(self, said: dict[str, str]) -> None:
        self.done.append("reconnect")

    async def _halt(self, said: dict[str, str]) -> None:
        self.done.append("halt")

    async def _clear(self, said: dict[str, str]) -> None:
        if not said.get("operator"):
            raise InputError("clear: expected a name, found none")
        self.done.append(f"clear by {said['operator']}")


@pytest.fixture
async def page():
    """Return a page that is served."""
    page = Page()
    async with page.server:
        yield page


@pytest.fixture
async def http(page):
    """Return a client of the page."""
    async with aiohttp.ClientSession(page.server.url) as client:
        yield client


async def test_state_is_the_state(http) -> None:
    """/state returns what the flow knows, as JSON."""
    async with http.get("/state") as answer:
        assert await answer.json() == STATE
        assert answer.headers["Cache-Control"] == "no-store"


async def test_health_follows_the_stream(page, http) -> None:
    """/healthz is 200 while data flows and 503 while it does not, with a sentence."""
    async with http.get("/healthz") as answer:
        assert (answer.status, (await answer.json())["healthy"]) == (200, True)
    page.well = False
    async with http.get("/healthz") as answer:
        assert (answer.status, (await answer.json())["detail"]) == (503, "backoff: waiting")


async def test_metrics_are_prometheus(http) -> None:
    """/metrics parses, has the figures that the state has, and leaves out what is not known."""
    from prometheus_client.parser import text_string_to_metric_families

    async with http.get("/metrics") as answer:
        families = {family.name: family for family in text_string_to_metric_families(await answer.text())}
    assert families["klinehouse_stream_messages"].samples[0].value == 1234.0
    assert families["klinehouse_symbol_valid"].samples[0].labels == {"symbol": "BTCUSDT"}
    assert families["klinehouse_stream_state"].samples[0].labels == {"state": "backoff"}
    assert families["klinehouse_symbol_pressure_ratio"].samples == []
    assert "klinehouse_stream_latency_p99_ms" not in families
    assert families["klinehouse_trading_state"].samples[0].labels == {"state": "halted"}
    assert families["klinehouse_trading_equity"].samples[0].value == 99_990.5
    assert families["klinehouse_position_quantity"].samples[0].value == -0.25
    assert families["klinehouse_limit_used"].samples[0].labels == {"name": "drawdown"}
    assert "klinehouse_trading_profit" not in families


async def test_events_keep_coming_and_end_with_the_flow(page, http) -> None:
    """A browser that listens is told every second, and is let go at the end."""
    async with http.get("/state", headers={"Accept": "text/event-stream"}) as answer:
        first, second = [await answer.content.readuntil(b"\n\n") for _ in range(2)]
        assert json.loads(first.removeprefix(b"data: ")) == STATE == json.loads(second.removeprefix(b"data: "))
        ending = asyncio.create_task(page.server.__aexit__())
        assert await asyncio.wait_for(answer.content.read(), 30.0) == b""
        await ending


async def test_listeners_are_limited(http) -> None:
    """One more than the limit is refused, and a place is free again when somebody leaves."""
    listening = [await http.get("/state", headers={"Accept": "text/event-stream"}) for _ in range(MAX_LISTENERS)]
    async with http.get("/state", headers={"Accept": "text/event-stream"}) as answer:
        assert answer.status == 503
    for one in listening:
        one.close()


async def test_a_foreign_page_takes_no_listeners_place(http) -> None:
    """A page of another origin cannot read the events, and may not hold the places of those who can."""
    for origin in ("cross-site", "same-site"):
        foreign = {"Accept": "text/event-stream", "Sec-Fetch-Site": origin}
        async with http.get("/state", headers=foreign) as answer:
            assert answer.status == 403
    async with http.get("/state", headers={"Accept": "text/event-stream", "Sec-Fetch-Site": "same-origin"}) as answer:
        assert answer.status == 200


async def test_foreign_names_are_refused_everywhere(http) -> None:
    """DNS rebinding: a page under another name reads nothing, not even the page itself."""
    for path in ("/", "/state", "/metrics", "/healthz", "/page.js", "/nothing"):
        async with http.get(path, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 421
            assert "BTCUSDT" not in await answer.text()


async def test_actions_need_the_token(page, http) -> None:
    """Without the token nothing happens; with it the action runs once."""
    for headers in (
        {},
        {"X-Klinehouse-Token": "guess"},
        {"X-Klinehouse-Token": TOKEN, "Origin": "http://evil.example"},
    ):
        async with http.post("/actions/reconnect", headers=headers) as answer:
            assert answer.status == 403
    async with http.get("/actions/reconnect", headers={"X-Klinehouse-Token": TOKEN}) as answer:
        assert answer.status == 405
    assert page.done == []
    async with http.post("/actions/reconnect", headers={"X-Klinehouse-Token": TOKEN}) as answer:
        assert (answer.status, await answer.json()) == (200, {"done": "reconnect"})
    assert page.done == ["reconnect"]
    async with http.post("/actions/nothing", headers={"X-Klinehouse-Token": TOKEN}) as answer:
        assert answer.status == 404


async def test_actions_hear_what_was_said(page, http) -> None:
    """A name travels in the body; what an action refuses, and a body that is none, is an answer in words."""
    headers = {"X-Klinehouse-Token": TOKEN}
    async with http.post("/actions/clear", headers=headers, json={"operator": "Ada"}) as answer:
        assert answer.status == 200
    for body in ("", "[]", '{"operator": 1}', "{"):
        async with http.post("/actions/clear", headers=headers, data=body) as answer:
            assert answer.status == 400
            assert "expected" in (await answer.json())["error"]
    async with http.post("/actions/clear", headers=headers, data='{"operator": "\\ud800Ada"}') as answer:
        assert answer.status == 200
    assert page.done == ["clear by Ada", "clear by ?Ada"]  # what is no text can be written into no journal


async def test_every_answer_is_locked_down(http) -> None:
    """Nothing is loaded from elsewhere, framed, sniffed or cached, errors included."""
    for path in ("/", "/page.css", "/state", "/nothing"):
        async with http.get(path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_holds_no_address_of_others(http) -> None:
    """Page, style and script name no other host."""
    for path in ("/", "/page.css", "/page.js"):
        async with http.get(path) as answer:
            text = (await answer.text()).replace("http://www.w3.org/2000/svg", "")
            assert "http:" not in text
            assert "https:" not in text


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """Open a real browser, or skip the test where there is none."""
    playwright = pytest.importorskip("playwright.async_api")
    options = {"args": ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]}
    async with playwright.async_playwright() as engine:
        try:
            browser = await engine.chromium.launch(executable_path="/usr/bin/chromium", **options)
        except playwright.Error as error:
            pytest.skip(f"no browser: {error.message.splitlines()[0]}")
        yield browser
        await browser.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (340, "dark")])
async def test_the_page_draws_an_outage(page, width: int, scheme: str) -> None:
    """In a browser the page names state and fault, draws no gauge from a bad book, fits, and says when it is old."""
    async with chromium() as browser:
        shown = await browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        problems: list[str] = []
        shown.on("pageerror", lambda error: problems.append(str(error)))
        shown.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        await shown.goto(page.server.url)
        await shown.wait_for_selector(".card")
        assert await shown.inner_text("#state") == "backoff"
        assert "data is missing" in await shown.inner_text(".card")
        assert await shown.locator(".g-buy, .g-sell").count() == 0
        assert "<b>everything</b>" in await shown.inner_text("#history")
        assert await shown.inner_text("#tradestate") == "■ HALTED"
        assert "<i>was</i>" in await shown.inner_text("#tradewhy")
        assert "in doubt, cancel asked" in await shown.inner_text("#working")
        assert await shown.evaluate("[price(0.00000721), price(0.00125), price(2.5), price(97123.456), price(0)]") == [
            "0.00000721",
            "0.00125",
            "2.50",
            "97,123.46",
            "0.00",
        ]
        assert await shown.locator("#halt").is_hidden()
        assert await shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await shown.click("#clear")
        await shown.fill("#who", "Ada")
        await shown.fill("#token", "guess")
        await shown.press("#token", "Enter")
        await shown.wait_for_selector("#said:has-text('Refused')")
        await shown.click("#clear")
        await shown.fill("#token", TOKEN)
        await shown.click("#yes")
        await shown.wait_for_selector("#said:has-text('Done')")
        assert page.done == ["clear by Ada"]
        await page.server.__aexit__()
        await shown.wait_for_selector("body.old")
        assert await shown.inner_text("#state") == "no news"
        assert "everything below is old" in await shown.inner_text("#silent")
    expected = ("ERR_", "403")  # the flow is gone, and the guessed token was refused
    assert not [problem for problem in problems if not any(one in problem for one in expected)]


async def test_the_page_asks_again_where_it_was_refused(page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that gets no state says so, instead of waiting in silence for ever, and draws once it gets one."""
    monkeypatch.setattr("tasks.control.server.MAX_LISTENERS", 0)
    async with chromium() as browser:
        shown = await browser.new_page()
        await shown.goto(page.server.url)
        await shown.wait_for_selector("#silent:has-text('No state has come')")
        monkeypatch.setattr("tasks.control.server.MAX_LISTENERS", MAX_LISTENERS)
        await shown.wait_for_selector(".card")
        assert await shown.locator("#silent").is_hidden()


async def test_a_taken_port_is_named(page) -> None:
    """A second page on the same port says which setting to change."""
    port = int(page.server.url.rsplit(":", 1)[1])
    second = ControlServer(lambda: STATE, lambda: (True, ""), {}, token=SecretStr(TOKEN), port=port)
    with pytest.raises(ConfigurationError, match="KLINEHOUSE_CONTROL_PORT"):
        async with second:
            pass
