"""A sweep's standings while it runs: a table of the best and a map, as artifacts that renew themselves."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from uuid import UUID

from prefect.artifacts import Artifact, MarkdownArtifact, TableArtifact

from flows.steps import Progress, is_orchestrated, key_of, republish
from tasks.sweep.standings import Standings

#: Seconds between two renewals; one costs some 0.1 s, beside the work.
PACE = 5.0


class Board:
    """Shows what a running sweep has found so far, chunk by chunk.

    In a flow run it keeps two artifacts, ``sweep-best-…`` and ``sweep-map-…``, at most every `PACE` seconds and once at
    the end, so that a sweep that failed or was stopped still shows how far it came; a terminal gets one line.

    Args:
        words: What is swept; parts of the artifacts' keys.
        progress: The bar whose line says where the sweep stands.
    """

    def __init__(self, *words: str, progress: Progress) -> None:
        self._words, self._progress = words, progress
        self._standings, self._shown = Standings(total=0), Standings(total=0)
        self._known: dict[str, UUID | None] = {}
        self._news, self._closing = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Board:
        """Begin to listen."""
        self._loop = asyncio.get_running_loop()
        self._publishing = asyncio.create_task(self._keep_publishing()) if is_orchestrated() else None
        return self

    async def __aexit__(self, *failure: object) -> None:
        """Show what was heard last."""
        self._closing.set()
        self._news.set()
        if self._publishing is not None:
            await self._publishing

    def hear(self, found: Standings) -> None:
        """Take in the standings of one more chunk; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._take, found)

    def _take(self, found: Standings) -> None:
        from tasks.report.standing import standing_sentence

        self._standings = self._standings.merged(found)
        self._progress.note(standing_sentence(self._standings))
        self._news.set()

    async def _keep_publishing(self) -> None:
        while not self._closing.is_set():
            await self._news.wait()
            self._news.clear()
            await self._publish()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), PACE)
        await self._publish()

    async def _publish(self) -> None:
        if self._standings is self._shown:
            return
        self._shown = self._standings
        for artifact in await asyncio.to_thread(self._draw, self._shown):
            key = artifact.key or ""
            self._known[key] = await republish(artifact, self._known.get(key))

    def _draw(self, standings: Standings) -> list[Artifact]:
        from tasks.report.standing import standing_png, standing_rows, standing_sentence

        told = f"{' '.join(self._words)}: {standing_sentence(standings)}"
        table = TableArtifact(
            key=key_of("sweep-best", *self._words), description=told, table=list(standing_rows(standings))
        )
        if not standings.axes:
            return [table]
        drawn = base64.b64encode(standing_png(standings)).decode("ascii")
        picture = f"![Best Sharpe ratio over the parameters](data:image/png;base64,{drawn})"
        # An image artifact would show the same with the whole data address as a line of text below it.
        return [table, MarkdownArtifact(key=key_of("sweep-map", *self._words), description=told, markdown=picture)]
