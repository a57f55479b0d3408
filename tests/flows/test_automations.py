"""The automations on a real server: each event leads to what is declared, told by a real block to a real receiver."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events import Event, RelatedResource, Resource
from prefect.events.clients import get_events_client, get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running, Scheduled, StateType

from flows.automations import JUDGE, TAG, apply, declared
from flows.backfill import _written, backfill
from flows.events import BARS_WRITTEN, asset_key, tell_bars_written, tell_halted, tell_partitions_rejected
from flows.quality import quality
from lake.coverage import Ledger
from lake.store import Lake
from tasks.errors import ConfigurationError, TransientError
from tasks.simulator.market import generated
from tests.flows.market import trading

pytestmark = pytest.mark.timeout(480)

#: The least that Prefect takes for a trigger that waits for silence.
SILENT = timedelta(seconds=10)
#: Longer than the minute that Prefect's server may wait for its database on a busy machine.
WAIT_S = 180.0
START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 3, tzinfo=UTC)


class Receiver:
    """A web service that takes notifications, as a chat's webhook would."""

    def __init__(self) -> None:
        messages: queue.Queue[dict[str, str]] = queue.Queue()

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                messages.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response_only(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self.messages = messages
        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def wait_for(self, subject: str) -> dict[str, str]:
        """Return the first message whose subject has these words."""
        while True:
            message = self.messages.get(timeout=WAIT_S)
            if subject in message["subject"]:
                return message


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Serve the receiver for the module."""
    one = Receiver()
    one.thread.start()
    yield one
    one.server.shutdown()
    one.thread.join()
    one.server.server_close()


@pytest.fixture(scope="module")
def applied(prefect_server: str, receiver: Receiver) -> Iterator[list[str]]:
    """Apply the automations once, with short times and a webhook block, and take them away at the end."""

    async def begin() -> list[str]:
        block = CustomWebhookNotificationBlock(
            name="test",
            url=f"http://127.0.0.1:{receiver.server.server_port}/",
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        )
        await block.save("klinehouse-test", overwrite=True)
        async with get_client() as client:
            name, _, deployment = JUDGE.partition("/")
            await client.create_deployment(
                await client.create_flow_from_name(name), deployment, enforce_parameter_schema=False
            )
            return await apply(client, "custom-webhook/klinehouse-test", silent=SILENT, quiet=timedelta(seconds=1))

    async def end() -> None:
        async with get_client() as client:
            for one in await client.read_automations():
                if TAG in one.tags:
                    await client.delete_automation(one.id)

    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield asyncio.run(begin())
        asyncio.run(end())


@asynccontextmanager
async def awaiting(*names: str) -> AsyncIterator[Callable[[Callable[[Event], bool]], object]]:
    """Subscribe to events of these names; yields a function that returns the first one a test accepts."""
    async with get_events_subscriber(filter=EventFilter(event=EventNameFilter(name=list(names)))) as stream:

        async def first(accepts: Callable[[Event], bool]) -> Event:
            async with asyncio.timeout(WAIT_S):
                async for event in stream:
                    if accepts(event):
                        return event
            raise AssertionError("the server closed the stream of events")

        yield first


@pytest.fixture(scope="module")
def silent_runs(applied: list[str]) -> dict[str, UUID]:
    """Begin two runs that give one heartbeat and then no more: one of a batch flow, one of the live flow."""

    async def begin() -> dict[str, UUID]:
        found = {}
        async with get_client() as client:
            for name in ("backfill", "live"):
                run = await _run(client, name)
                await client.set_flow_run_state(run, Running(), force=True)
                heartbeat = Event(
                    event="prefect.flow-run.heartbeat",
                    resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run}"}),
                    related=[
                        RelatedResource(
                            {
                                "prefect.resource.id": f"prefect.flow.{run}",
                                "prefect.resource.role": "flow",
                                "prefect.resource.name": name,
                            }
                        )
                    ],
                )
                # not by emit_event: its worker adds the flow of whatever run this process happened to start it in
                async with get_events_client() as events:
                    await events.emit(heartbeat)
                found[name] = run
        return found

    return asyncio.run(begin())


async def _run(client: PrefectClient, name: str, **options: object) -> UUID:
    @flow(name=name)
    def pretended() -> None: ...

    return (await client.create_flow_run(pretended, **options)).id  # type: ignore[arg-type]


async def test_applying_again_changes_nothing(applied: list[str]) -> None:
    """What is declared is there once; what a person switched off stays off, and what is no longer declared goes."""
    async with get_client() as client:
        there = {one.name: one for one in await client.read_automations() if TAG in one.tags}
        assert sorted(there) == sorted(applied)
        stale = AutomationCore(**there["alert on late runs"].model_dump(exclude={"id", "name"}), name="an older one")
        await client.create_automation(stale)
        await client.pause_automation(there["alert on late runs"].id)
        await apply(client, "custom-webhook/klinehouse-test", silent=SILENT, quiet=timedelta(seconds=1))
        again = {one.name: one for one in await client.read_automations() if TAG in one.tags}
        await client.resume_automation(there["alert on late runs"].id)
    assert {name: one.id for name, one in again.items()} == {name: one.id for name, one in there.items()}
    assert not again["alert on late runs"].enabled


def test_nothing_ever_starts_the_live_flow(silent_runs: dict[str, UUID]) -> None:
    """Of all actions one starts a deployment, and it is the one that judges bars."""
    judge = UUID(int=1)
    actions = [action for one in declared(judge, UUID(int=2)) for action in one.actions]
    assert [action.deployment_id for action in actions if action.type == "run-deployment"] == [judge]


async def test_what_a_backfill_wrote_is_judged(applied: list[str], tmp_path: Path) -> None:
    """A run of quality is made for the symbols, the interval and the days that were written; lineage is on record."""
    market = generated(symbols=("BTCUSDT", "ETHUSDT"), interval="1h", start=START, end=END)
    done = "prefect.automation.action.executed"
    async with awaiting(done, "prefect.asset.materialization.succeeded") as first, get_client() as client:
        with trading(market, tmp_path):
            await backfill(["BTCUSDT"], "1h", START.date(), date(2025, 1, 2))
        asset = await first(lambda event: event.resource.id == asset_key("klines/1h"))
        assert "vendor://tickdb" in {one.id for one in asset.related}
        assert asset.payload["rows_new"] == 24
        action = await first(lambda event: event.payload.get("action_type") == "run-deployment")
        begun = next(one.id for one in action.related if one.role == "flow-run")
        run = await client.read_flow_run(UUID(begun.removeprefix("prefect.flow-run.")))
    assert run.parameters == {"symbols": ["BTCUSDT"], "interval": "1h", "start": "2025-01-01", "end": "2025-01-02"}


async def test_a_backfill_inside_another_flow_leaves_the_judging_to_it(applied: list[str]) -> None:
    """Research judges its bars itself: its backfill tells nothing, while one by itself does."""

    @flow(name="backfill")
    async def fetching(symbol: str) -> None:
        tell_bars_written([symbol], "1m", START, END)

    @flow(name="research")
    async def researching() -> None:
        await fetching("INNER")

    async with awaiting(BARS_WRITTEN) as first:
        await researching()
        await fetching("OUTER")
        told = await first(lambda event: event.payload["symbols"][0] in ("INNER", "OUTER"))
    assert told.payload["symbols"] == ["OUTER"]


async def test_rejected_data_is_told_with_its_partitions(
    applied: list[str], receiver: Receiver, tmp_path: Path
) -> None:
    """Bars that the vendor did not have are refused by quality, and the message names symbol, days and reason."""
    with trading(generated(symbols=("BTCUSDT",), interval="1h", start=START, end=END), tmp_path) as (_, settings):
        Ledger(Lake(settings.lake_root)).record_answer("BTCUSDT", "1h", START, END, asked_at=END)
        await quality(["BTCUSDT"], "1h", START.date(), END.date())
    message = await asyncio.to_thread(receiver.wait_for, "rejected")
    assert message["subject"] == "Klinehouse: 1 partitions of 1h bars rejected"
    assert "BTCUSDT 1h [2025-01-01" in message["body"]


async def test_a_halted_live_flow_is_told_with_its_reason(applied: list[str], receiver: Receiver) -> None:
    """The message says which account and why."""

    @flow(name="live")
    async def halting() -> None:
        tell_halted("paper", "journal and broker disagree")

    await halting()
    message = await asyncio.to_thread(receiver.wait_for, "halted")
    assert message["subject"] == "Klinehouse: Trading of paper is halted"
    assert "journal and broker disagree" in message["body"]


async def test_failed_and_late_runs_are_told(applied: list[str], receiver: Receiver) -> None:
    """A failed run comes with its error, a late one with its name; both with a link."""

    @flow(name="maintain")
    async def failing() -> None:
        raise ConfigurationError("no such disk")

    with pytest.raises(ConfigurationError):
        await failing()
    failed = await asyncio.to_thread(receiver.wait_for, "maintain: Failed")
    assert "no such disk" in failed["body"]
    assert "/runs/flow-run/" in failed["body"]
    async with get_client() as client:
        late_one = await client.create_deployment(await client.create_flow_from_name("tardy"), "at night")
        past = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=1))
        await client.create_flow_run_from_deployment(late_one, state=past, name="an hour ago")
    late = await asyncio.to_thread(receiver.wait_for, "tardy is late")
    assert "an hour ago" in late["body"]


async def test_nothing_is_told_outside_a_run(applied: list[str], prefect_server: str) -> None:
    """A plain call has no server to tell, and does not fail for it."""
    tell_bars_written(["BTCUSDT"], "1m", START, END)
    tell_partitions_rejected("1m", ["BTCUSDT"])


async def test_a_silent_run_is_reaped_and_the_live_one_is_not(silent_runs: dict[str, UUID]) -> None:
    """Without heartbeats a batch run becomes Crashed; the live run, whose lock is its proof of life, stays as it is."""
    async with awaiting("prefect.flow-run.Crashed") as first, get_client() as client:
        if (await client.read_flow_run(silent_runs["backfill"])).state_type != StateType.CRASHED:
            await first(lambda event: event.resource.id == f"prefect.flow-run.{silent_runs['backfill']}")
        live = await client.read_flow_run(silent_runs["live"])
    assert live.state_type == StateType.RUNNING


async def test_a_wrong_block_or_no_deployment_is_named(applied: list[str]) -> None:
    """What is missing is said with the setting or the command that mends it."""
    async with get_client() as client:
        with pytest.raises(ConfigurationError, match="KLINEHOUSE_ALERT_BLOCK"):
            await apply(client, "slack-webhook/nobody")


def test_only_months_with_new_bars_are_told_as_written() -> None:
    """An hourly run looks at every month since 2024 and writes to one: quality judges that one, not all of them."""
    january, february, march = (datetime(2025, month, 1, tzinfo=UTC) for month in (1, 2, 3))
    parts = [("BTCUSDT", january, february), ("BTCUSDT", february, march), ("ETHUSDT", january, february)]
    nothing = SimpleNamespace(rows_new=0, rows_revised=0)
    revised = SimpleNamespace(rows_new=0, rows_revised=1)
    assert _written(parts, [nothing, revised, TransientError("away")]) == [(february, march)]
