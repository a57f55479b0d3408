"""Settings: read in one place, clear when wrong, silent about secrets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flows import settings
from tasks.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("API_KEY", "PLAN", "MARKET", "LAKE_ROOT"):
        monkeypatch.delenv(f"KLINEHOUSE_{name}", raising=False)


def test_defaults_need_no_environment() -> None:
    """A fresh machine gets a lake in a folder and the smallest plan."""
    found = settings.load()
    assert found.lake_root == "data"
    assert found.rate == 30


def test_the_simulated_market_alone_has_history(monkeypatch) -> None:
    """Choosing the simulated market is enough to fetch years of bars; a plan that is named still counts."""
    monkeypatch.setenv("KLINEHOUSE_MARKET", "simulator")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert settings.load().oldest(now) < datetime(2024, 1, 1, tzinfo=UTC)
    monkeypatch.setenv("KLINEHOUSE_PLAN", "free")
    assert settings.load().oldest(now) == now


def test_environment_and_env_file_are_read_at_the_call(tmp_path, monkeypatch) -> None:
    """A variable beats a line of .env, and neither is read at import."""
    (tmp_path / ".env").write_text("KLINEHOUSE_PLAN=basic\nKLINEHOUSE_LAKE_ROOT=from-file\n")
    monkeypatch.setenv("KLINEHOUSE_PLAN", "pro")
    found = settings.load()
    assert (found.plan, found.rate, found.lake_root) == ("pro", 600, "from-file")


def test_a_wrong_value_names_its_variable(monkeypatch) -> None:
    """The error says which variable to change and does not repeat what it held."""
    monkeypatch.setenv("KLINEHOUSE_PLAN", "canary-value")
    with pytest.raises(ConfigurationError, match="KLINEHOUSE_PLAN") as caught:
        settings.load()
    assert "canary-value" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("MARKET_NOW", "2026-01-01T00:00:00"), ("HISTORY_DAYS", "99999999")])
def test_a_time_without_zone_or_before_the_calendar_names_its_variable(monkeypatch, name: str, value: str) -> None:
    """They are refused where they are read, not by the first run that reckons with them."""
    monkeypatch.setenv(f"KLINEHOUSE_{name}", value)
    with pytest.raises(ConfigurationError, match=f"KLINEHOUSE_{name}: Input should"):
        settings.load()


def test_an_env_file_of_another_encoding_is_named(tmp_path) -> None:
    """A file that an editor saved as UTF-16 is told as such."""
    (tmp_path / ".env").write_text("KLINEHOUSE_PLAN=basic", encoding="utf-16")
    with pytest.raises(ConfigurationError, match=r"\.env.*UTF-8"):
        settings.load()


def test_lines_of_other_programs_in_the_env_file_are_theirs(tmp_path) -> None:
    """A project's file commonly holds Prefect's and the storage's variables too, and any other program's."""
    (tmp_path / ".env").write_text("PREFECT_API_URL=http://x\nAWS_REGION=y\nPLAN=z\nKLINEHOUSE_PLAN=basic\n")
    assert settings.load().plan == "basic"


@pytest.mark.parametrize(
    ("name", "hint"), [("KLINEHOUSE_APIKEY", "; did you mean KLINEHOUSE_API_KEY?"), ("KLINEHOUSE_COLOUR", "")]
)
def test_a_misspelt_setting_in_the_env_file_is_refused(tmp_path, name: str, hint: str) -> None:
    """It is named as it stands there, with what it is close to; its value is not told."""
    (tmp_path / ".env").write_text(f"{name}=canary-value\n")
    with pytest.raises(ConfigurationError) as caught:
        settings.load()
    assert str(caught.value) == f"settings: {name} in .env: expected a setting, found none of that name{hint}"


@pytest.mark.parametrize("name", ["KLINEHOUSE_LIMIT_FILE", "KLINEHOUSE_LIMITSFILE", "klinehouse_limits_fil"])
def test_a_misspelt_setting_in_the_environment_is_refused(monkeypatch, name: str) -> None:
    """Limits that somebody meant to set are not the defaults without a word."""
    monkeypatch.setenv(name, "canary-value")
    with pytest.raises(ConfigurationError, match=f"{name} in the environment: .*did you mean KLINEHOUSE_LIMITS_FILE?"):
        settings.load()


def test_other_names_in_the_environment_are_no_settings_of_ours(monkeypatch) -> None:
    """Kubernetes gives each container such names for a service called klinehouse."""
    for name in ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_4200_TCP_ADDR", "PORT_4200_TCP_PROTO", "PROOF"):
        monkeypatch.setenv(f"KLINEHOUSE_{name}", "x")
    assert settings.load().plan == "free"


def test_a_missing_key_says_what_to_do() -> None:
    """Without a key the error names the variable, and the way to work without one."""
    with pytest.raises(ConfigurationError, match=r"KLINEHOUSE_API_KEY.*KLINEHOUSE_MARKET=simulator"):
        settings.load().vendor_key()


def test_the_key_is_never_printed(monkeypatch) -> None:
    """Neither repr nor str of the settings shows the key."""
    monkeypatch.setenv("KLINEHOUSE_API_KEY", "canary-key")
    found = settings.load()
    assert found.vendor_key().get_secret_value() == "canary-key"
    assert "canary-key" not in f"{found!r} {found}"


def test_use_puts_settings_in_place_for_a_block() -> None:
    """`use()` wins over the environment inside its block and nowhere else."""
    with settings.use(settings.Settings(plan="enterprise")):
        assert settings.load().plan == "enterprise"
    assert settings.load().plan == "free"


def test_a_key_may_differ_from_its_plan() -> None:
    """A negotiated rate and reach win over the plan's published figures."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert settings.Settings(plan="basic").oldest(now) == datetime(2025, 1, 1, tzinfo=UTC)
    negotiated = settings.Settings(plan="enterprise", requests_per_minute=5_000, history_days=7_300)
    assert (negotiated.rate, negotiated.oldest(now).year) == (5_000, 2006)
