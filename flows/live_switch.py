"""The kill switch outside the process: a file and a signal. It holds until a person clears it, restarts included."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.errors import InputError

#: How often the file is looked for.
_EVERY_S = 0.25
_SIGNALLED = "SIGUSR1 was received"


class KillSwitch:
    """Halts when its file appears or its signal arrives.

    Args:
        folder: Where the file ``HALT`` is looked for, and where the process number is left for whoever signals.

    Attributes:
        path: The file; what is written into it becomes the reason.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "HALT"
        self._pid_path = pid_path(folder)
        self._signalled = False

    def pull(self) -> None:
        """Halt, as the signal does."""
        self._signalled = True

    def leave(self, reason: str) -> None:
        """Leave the file in the place of a run that can halt no more: the next one finds it."""
        self.path.write_text(reason, encoding="utf-8")

    async def watch(self, halt: Callable[[str], None]) -> None:
        """Tell `halt` of file and signal, for ever; it takes the same thing twice."""
        while True:
            if self._signalled:
                self._signalled = False
                halt(_SIGNALLED)
            if self.path.exists():
                halt(f"the file {self.path} exists{self._written()}")
            await asyncio.sleep(_EVERY_S)

    def check_clear(self) -> None:
        """Refuse to end a halt while the file is there.

        Raises:
            InputError: It is.
        """
        if self.path.exists():
            raise InputError(f"clear: expected the file {self.path} to be gone, found it; remove it first")

    @contextmanager
    def on_signal(self) -> Iterator[None]:
        """Listen to SIGUSR1, and leave the number of the process that does; what nobody heeded stays as the file."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.pull)
        self._pid_path.write_text(str(os.getpid()), encoding="utf-8")
        try:
            yield
        finally:
            self._pid_path.unlink(missing_ok=True)
            loop.remove_signal_handler(signal.SIGUSR1)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # by default it kills, also a process that is ending
            if self._signalled:
                self.leave(_SIGNALLED)

    def _written(self) -> str:
        try:
            words = self.path.read_text(encoding="utf-8", errors="replace").strip()[:200]
        except OSError:
            return ""
        return f": {words}" if words else ""


def pid_path(folder: Path) -> Path:
    """Return the file that holds the number of the process that trades."""
    return folder / "live.pid"


def lock_path(folder: Path) -> Path:
    """Return the file that a live run locks for as long as it lives."""
    return folder / "live.lock"


def forward(folder: Path) -> None:
    """Pass the signal on to the process that trades; where there is none, leave the file that it will find."""
    folder.mkdir(parents=True, exist_ok=True)
    switch = KillSwitch(folder)
    try:
        # Where the lock is free nobody trades, and the number that a crash left may be anybody's by now.
        with FileLock(lock_path(folder), blocking=False):
            switch.leave(_SIGNALLED)
    except Timeout:
        try:
            os.kill(int(pid_path(folder).read_text(encoding="utf-8")), signal.SIGUSR1)
        except (OSError, ValueError):  # it has just begun, or has all but ended: there is no number, or nobody's
            switch.leave(_SIGNALLED)
