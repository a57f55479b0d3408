"""What changes per machine, read from the environment in one place and nowhere else.

Every setting is an environment variable with the prefix ``KLINEHOUSE_`` or a line of ``.env`` beside the project;
`KLINEHOUSE_API_KEY` never leaves this object except towards the vendor. What changes per run is a flow parameter.
Nothing is read at import: `load()` reads, `use()` puts a ready object in its place for a block of code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.errors import ConfigurationError
from tasks.journal.place import STATE_DIR

Plan = Literal["free", "basic", "pro", "enterprise"]

#: Requests a minute, live subscriptions and days of history that each of the vendor's plans allows (its documentation,
#: July 2026).
REQUESTS_PER_MINUTE: dict[str, int] = {"free": 30, "basic": 60, "pro": 600, "enterprise": 1800}
SUBSCRIPTIONS: dict[str, int] = {"free": 5, "basic": 50, "pro": 300, "enterprise": 5000}
HISTORY_DAYS: dict[str, int] = {"free": 0, "basic": 365, "pro": 3 * 365, "enterprise": 10 * 365}

_PREFIX = "KLINEHOUSE_"
#: How alike two names are, out of 1, where one is taken for a slip of the other.
_ALIKE = 0.75


class Settings(BaseSettings):
    """One frozen object with everything a machine decides."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        dotenv_filtering="match_prefix",  # the lines of other programs are theirs to read
        extra="forbid",
        frozen=True,
    )

    lake_root: str = Field(
        "data", description="Folder or s3:// address of the lake; S3 takes the environment's AWS_* variables."
    )
    report_dir: Path = Field(Path("reports"), description="Folder that reports are written to.")
    state_dir: Path = Field(STATE_DIR, description="Folder for locks and the shared rate budget.")
    market: Literal["tickdb", "simulator"] = Field(
        "tickdb", description="The vendor, or the market simulated inside the process (no key, no internet)."
    )
    vendor_url: str = Field("https://api.tickdb.ai", description="Base address of the vendor's REST side.")
    stream_url: str = Field(
        "wss://api.tickdb.ai/v1/realtime", description="Address of the vendor's WebSocket side, without the key."
    )
    api_key: SecretStr | None = Field(None, description="The vendor's key.")
    market_now: AwareDatetime | None = Field(
        None, description="The market's present where it is not ours: a replayed market ends there."
    )
    plan: Plan = Field("free", description="The vendor's plan: sets requests a minute and the reach of history.")

    control_port: int = Field(8780, ge=0, le=65535, description="Loopback port of the live flow's page; 0 picks one.")
    keep_awake: bool = Field(
        False,
        description="Whether a live run keeps the processors from sleeping (Linux, write access to "
        "/dev/cpu_dma_latency): orders leave sooner, at the price of power.",
    )
    redis_url: SecretStr | None = Field(None, description="Redis that the live state is mirrored to; none by default.")

    market_speed: float = Field(
        1.0, gt=0, le=60, description="Seconds of the simulated market in one of ours; a demonstration runs faster."
    )
    sandbox_key: SecretStr | None = Field(None, description="Key of the exchange's test environment.")
    sandbox_secret: SecretStr | None = Field(None, description="Its secret.")
    sandbox_passphrase: SecretStr | None = Field(None, description="Its passphrase, at exchanges that want one (OKX).")
    trade_key: SecretStr | None = Field(None, description="Key that may trade real money; never one that may withdraw.")
    trade_secret: SecretStr | None = Field(None, description="Its secret.")
    trade_passphrase: SecretStr | None = Field(None, description="Its passphrase, at exchanges that want one (OKX).")
    live_account: str = Field("", description="Name of the account that holds real money; a live run repeats it.")
    limits_file: Path | None = Field(None, description="TOML file of risk limits where they are not the defaults.")

    alert_block: str = Field(
        "", description="Prefect notification block that hears of trouble, such as slack-webhook/ops; none by default."
    )
    dask: str = Field(
        "", description="Where large sweeps run: empty for this process, `local`, or a Dask scheduler's address."
    )
    requests_per_minute: int | None = Field(None, ge=1, description="The key's rate where it is not the plan's.")
    history_days: int | None = Field(None, ge=0, le=36_500, description="The key's reach where it is not the plan's.")

    @model_validator(mode="before")
    @classmethod
    def _simulated_markets_are_open(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Give the simulated market the largest plan unless one is named: the vendor's smallest has no history."""
        return {"plan": "enterprise", **given} if given.get("market") == "simulator" else given

    @property
    def rate(self) -> int:
        """Return the requests a minute that the key allows."""
        return self.requests_per_minute or REQUESTS_PER_MINUTE[self.plan]

    def oldest(self, now: datetime) -> datetime:
        """Return the earliest bar that the key is served at `now`."""
        days = HISTORY_DAYS[self.plan] if self.history_days is None else self.history_days
        return now - timedelta(days=days)

    def vendor_key(self) -> SecretStr:
        """Return the vendor's key.

        Raises:
            ConfigurationError: No key is set; the message says which setting to change.
        """
        if self.api_key is None or not self.api_key.get_secret_value():
            raise ConfigurationError(
                "vendor key: expected KLINEHOUSE_API_KEY in the environment or in .env, found none; "
                "set it, or set KLINEHOUSE_MARKET=simulator to use the built-in market"
            )
        return self.api_key


_in_use: ContextVar[Settings | None] = ContextVar("settings", default=None)


def load() -> Settings:
    """Return the settings of this machine, or those that `use()` put in place.

    Raises:
        ConfigurationError: A variable has a value that its setting cannot take, or a name that is close to a setting's
            and none, or .env cannot be read.
    """
    settings = _in_use.get()
    if settings is not None:
        return settings
    check_env_file()
    problems = [_unknown(name, "the environment") for name in os.environ if _is_misspelt(name)]
    if problems:
        raise ConfigurationError(f"settings: {'; '.join(problems)}")
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(map(_problem, error.errors(include_input=False)))
        raise ConfigurationError(f"settings: {problems}") from None


def check_env_file() -> None:
    """Read .env, where there is one: Prefect reads it too, as it is imported, and knows no message for one it cannot.

    Raises:
        ConfigurationError: It is no UTF-8 text, or not ours to read.
    """
    path = Path(".env")
    try:
        if path.is_file():
            path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(
            f"settings: expected .env to be UTF-8 text that you may read, found {error}; save it as UTF-8"
        ) from None


def _problem(item: Mapping[str, Any]) -> str:
    name = f"{_PREFIX}{'.'.join(map(str, item['loc'])).upper()}"
    return _unknown(name, ".env") if item["type"] == "extra_forbidden" else f"{name}: {item['msg']}"


def _unknown(name: str, place: str) -> str:
    near = _nearest(name)
    hint = f"; did you mean {_PREFIX}{near.upper()}?" if near else ""
    return f"{name} in {place}: expected a setting, found none of that name{hint}"


def _is_misspelt(name: str) -> bool:
    """Return whether a variable is close to a setting and none: other names with our prefix may be anybody's.

    Kubernetes gives every container such names for a service called klinehouse.
    """
    if not name.upper().startswith(_PREFIX) or _own(name) in Settings.model_fields:
        return False
    return _nearest(name) is not None


def _nearest(name: str) -> str | None:
    return next(iter(get_close_matches(_own(name), Settings.model_fields, n=1, cutoff=_ALIKE)), None)


def _own(name: str) -> str:
    return name[len(_PREFIX) :].lower()


@contextmanager
def use(settings: Settings) -> Iterator[Settings]:
    """Put `settings` in the place of the machine's for this block, tasks and threads started in it included."""
    token = _in_use.set(settings)
    try:
        yield settings
    finally:
        _in_use.reset(token)
