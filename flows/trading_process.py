"""What the process is set to while orders are traded, so that neither ticks nor the collector hold an order up."""

from __future__ import annotations

import gc
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

log = structlog.get_logger("flows.trading")

#: Linux lets no processor sleep deeper than it can wake from in so many microseconds as somebody wrote who holds this
#: open (kernel documentation, PM Quality Of Service Interface).
LATENCY_DEVICE = Path("/dev/cpu_dma_latency")

#: The journal's thread has to win the interpreter back after each sync. Far shorter than a slice of ticks: the loop
#: lets go and takes again at every turn, and each time the thread's wait for its turn would begin anew.
SWITCH_S = 0.00001


@contextmanager
def quick_process() -> Iterator[None]:
    """Have threads hand the interpreter over quickly, and keep the collector away from what was recovered at start."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


@contextmanager
def kept_awake(device: Path = LATENCY_DEVICE) -> Iterator[None]:
    """Keep the machine's processors from sleeping; where that is not allowed, say so and go on.

    Args:
        device: Where Linux takes the wish; gone with the handle, also when the process is killed.
    """
    try:
        handle = device.open("r+b", buffering=0)  # which makes no file where there is no device
    except OSError as error:
        log.warning("awake.refused", device=str(device), reason=f"{type(error).__name__}: needs Linux and write access")
        yield
        return
    with handle:
        handle.write(struct.pack("=i", 0))
        log.info("awake.kept", device=str(device))
        yield
