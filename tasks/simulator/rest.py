"""The HTTP side: keys and faults around the answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from aiohttp import web

from tasks.simulator.answers import Answers
from tasks.simulator.faults import chance
from tasks.simulator.plans import Keyring
from tasks.simulator.refusals import Refusal
from tasks.simulator.strikes import Strikes


class Rest:
    """Serves `Answers` over HTTP.

    Attributes:
        requests: How often each ``(path, status)`` was answered; status 0 is a connection cut before the answer.
        strikes: The faults of whole answers.
    """

    def __init__(self, answers: Answers, keys: Keyring) -> None:
        self.answers = answers
        self.keys = keys
        self.strikes = Strikes()
        self.requests: Counter[tuple[str, int]] = Counter()

    def join(self, app: web.Application) -> None:
        """Add the paths to an application."""
        for path in self.answers.paths:
            app.router.add_get(path, self._handle)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        faults, target = self.answers.faults, request.path_qs
        try:
            key = self.keys.admit(request.headers.get("X-API-Key", ""), request.remote, time.monotonic())
            struck = self.strikes.strike(faults, target)
            if faults.latency_s or faults.jitter_s:
                share = chance(faults.seed, "jitter", target, self.strikes.asked(target))
                await asyncio.sleep(faults.latency_s + faults.jitter_s * share)
            if struck == "drop":
                return self._dropped(request)
            body = self.answers.answer(request.path, request.query, key.plan)
        except Refusal as refusal:
            self.requests[request.path, refusal.status] += 1
            return refused(refusal)
        self.requests[request.path, 200] += 1
        if struck == "truncate":
            return await self._truncated(request, body)
        return web.Response(body=body, content_type="application/json")

    def _dropped(self, request: web.Request) -> web.StreamResponse:
        self.requests[request.path, 0] += 1
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _truncated(self, request: web.Request, body: bytes) -> web.StreamResponse:
        half = body[: len(body) // 2]
        if self.strikes.asked(request.path_qs) % 2:
            return web.Response(body=half, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(half)
        if request.transport is not None:
            request.transport.close()
        return response


def refused(refusal: Refusal) -> web.Response:
    """Return the HTTP answer of a refusal."""
    return web.Response(
        body=refusal.body(), status=refusal.status, headers=refusal.headers, content_type="application/json"
    )


async def not_found(request: web.Request) -> web.Response:
    """Answer a path that the vendor does not have."""
    return refused(Refusal(404, f"{request.method} {request.path}"))
