"""The port behind which every vendor sits, and the settings that choose one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from tasks.errors import ConfigurationError
from tasks.exchange.budget import SharedBudget, default_folder, scope_of
from tasks.exchange.limiter import Limits, Priority, per_minute
from tasks.exchange.page import Page
from tasks.exchange.request import Window
from tasks.exchange.retry import RetryPolicy

if TYPE_CHECKING:
    from tasks.exchange.client import TickDBClient

#: Answers without a bar until its absence is believed: the first one and one confirmation.
DEFAULT_CONFIRMATIONS = 2


class BarSource(Protocol):
    """A vendor of bars.

    Attributes:
        page_bars: The most bars a page holds.
    """

    page_bars: int

    @property
    def requests(self) -> int:
        """Requests sent so far, retries included."""
        ...

    async def fetch_page(self, symbol: str, interval_name: str, window: Window, *, now: datetime) -> Page:
        """Return the closed bars of one window.

        Raises:
            KlinehouseError: By cure; see `tasks.errors`. Transient faults were already retried within bounds.
        """
        ...


class SourceSettings(BaseModel):
    """Which vendor, with which key, how fast. Small enough to be handed to a Prefect task.

    Attributes:
        source: ``tickdb``, or ``ccxt:<exchange>`` for any exchange of ccxt.
        base_url: TickDB's address.
        exchange_url: Address of a ccxt exchange where it is not the exchange's own (a proxy, a test).
        api_key: The key; never printed.
        requests_per_minute: The rate of TickDB's plan; an exchange of ccxt keeps its own.
        concurrency: Requests in flight at most.
        timeout_s: Longest wait for one answer.
        attempts: Requests sent at most until one is answered.
        confirmations: Answers without a bar until its absence is believed.
        budget_dir: Folder of the rate budget that processes share; None for the user's own in the temporary folder.
        priority: Who goes first where several share the key's rate.
        now: The market's clock where it is not ours (a replayed market); None for the present.
    """

    model_config = ConfigDict(frozen=True)

    source: str = "tickdb"
    base_url: str = "https://api.tickdb.ai"
    exchange_url: str | None = None
    api_key: SecretStr = SecretStr("")
    requests_per_minute: int = Field(default=60, ge=1)
    concurrency: int = Field(default=8, ge=1, le=64)
    timeout_s: float = Field(default=15.0, gt=0)
    attempts: int = Field(default=5, ge=1, le=10)
    confirmations: int = Field(default=DEFAULT_CONFIRMATIONS, ge=1)
    budget_dir: str | None = None
    priority: Priority = Priority.BACKFILL
    now: datetime | None = None

    def clock(self) -> datetime:
        """Return the market's present."""
        return self.now or datetime.now(UTC)


def open_source(settings: SourceSettings) -> AbstractAsyncContextManager[BarSource]:
    """Return the vendor that the settings choose, as an async context manager.

    Raises:
        ConfigurationError: No vendor has that name.
    """
    if settings.source == "tickdb":
        return _open_tickdb(settings)
    if settings.source.startswith("ccxt:"):
        from tasks.exchange.ccxt_source import open_ccxt  # three seconds to import, for those who want it only

        return open_ccxt(settings.source.removeprefix("ccxt:"), settings)
    raise ConfigurationError(f"source: expected 'tickdb' or 'ccxt:<exchange>', found {settings.source!r}")


def shared_budget(settings: SourceSettings, address: str, limits: Limits) -> SharedBudget:
    """Return the rate budget that every process using the settings' key at that address shares."""
    folder = Path(settings.budget_dir) if settings.budget_dir else default_folder()
    return SharedBudget(folder, scope_of(address, settings.api_key), limits)


def scratch_folder(settings: SourceSettings, lake_root: str) -> Path:
    """Return where pages wait for their commit: inside a local lake; for object storage, beside the rate budget."""
    if "://" not in lake_root:
        return Path(lake_root) / ".spool"
    folder = Path(settings.budget_dir) if settings.budget_dir else default_folder()
    return folder / "spool" / quote(lake_root, safe="")


@asynccontextmanager
async def _open_tickdb(settings: SourceSettings) -> AsyncIterator[BarSource]:
    async with open_tickdb(settings) as (client, _):
        yield client


@asynccontextmanager
async def open_tickdb(settings: SourceSettings) -> AsyncIterator[tuple[TickDBClient, SharedBudget]]:
    """Yield TickDB's client, and the key's rate budget that it spends."""
    from tasks.exchange.client import TickDBClient  # aiohttp loads only for those who fetch

    limits = per_minute(settings.requests_per_minute, lease_s=settings.timeout_s)
    with closing(shared_budget(settings, settings.base_url, limits)) as budget:
        async with TickDBClient(
            settings.base_url,
            settings.api_key,
            requests_per_minute=settings.requests_per_minute,
            limiter=budget,
            retry=RetryPolicy(attempts=settings.attempts),
            timeout_s=settings.timeout_s,
            concurrency=settings.concurrency,
            priority=settings.priority,
        ) as client:
            yield client, budget
