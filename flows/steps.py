"""How a flow takes a step, shows it and tells about it, with a server or without one."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from prefect import Flow, Task
from prefect.artifacts import (
    Artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.context import FlowRunContext
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TimeElapsedColumn

log = structlog.get_logger("flows")

#: Seconds between two updates of a progress artifact.
REFRESH_S = 3.0


def is_orchestrated() -> bool:
    """Return whether this code runs inside a Prefect flow run."""
    return FlowRunContext.get() is not None


async def step(door: Task[Any, Any], /, *arguments: Any, **named: Any) -> Any:
    """Go through a room's door: as a Prefect task inside a flow run, as a plain function otherwise.

    A sync door runs in a thread, so that heartbeats, progress and cancellation go on meanwhile.
    """
    if not is_orchestrated():
        if inspect.iscoroutinefunction(door.fn):
            return await door.fn(*arguments, **named)
        return await asyncio.to_thread(door.fn, *arguments, **named)
    if door.isasync:
        return await door(*arguments, **named)
    future = door.submit(*arguments, **named)
    return await asyncio.to_thread(future.result)


async def subflow(inner: Flow[Any, Any], /, **parameters: Any) -> Any:
    """Run another flow as a part of this one: as a subflow inside a flow run, as a plain function otherwise."""
    run: Callable[..., Any] = inner if is_orchestrated() else inner.fn
    return await run(**parameters)


async def gather(steps: Sequence[Callable[[], Coroutine[Any, Any, Any]]], *, at_once: int) -> list[Any]:
    """Run steps, `at_once` of them at a time, and return results and exceptions in their order.

    One failed symbol never stops the others: its exception stands in the list for the flow to report.
    """
    slots = asyncio.Semaphore(at_once)

    async def run(start: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async with slots:
            return await start()

    return await asyncio.gather(*(run(start) for start in steps), return_exceptions=True)


class Progress:
    """A share of work done: a bar in the terminal, and an artifact where there is a run to hang it on.

    Where stderr is no terminal, one line at the end takes the bar's place. An update of the artifact takes about 50 ms
    from a step that waits for it, so it follows every `REFRESH_S` seconds, however many steps that are.

    Args:
        key: The artifact's key: lower case letters, digits and dashes.
        total: Steps of work.
        description: What is being done.
    """

    def __init__(self, key: str, total: int, description: str) -> None:
        self._key, self._total, self._description = key, max(total, 1), description
        self._done, self._began = 0, time.monotonic()
        self._shown_at = self._began
        self._id: UUID | None = None
        console = Console(stderr=True)
        columns = (*Bar.get_default_columns(), TimeElapsedColumn())
        self._bar = Bar(*columns, console=console, transient=True) if console.is_terminal else None

    async def __aenter__(self) -> Progress:
        """Show 0 %."""
        if is_orchestrated():
            self._id = await acreate_progress_artifact(progress=0.0, key=self._key, description=self._description)
        if self._bar is not None:
            self._bar.start()
            self._line = self._bar.add_task(self._description, total=self._total)
        return self

    async def __aexit__(self, *failure: object) -> None:
        """Leave the share that was really reached."""
        await self._show(force=True)
        if self._bar is not None:
            self._bar.stop()
        seconds = time.monotonic() - self._began
        print(f"{self._description}: {self._done} of {self._total} in {seconds:.1f} s", file=sys.stderr)

    async def advance(self, steps: int = 1) -> None:
        """Count `steps` as done."""
        self._done += steps
        if self._bar is not None:
            self._bar.update(self._line, completed=self._done)
        await self._show()

    def note(self, text: str) -> None:
        """Say what is going on behind the bar; costs nothing where there is no terminal."""
        if self._bar is not None:
            self._bar.update(self._line, description=f"{self._description}: {text}")

    async def _show(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._id is not None and (force or now - self._shown_at >= REFRESH_S):
            self._shown_at = now  # before the wait: a step that ends meanwhile does not show the same again
            await aupdate_progress_artifact(self._id, progress=min(100.0 * self._done / self._total, 100.0))


def key_of(*words: str) -> str:
    """Return words as an artifact's key: lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


async def republish(artifact: Artifact, known: UUID | None) -> UUID:
    """Publish an artifact of this run anew and return its id; one that is known already is renewed in its place."""
    if known is None:
        return (await artifact.acreate()).id
    async with get_client() as client:
        renewed = ArtifactUpdate(data=await artifact.aformat(), description=artifact.description)
        await client.update_artifact(known, renewed)
    return known


async def publish_table(key: str, rows: Sequence[dict[str, Any]], description: str) -> None:
    """Publish rows as a table artifact of this run; `key` is lower case letters, digits and dashes."""
    if is_orchestrated():
        await acreate_table_artifact(key=key, table=list(rows), description=description)


async def publish_markdown(key: str, text: str, description: str) -> None:
    """Publish text as a markdown artifact of this run."""
    if is_orchestrated():
        await acreate_markdown_artifact(key=key, markdown=text, description=description)


async def publish_file(key: str, path: str, description: str, text: str | None = None) -> None:
    """Publish a file that this run wrote: a link under the file's name or other words, and its path to copy."""
    file = Path(path)
    # A browser follows no link from a server's page to a file.
    words = f"[{text or file.name}]({file.as_uri()})\n\nCopy the path into the browser's address line:\n\n`{file}`\n"
    await publish_markdown(key, words, description)
