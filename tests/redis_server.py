"""A Redis of one's own, for tests and benchmarks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def redis_server(folder: Path) -> Iterator[str | None]:
    """Serve on a Unix socket in a folder; yields the address, None where Redis is not installed."""
    if shutil.which("redis-server") is None:
        yield None
        return
    path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "eady to accept connections" not in process.stdout.readline():
            assert process.poll() is None
        try:
            yield f"unix://{path}"
        finally:
            process.kill()
