"""What the process is set to while orders are traded, so that neither ticks nor the collector hold an order up."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
