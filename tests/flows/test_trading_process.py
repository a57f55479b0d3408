"""What a process is set to while it trades."""

from __future__ import annotations

import gc
import struct
import sys
from pathlib import Path

from structlog.testing import capture_logs

from flows.trading_process import SWITCH_S, kept_awake, quick_process


def test_threads_hand_over_quickly_while_orders_are_traded_and_not_after() -> None:
    """What is set for trading is set back, whatever it was."""
    before = sys.getswitchinterval()
    with quick_process():
        assert sys.getswitchinterval() <= 2 * SWITCH_S
        assert gc.get_freeze_count() > 0
    assert sys.getswitchinterval() == before
    assert gc.get_freeze_count() == 0


def test_the_wish_for_quick_wake_ups_is_written_and_held(tmp_path: Path) -> None:
    """Linux takes no microseconds at all, as a 32-bit number in the machine's own order."""
    device = tmp_path / "cpu_dma_latency"
    device.touch()
    with kept_awake(device):
        assert device.read_bytes() == struct.pack("=i", 0)


def test_a_machine_that_may_not_be_kept_awake_trades_all_the_same(tmp_path: Path) -> None:
    """Without the device, or the right to it, a line says what is missing."""
    ran = []
    with capture_logs() as lines, kept_awake(tmp_path / "none" / "cpu_dma_latency"):
        ran.append(True)
    assert ran
    assert [(one["event"], "write access" in one["reason"]) for one in lines] == [("awake.refused", True)]
