"""What a live run may trade: paper by default, an exchange's sandbox with its own keys, real money with two keys."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flows.cli import journal
from flows.live_limits import read_limits
from flows.live_plan import TradingPlan, check_plan, keys, passphrase, spelling
from flows.settings import Settings, use
from tasks.errors import ConfigurationError
from tasks.journal.__main__ import parser
from tasks.journal.journal import Journal
from tasks.journal.place import journal_path
from tasks.orders.account import Limits

SANDBOX = {"sandbox_key": "paper-key", "sandbox_secret": "paper-secret"}
TRADE = {"trade_key": "live-key", "trade_secret": "live-secret", "live_account": "main-7"}
LIVE = TradingPlan(broker="ccxt:binance", mode="live", i_accept_live="main-7")
TEST = TradingPlan(broker="ccxt:binance")
#: Names whose journal is, or could be, that of another account.
TAKEN = ("paper", "binance-sandbox", "main 7", "main.7", "../main-7")


def settings(**given: Any) -> Settings:
    """Return settings that nothing but the test decides."""
    return Settings(_env_file=None, **given)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("plan", "given", "said"),
    [
        (TradingPlan(broker="ftx"), {}, "expected paper or ccxt:"),
        (TradingPlan(position_fraction=0.011), {}, "every entry would be denied"),
        (TradingPlan(mode="live"), TRADE, "found paper"),
        (TEST, {}, "KLINEHOUSE_SANDBOX_KEY"),
        (TEST, TRADE, "KLINEHOUSE_SANDBOX_KEY"),
        (TEST, SANDBOX | {"market": "simulator"}, "invented prices"),
        (LIVE, SANDBOX | TRADE | {"market": "simulator"}, "invented prices"),
        (TEST, SANDBOX | {"trade_key": "paper-key", "trade_secret": "x"}, "sandbox key of its own"),
        (LIVE, {"trade_key": "k", "trade_secret": "s"}, "KLINEHOUSE_LIVE_ACCOUNT"),
        (LIVE, {"live_account": "main-7"}, "KLINEHOUSE_TRADE_KEY"),
        (LIVE, SANDBOX | {"live_account": "main-7"}, "KLINEHOUSE_TRADE_KEY"),
        (LIVE, TRADE | {"live_account": "main-8"}, "found 'main-7'"),
        (TradingPlan(broker="ccxt:binance", mode="live"), TRADE, "found ''"),
        *((replace(LIVE, i_accept_live=name), TRADE | {"live_account": name}, "a name of its own") for name in TAKEN),
        (LIVE, TRADE | {"sandbox_key": "live-key", "sandbox_secret": "s"}, "paper keys never go live"),
    ],
)
def test_what_is_not_safe_is_refused(plan: TradingPlan, given: dict[str, Any], said: str) -> None:
    """Each missing or misplaced half of the two keys is refused by name, and no key is ever printed."""
    with pytest.raises(ConfigurationError, match=said) as refused:
        check_plan(plan, settings(**given))
    assert "live-key" not in str(refused.value)
    assert "paper-key" not in str(refused.value)


def test_what_is_safe_passes_with_the_keys_it_is_entitled_to() -> None:
    """Paper needs nothing, the sandbox gets the sandbox's keys, live the trading ones, whatever else is set."""
    check_plan(TradingPlan(), settings())
    both = settings(**SANDBOX, **TRADE)
    for plan, key in ((TEST, "paper-key"), (LIVE, "live-key")):
        check_plan(plan, both)
        assert keys(plan, both)[0].get_secret_value() == key
        assert passphrase(plan, both) is None
    third = settings(**{"sandbox_passphrase": "paper-phrase", "trade_passphrase": "live-phrase"})
    found = [one.get_secret_value() for plan in (TEST, LIVE) if (one := passphrase(plan, third)) is not None]
    assert found == ["paper-phrase", "live-phrase"]
    assert "phrase" not in repr([third.sandbox_passphrase, third.trade_passphrase])


def test_every_account_has_a_journal_of_its_own() -> None:
    """Paper, sandbox and live never share orders on record."""
    accounts = [plan.account(settings(**TRADE)) for plan in (TradingPlan(), TEST, LIVE)]
    found = {journal_path(Path("state"), account).name for account in accounts}
    assert found == {"journal.db", "journal-binance-sandbox.db", "journal-main-7.db"}


def test_the_journal_is_read_where_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command and the module read, unless told otherwise, the file that a live run on paper writes."""
    written = journal_path(Settings.model_fields["state_dir"].default)
    assert parser().get_default("journal") == written == Path(".klinehouse/journal.db")
    with Journal(journal_path(tmp_path, "main-7")):
        pass
    with use(settings(state_dir=tmp_path)), pytest.raises(SystemExit) as ended:
        journal("verify", account="main-7")
    assert ended.value.code == 0
    assert "journal-main-7.db: 1 lines, 0 orders" in capsys.readouterr().out


def test_symbols_are_spelled_for_the_broker() -> None:
    """BTCUSDT is BTC/USDT at an exchange and itself on paper; what cannot be spelled is refused."""
    assert spelling(TEST, ["BTCUSDT", "ETHUSDT"]) == {"BTCUSDT": "BTC/USDT", "ETHUSDT": "ETH/USDT"}
    assert spelling(TradingPlan(), ["700.HK"]) == {"700.HK": "700.HK"}
    with pytest.raises(ConfigurationError, match=r"700\.HK"):
        spelling(TEST, ["700.HK"])


@pytest.mark.parametrize("other", ["BTCUSDC", "ETHBTC", "ETHEUR"])
def test_an_account_at_an_exchange_is_quoted_in_one_asset(other: str) -> None:
    """Its equity would count a coin for each pair it is in, or add euros to dollars: limits are fractions of that."""
    with pytest.raises(ConfigurationError, match="quoted in one asset"):
        spelling(TEST, ["BTCUSDT", other])
    assert spelling(TradingPlan(), ["BTCUSDT", other])


def test_limits_come_from_a_file(tmp_path: Path) -> None:
    """A file changes what it names, exactly, and with it the version; without one the defaults hold."""
    path = tmp_path / "limits.toml"
    path.write_text("max_order_fraction = 0.01  # one per cent\norders_per_minute = 5\n")
    found = read_limits(path)
    assert (found.max_order_fraction, found.orders_per_minute) == (Decimal("0.01"), 5)
    assert found.max_drawdown == Limits().max_drawdown
    assert found.version != read_limits(None).version


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_oder_fraction = 0.1", "max_oder_fraction"),
        ("max_drawdown = 0", "above 0"),
        ("max_drawdown = 'much'", "limits"),
        ("max_drawdown", "TOML"),
        ("orders_per_minute = 2.5", "whole number"),
        ("max_losses_in_a_row = true", "whole number"),
        ("orders_per_minute = 1e30", "whole number"),
    ],
)
def test_limits_that_do_not_limit_are_refused(tmp_path: Path, text: str, said: str) -> None:
    """A misspelt, empty or absurd limit stops the start: nobody trades on a limit he did not set."""
    path = tmp_path / "limits.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_limits(path)
    with pytest.raises(ConfigurationError, match="expected a TOML file"):
        read_limits(tmp_path / "nothing.toml")
