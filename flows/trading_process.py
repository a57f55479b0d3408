"""What the process is set to while orders are traded, so that neither ticks nor the collector hold an order up."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: The journal's thread needs the interpreter several times per commit, and waits so long each while ticks pour in.
SWITCH_S = 0.0001


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
