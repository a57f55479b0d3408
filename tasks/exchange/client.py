"""TickDB over HTTP. The only file of this room that knows aiohttp; its edge to the network is `Transport`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Protocol, Self, TypeVar

import aiohttp
import polars as pl
from pydantic import SecretStr

from lake.schema import BARS
from lake.timeline import utc
from tasks.errors import ConfigurationError, KlinehouseError, TransientError
from tasks.exchange import parse, request
from tasks.exchange.codes import error_for
from tasks.exchange.fetch import iter_confirmed
from tasks.exchange.limiter import Priority, per_minute
from tasks.exchange.page import Page
from tasks.exchange.request import Request, Window
from tasks.exchange.retry import RetryPolicy, parse_retry_after
from tasks.exchange.sending import Sender
from tasks.exchange.throttle import Budget, PrivateBudget, Throttle

T = TypeVar("T")

#: A page of 1,000 bars weighs 0.15 MB; nothing documented comes near this.
MAX_BODY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came from the network: header names in lower case, the body whole."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Transport(Protocol):
    """The edge to the network: one request in, one answer out. Tests replace it."""

    async def get(self, request: Request) -> Reply:
        """Return the answer; raises TransientError where none came whole."""
        ...

    async def close(self) -> None:
        """Release the connections."""
        ...


class HttpTransport:
    """One aiohttp session: bounded connections, named timeouts, no redirects (they would carry the key elsewhere)."""

    def __init__(self, base_url: str, api_key: SecretStr, *, timeout_s: float, concurrency: int) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency),
            timeout=aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, 10.0)),
            headers={"X-API-Key": api_key.get_secret_value(), "Accept": "application/json"},
            auto_decompress=True,
        )

    async def get(self, request: Request) -> Reply:
        """Return the answer; raises TransientError where none came whole.

        The cause is cut off: aiohttp's errors may hold the request's headers, and with them the key.
        """
        try:
            return await self._get(request)
        except TimeoutError:
            raise TransientError(f"{request}: no whole answer within {self._timeout_s:g} s (timeout_s)") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(f"{request}: the connection failed ({type(error).__name__})") from None

    async def _get(self, request: Request) -> Reply:
        async with self._session.get(
            f"{self._base_url}{request.path}", params=request.params, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise TransientError(f"{request}: expected at most {MAX_BODY_BYTES} bytes, the answer is longer")
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, bytes(body), headers)

    async def close(self) -> None:
        """Close the session and its connections."""
        await self._session.close()


class TickDBClient:
    """The vendor's read side: one session, one throttle, bounded retries.

    Args:
        base_url: The vendor's address.
        api_key: The key; it is sent as a header and appears nowhere else.
        requests_per_minute: The plan's rate; ignored where `limiter` is given.
        limiter: A rate budget shared with others; None for one of this client's own.
        retry: Bounds of the retries of one request.
        timeout_s: Longest wait for one answer.
        concurrency: Requests in flight at most.
        priority: The class of this client's requests.
        transport: The edge to the network; None for HTTP.
        seed: Seed of the retry jitter; None outside tests.
    """

    page_bars = request.PAGE_BARS

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr,
        *,
        requests_per_minute: int,
        limiter: Budget | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        timeout_s: float = 15.0,
        concurrency: int = 8,
        priority: Priority = Priority.BACKFILL,
        transport: Transport | None = None,
        seed: int | None = None,
    ) -> None:
        self._base_url, self._api_key = base_url, api_key
        self._timeout_s, self._concurrency = timeout_s, concurrency
        throttle = Throttle(limiter or PrivateBudget(per_minute(requests_per_minute, lease_s=timeout_s)))
        self._sender = Sender(throttle, retry, concurrency=concurrency, priority=priority, seed=seed)
        self._transport = transport

    @property
    def requests(self) -> int:
        """Requests sent so far, retries included."""
        return self._sender.requests

    async def __aenter__(self) -> Self:
        if not self._api_key.get_secret_value():
            raise ConfigurationError("api_key: expected the vendor's key, found none; set it")
        if self._transport is None:
            self._transport = HttpTransport(
                self._base_url, self._api_key, timeout_s=self._timeout_s, concurrency=self._concurrency
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            await self._transport.close()

    async def fetch_page(self, symbol: str, interval_name: str, window: Window, *, now: datetime) -> Page:
        """Return the closed bars of one window; see `parse.parse_klines` for what raises."""
        asked = request.kline_request(symbol, interval_name, window)
        limit = int(dict(asked.params)["limit"])

        def read(body: bytes) -> Page:
            return parse.parse_klines(
                body, symbol=symbol, interval_name=interval_name, window=window, limit=limit, now=now
            )

        return await self._ask(asked, read)

    async def iter_klines(
        self,
        symbol: str,
        interval: str,
        start: datetime,
        end: datetime,
        *,
        now: datetime | None = None,
        expected: pl.Series | None = None,
        confirmations: int = 2,
    ) -> AsyncIterator[pl.DataFrame]:
        """Yield the closed bars of ``[start, end)`` page by page, oldest first, holes asked for again."""
        async for confirmed in iter_confirmed(
            self,
            symbol,
            interval,
            utc(start),
            utc(end),
            now=now or datetime.now(UTC),
            expected=expected,
            confirmations=confirmations,
            concurrency=self._concurrency,
        ):
            yield confirmed.page.bars

    async def fetch_klines(
        self, symbol: str, interval: str, start: datetime, end: datetime, *, now: datetime | None = None
    ) -> pl.DataFrame:
        """Return the closed bars of ``[start, end)`` in one frame."""
        pages = [bars async for bars in self.iter_klines(symbol, interval, start, end, now=now)]
        return pl.concat(pages) if pages else pl.DataFrame(schema=BARS)

    async def fetch_latest_klines(self, symbols: Sequence[str], interval: str) -> list[parse.Klines]:
        """Return the bars still being formed. For display only: they must never reach the lake."""
        return await self._fetch(request.latest_request(symbols, interval), list[parse.Klines])

    async def fetch_depth(self, symbol: str, levels: int = 10) -> parse.Depth:
        """Return the order book, best prices first."""
        return await self._fetch(request.depth_request(symbol, levels), parse.Depth)

    async def fetch_trades(self, symbol: str, limit: int = 100) -> list[parse.Trade]:
        """Return the latest trades."""
        return (await self._fetch(request.trades_request(symbol, limit), parse.Trades)).trades

    async def fetch_tickers(self, symbols: Sequence[str]) -> list[parse.Ticker]:
        """Return price snapshots of at most 50 symbols."""
        return await self._fetch(request.tickers_request(symbols), list[parse.Ticker])

    async def fetch_symbols(self, market: str | None = None) -> list[parse.Product]:
        """Return every instrument the vendor lists, or those of one market."""
        found: list[parse.Product] = []
        while True:
            page = await self._fetch(request.symbols_request(len(found), market=market), parse.Products)
            found += page.products
            if not page.products or len(found) >= page.pagination.total:
                return found

    async def fetch_intervals(self) -> list[str]:
        """Return the intervals the vendor serves, in the vendor's spelling."""
        return (await self._fetch(request.intervals_request(), parse.Intervals)).intervals

    async def fetch_trade_days(self, market: str, start: date, end: date) -> parse.TradeDays:
        """Return a market's trading days from `start` to `end`, both included."""
        return await self._fetch(request.trade_days_request(market, start, end), parse.TradeDays)

    async def fetch_trading_sessions(self, market: str) -> list[parse.Session]:
        """Return a market's daily sessions in its local time."""
        markets = await self._fetch(request.trading_sessions_request(market), list[parse.Sessions])
        return [session for found in markets if found.market == market for session in found.trading_sessions]

    async def _fetch(self, asked: Request, kind: type[T]) -> T:
        return await self._ask(asked, lambda body: parse.parse_data(body, kind, where=asked.path))

    async def _ask(self, asked: Request, read: Callable[[bytes], T]) -> T:
        """Send a request until it is answered, within the retry policy's bounds."""

        async def attempt() -> T:
            reply = await self._transport.get(asked)  # type: ignore[union-attr]  # set by __aenter__
            try:
                if reply.status == HTTPStatus.OK:
                    return read(reply.body)
                raise _refusal(reply, asked)
            except KlinehouseError as error:
                raise self._without_key(error) from None

        return await self._sender.send(attempt, str(asked))

    def _without_key(self, error: KlinehouseError) -> KlinehouseError:
        """Return the error with the key blotted out, should the vendor have echoed it."""
        key = self._api_key.get_secret_value()
        if key not in str(error):
            return error
        words = [arg.replace(key, "***") if isinstance(arg, str) else arg for arg in error.args]
        return type(error)(*words)


def _refusal(reply: Reply, asked: Request) -> KlinehouseError:
    """Return what an answer other than 200 means: the vendor's code where the body has one, else the status."""
    code, message = parse.parse_head(reply.body) or (reply.status, f"HTTP {reply.status}")
    retry_after_s = parse_retry_after(
        reply.headers.get("retry-after"), now=datetime.now(UTC), server_date=reply.headers.get("date")
    )
    return error_for(code or reply.status, message, where=str(asked), retry_after_s=retry_after_s)
