"""`python -m tasks.simulator` from a shell."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request

import pytest

from tasks.errors import InputError
from tasks.simulator.__main__ import clock_of, faults_of, main, market_of, parser
from tasks.simulator.clock import MarketClock
from tasks.simulator.faults import Faults, StreamFaults
from tasks.simulator.orderfaults import OrderFaults


def test_it_prints_its_address_and_key_and_stops_when_told() -> None:
    """The last line before serving names the URL; SIGTERM ends it with status 0."""
    command = [sys.executable, "-m", "tasks.simulator", "--port", "0", "--end", "2025-01-02"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = dict(line.split(maxsplit=1) for line in iter(process.stdout.readline, "") if _last(process, line))
    assert process.wait(timeout=60) == 0
    assert lines["key"].strip() == "local-market-key"
    assert lines["serving"].split() == ["BTCUSDT", "ETHUSDT"]


def _last(process: subprocess.Popen, line: str) -> bool:
    if line.startswith("url"):
        url = line.split()[1]
        path, headers = "/v1/market/intervals/kline", {"X-API-Key": "local-market-key"}
        request = urllib.request.Request(f"{url}{path}", headers=headers)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
    return True


def test_faults_are_read_by_name() -> None:
    """Numbers become the field's type."""
    faults = faults_of(Faults(), ["missing_p=0.25", "retry_after_s=3", "retry_after_as_date=1"])
    assert (faults.missing_p, faults.retry_after_s, faults.retry_after_as_date) == (0.25, 3, True)


def test_lists_words_and_switched_off_numbers_are_read() -> None:
    """Endings are a list, uniqueness a word, a code a whole number, a retention any number."""
    stream = faults_of(StreamFaults(), ["endings=rst,fin", "connect_code=3001"])
    orders = faults_of(OrderFaults(), ["uniqueness=open", "retention_s=1.5"])
    assert (stream.endings, stream.connect_code) == (("rst", "fin"), 3001)
    assert (orders.uniqueness, orders.retention_s) == ("open", 1.5)


def test_time_passes_only_when_a_speed_is_asked_for() -> None:
    """Without a speed the clock is what --now says, with one it runs and ends with the data."""
    still = parser().parse_args(["--end", "2025-01-02"])
    running = parser().parse_args(["--end", "2025-01-02", "--speed", "inf"])
    market = market_of(still)
    assert clock_of(still, market) is None
    clock = clock_of(running, market)
    assert isinstance(clock, MarketClock)
    assert clock.driven
    assert clock() == market.clock() - 3_600_000


@pytest.mark.parametrize("text", ["zap=1", "drop_p=often", "drop_p=2", "drop_p"])
def test_unknown_faults_are_refused(text: str) -> None:
    """A wrong name, a word, an impossible probability and no value at all are told, not ignored."""
    with pytest.raises(InputError):
        faults_of(Faults(), [text])


def test_a_replay_without_files_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with status 2 and names the option."""
    assert main(["--market", "replay"]) == 2
    assert "--file" in capsys.readouterr().err


def test_us_equities_can_be_served() -> None:
    """The market of that name lists four stocks."""
    market = market_of(parser().parse_args(["--market", "us-equities"]))
    assert [item.symbol for item in market.instruments] == ["AAPL.US", "GOOG.US", "IBM.US", "MSFT.US"]
