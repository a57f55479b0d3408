"""Every automation of the platform: what is watched, and what happens then.

`apply()` writes them to the server and may be called again at any time: an automation is known by its name, ours carry
the tag `klinehouse`, and one that is no longer declared here is deleted. None of them ever starts the live flow.

Who hears of trouble is one setting: KLINEHOUSE_ALERT_BLOCK names a notification block of Prefect's, such as
``slack-webhook/ops``. Without it the alerts still stand in the event feed.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.events.actions import ActionTypes, ChangeFlowRunState, DoNothing, RunDeployment, SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.states import StateType

from flows.events import BARS_WRITTEN, LIVE_HALTED, PARTITIONS_REJECTED, RESOURCE
from tasks.errors import ConfigurationError

TAG = "klinehouse"

#: The deployment that judges what a backfill wrote.
JUDGE = "quality/after-backfill"

#: A run tells that it lives every 180 s by default (PREFECT_FLOWS_HEARTBEAT_FREQUENCY). Three missed beats and a
#: margin; less than one beat would call healthy runs dead.
SILENT = timedelta(minutes=10)

#: One message a deployment and hour about late runs: after a downtime all of them are late at once.
QUIET = timedelta(hours=1)

#: Parameters of `JUDGE`, from the event; a template of one expression keeps a list a list.
_JUDGED = {name: f"{{{{ event.payload.{name} }}}}" for name in ("symbols", "interval", "start", "end")}
#: The live flow's record is put right by its own lock (flows/tidy.py): a server that was down for ten minutes must not
#: call a healthy one dead.
_NOT_LIVE: dict[str, str | list[str]] = {"prefect.resource.role": "flow", "prefect.resource.name": "!live"}
_RUN = "{{ flow_run.name }} of {{ flow.name }}: {{ flow_run.state.name }}. {{ flow_run.state.message }}"
_LINK = "\n{{ flow_run | ui_url }}"

_ENDED = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed")}
_HEARTBEAT = "prefect.flow-run.heartbeat"


def declared(
    judge: UUID, alert_block: UUID | None, *, silent: timedelta = SILENT, quiet: timedelta = QUIET
) -> list[AutomationCore]:
    """Return every automation as it should be.

    Args:
        judge: The deployment `JUDGE`.
        alert_block: The notification block; without one an alert only stands in the event feed.
        silent: How long a run may be silent before it counts as dead.
        quiet: How long nothing more is said about late runs of a deployment.
    """
    return [
        AutomationCore(
            name="quality after backfill",
            description="Judges the bars that a backfill has just written, and only those.",
            tags=[TAG],
            trigger=_on(BARS_WRITTEN),
            actions=[RunDeployment(deployment_id=judge, parameters=_JUDGED)],
        ),
        AutomationCore(
            name="reap silent runs",
            description="Marks a run as crashed whose process has told nothing for too long. Starts nothing.",
            tags=[TAG],
            trigger=EventTrigger(
                posture=Posture.Proactive,
                after={_HEARTBEAT},
                expect={_HEARTBEAT, *_ENDED},
                match=_flow_runs(),
                match_related=ResourceSpecification(
                    {"prefect.resource.role": "flow", "prefect.resource.name": "!live"}
                ),
                for_each={"prefect.resource.id"},
                threshold=1,
                within=silent,
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED, message=f"Its process has told nothing for {_minutes(silent)}."
                )
            ],
        ),
        _alert(
            "alert on rejected data",
            "Tells which partitions quality refuses.",
            _on(PARTITIONS_REJECTED),
            "{{ event.payload.count }} partitions of {{ event.payload.interval }} bars rejected",
            "{% for line in event.payload.partitions %}- {{ line }}\n{% endfor %}"
            "Fetch them again, or release them with a reason (docs/howto/release.md).",
            alert_block,
        ),
        _alert(
            "alert on failed runs",
            "Tells of every run that failed or crashed, reaped ones included.",
            EventTrigger(expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}, match=_flow_runs()),
            "{{ flow.name }}: {{ flow_run.state.name }}",
            _RUN + _LINK,
            alert_block,
        ),
        _alert(
            "alert on late runs",
            "Tells, once an hour and deployment, that a run is late: no worker, or none with room.",
            EventTrigger(
                expect={"prefect.flow-run.Late"},
                match=_flow_runs(),
                for_each={"related:deployment:prefect.resource.id"},
                within=quiet,
            ),
            "{{ flow.name }} is late",
            "{{ flow_run.name }} of {{ flow.name }} has not begun: is a worker online, and has it room?" + _LINK,
            alert_block,
        ),
        _alert(
            "alert on a halted live flow",
            "Tells that the live flow has stopped trading, and why.",
            _on(LIVE_HALTED),
            "Trading of {{ event.payload.account }} is halted",
            "{{ event.payload.reason }}\nNothing is sent until a person resumes it (docs/howto/rerun.md).",
            alert_block,
        ),
    ]


async def apply(
    client: PrefectClient, alert_block: str = "", *, silent: timedelta = SILENT, quiet: timedelta = QUIET
) -> list[str]:
    """Make the server's automations those declared here, and return their names.

    Args:
        client: The server's.
        alert_block: Notification block as ``<type>/<name>``; empty for none.
        silent: How long a run may be silent before it counts as dead.
        quiet: How long nothing more is said about late runs of a deployment.

    Raises:
        ConfigurationError: The deployments are not there yet, or there is no such block.
    """
    wanted = declared(await _deployment(client), await _block(client, alert_block), silent=silent, quiet=quiet)
    there = {one.name: one for one in await client.read_automations() if TAG in one.tags}
    for automation in wanted:
        await _put(client, automation, there.pop(automation.name, None))
    for gone in there.values():
        await client.delete_automation(gone.id)
    return [automation.name for automation in wanted]


async def _put(client: PrefectClient, wanted: AutomationCore, there: Automation | None) -> None:
    """Create or update one automation; one that a person has switched off stays off."""
    if there is None:
        await client.create_automation(wanted)
    else:
        # The client sends only what was set, and the server takes no owner in an update.
        whole = wanted.model_dump(mode="json", exclude={"owner_resource"}) | {"enabled": there.enabled}
        await client.update_automation(there.id, AutomationCore.model_validate(whole))


async def _deployment(client: PrefectClient) -> UUID:
    try:
        return (await client.read_deployment_by_name(JUDGE)).id
    except ObjectNotFound as error:
        raise ConfigurationError(
            f"automations: expected the deployment {JUDGE}, found none; run `klinehouse deploy` in the project's folder"
        ) from error


async def _block(client: PrefectClient, name: str) -> UUID | None:
    if not name:
        return None
    kind, _, document = name.partition("/")
    try:
        return (await client.read_block_document_by_name(document, kind, include_secrets=False)).id
    except ObjectNotFound as error:
        raise ConfigurationError(
            f"KLINEHOUSE_ALERT_BLOCK: expected an existing notification block as <type>/<name>, found {name!r}; "
            "docs/howto/alerts.md shows how to make one"
        ) from error


def _alert(
    name: str, description: str, trigger: EventTrigger, subject: str, body: str, block: UUID | None
) -> AutomationCore:
    action: ActionTypes = DoNothing()
    if block is None:
        description += " Nobody hears of it until KLINEHOUSE_ALERT_BLOCK names a block; the event feed has it."
    else:
        action = SendNotification(block_document_id=block, subject=f"Klinehouse: {subject}", body=body)
    return AutomationCore(name=name, description=description, tags=[TAG], trigger=trigger, actions=[action])


def _on(event: str) -> EventTrigger:
    return EventTrigger(expect={event}, match=ResourceSpecification({"prefect.resource.id": f"{RESOURCE}*"}))


def _flow_runs() -> ResourceSpecification:
    return ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:g} minutes"
