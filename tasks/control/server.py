"""The control page's server: aiohttp on loopback, inside the live flow's own event loop.

It reads the state through a function and changes it through named actions, both passed in: the room knows neither the
stream nor the orders, and a new section of the state appears on `/state` without a line here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from tasks.control.guard import HEADERS, Guard, is_foreign
from tasks.control.metrics import Metrics
from tasks.errors import ConfigurationError, InputError

Snapshot = Callable[[], Mapping[str, Any]]
#: Takes what the request said, by name; refuses it with an `InputError`.
Action = Callable[[Mapping[str, str]], Awaitable[None]]

#: Browsers that may listen at once, and how often they are told.
MAX_LISTENERS = 16
EVENT_EVERY_S = 1.0
#: Longest body of a request that changes state: a name or two.
MAX_BODY_BYTES = 1_024

_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


class ControlServer:
    """Serves the page as an async context manager.

    Args:
        snapshot: Returns the state as plain values without NaN.
        healthy: Says whether all is well, in one sentence either way.
        actions: What a person may do, by name; each needs the token.
        token: The token.
        host: A loopback address.
        port: 0 picks a free one.

    Attributes:
        url: Where the page is, once it is served.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        healthy: Callable[[], tuple[bool, str]],
        actions: Mapping[str, Action],
        *,
        token: SecretStr,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.url = ""
        self._snapshot = snapshot
        self._healthy = healthy
        self._actions = dict(actions)
        self._token = token
        self._host, self._port = host, port
        self._metrics = Metrics(snapshot)
        self._listeners = 0
        self._ending = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._guard = Guard(port, token, host)

    async def __aenter__(self) -> ControlServer:
        app = web.Application(middlewares=[self._check], client_max_size=MAX_BODY_BYTES)
        for path in _PAGE:
            app.router.add_get(path, self._page)
        app.router.add_get("/favicon.ico", self._no_icon)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._prometheus)
        app.router.add_get("/state", self._state)
        app.router.add_post("/actions/{name}", self._act)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(
                f"control page: expected port {self._port} on {self._host} to be free, found it taken; "
                "set KLINEHOUSE_CONTROL_PORT to another, or to 0 for any"
            ) from error
        port = self._runner.addresses[0][1]
        self._guard = Guard(port, self._token, self._host)
        self.url = f"http://{self._host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending.set()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _check(self, request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]) -> Any:
        """Refuse foreign host names before anything else, and put the headers on every answer."""
        if not self._guard.knows_host(request.headers.get("Host")):
            return _answer(421, {"error": "expected a loopback address as host name"})
        if request.method not in ("GET", "HEAD") and not self._guard.allows_change(request.headers):
            return _answer(403, {"error": "expected the control token in X-Klinehouse-Token, from this page"})
        try:
            response = await handler(request)
        except web.HTTPException as refusal:
            return _answer(refusal.status, {"error": refusal.reason})
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _page(self, request: web.Request) -> web.Response:
        name, kind = _PAGE[request.path]
        text = resources.files("tasks.control").joinpath("page", name).read_text(encoding="utf-8")
        return web.Response(text=text, content_type=kind)

    async def _no_icon(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _health(self, request: web.Request) -> web.Response:
        well, sentence = self._healthy()
        return _answer(200 if well else 503, {"healthy": well, "detail": sentence})

    async def _prometheus(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), content_type="text/plain", charset="utf-8")

    async def _state(self, request: web.Request) -> web.StreamResponse:
        if "text/event-stream" in request.headers.get("Accept", ""):
            return await self._tell(request)
        return web.json_response(text=_text(self._snapshot()))

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        """Send the state as server-sent events until the browser leaves or the flow ends."""
        if is_foreign(request.headers):
            return _answer(403, {"error": "expected a listener of this page's own origin"})
        if self._listeners >= MAX_LISTENERS:
            return _answer(503, {"error": f"expected at most {MAX_LISTENERS} listeners"})
        self._listeners += 1
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        try:
            await response.prepare(request)
            while not self._ending.is_set():
                await response.write(f"data: {_text(self._snapshot())}\n\n".encode())
                try:
                    async with asyncio.timeout(EVENT_EVERY_S):
                        await self._ending.wait()
                except TimeoutError:
                    continue
        except ConnectionError:
            return response  # the browser left
        finally:
            self._listeners -= 1
        return response

    async def _act(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        action = self._actions.get(name)
        if action is None:
            return _answer(404, {"error": f"expected one of {sorted(self._actions)}"})
        try:
            await action(read_said(await request.read()))
        except InputError as refusal:
            return _answer(400, {"error": str(refusal)})
        return _answer(200, {"done": name})


def read_said(body: bytes) -> dict[str, str]:
    """Return what a request says, nothing for an empty body; half a surrogate, which no file takes, becomes a "?".

    Raises:
        InputError: It is not an object of strings.
    """
    try:
        said = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise InputError("action: expected a JSON object of strings, or no body")
    return {name: value.encode(errors="replace").decode() for name, value in said.items()}


def _answer(status: int, body: Mapping[str, Any]) -> web.Response:
    return web.json_response(body, status=status, headers=HEADERS)


def _text(state: Mapping[str, Any]) -> str:
    return json.dumps(state, allow_nan=False, separators=(",", ":"))
