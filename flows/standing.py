"""What runs by itself: workers, deployments, automations and what comes next, as the Prefect server knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.adhoc import is_healthy
from flows.automations import TAG
from flows.tidy import POOL


@dataclass(frozen=True)
class Standing:
    """What is set up, and what comes next.

    Attributes:
        workers: Workers that are online, by name.
        paused: Whether the work pool is paused.
        deployments: How many there are.
        automations: How many of ours there are.
        alerts: How many of them tell somebody.
        next_run: When the next scheduled run is due, None where none is.
    """

    workers: tuple[str, ...]
    paused: bool
    deployments: int
    automations: int
    alerts: int
    next_run: datetime | None

    def __str__(self) -> str:
        workers = f"worker {', '.join(self.workers)} online" if self.workers else "no worker online"
        due = f"next run {self.next_run:%Y-%m-%d %H:%M} UTC" if self.next_run else "nothing scheduled"
        told = f"{self.alerts} of them tell somebody" if self.alerts else "nobody is told (KLINEHOUSE_ALERT_BLOCK)"
        pool = ", pool paused" if self.paused else ""
        return f"{workers}{pool}; {self.deployments} deployments, {due}; {self.automations} automations, {told}"


def api_url() -> str:
    """Return where the next run would look for Prefect's API."""
    api = get_current_settings().server.api
    return PREFECT_API_URL.value() or f"http://{api.host}:{api.port}/api"


def standing() -> Standing | None:
    """Return what the server says is set up, None where none answers."""
    url = api_url()
    if not is_healthy(url):
        return None
    coming = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"after_": datetime.now(UTC)}}
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        try:
            paused = client.read_work_pool(POOL).is_paused
            workers = client.read_workers_for_work_pool(POOL)
        except ObjectNotFound:
            paused, workers = False, []
        ours = [one for one in client.read_automations() if TAG in one.tags]
        (*_, due) = [
            None,
            *client.read_flow_runs(
                flow_run_filter=FlowRunFilter.model_validate(coming), sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=1
            ),
        ]
        return Standing(
            tuple(one.name for one in workers if one.status == "ONLINE"),
            paused,
            len(client.read_deployments()),
            len(ours),
            sum(action.type == "send-notification" for one in ours for action in one.actions),
            due.expected_start_time if due is not None else None,
        )
