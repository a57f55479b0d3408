"""Prefect's command line with its garbage collected in a thread of its own, for a server of ours.

Prefect keeps its records in SQLite. What is left of a statement, of a request that failed or was cancelled, becomes
garbage, and SQLite lets nobody clear it away while another statement of the same connection waits for its turn to
write: up to a minute. Python collects garbage on whatever thread makes some. On the event loop's the server stood still
for that minute, as the transaction whose turn it was could not end either.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: How often what is young is looked at, which costs next to nothing.
EVERY_S = 1.0
#: Of so many looks one is at everything: a few tenths of a second of a core.
WHOLE_EVERY = 60


@contextmanager
def collected_aside() -> Iterator[None]:
    """Collect garbage in a thread that nobody waits for, and nowhere else, for the length of the block."""
    stop = threading.Event()

    def collect() -> None:
        looks = 0
        while not stop.wait(EVERY_S):
            looks += 1
            gc.collect(2 if looks % WHOLE_EVERY == 0 else 1)

    gc.disable()
    threading.Thread(target=collect, name="garbage", daemon=True).start()
    try:
        yield
    finally:
        stop.set()  # and an end does not wait for it either
        gc.enable()


def main() -> None:
    """Do what Prefect's command line does."""
    from prefect.cli import app

    with collected_aside():
        app()


if __name__ == "__main__":
    main()
