"""Debian's own redis-server on a free port, for what must also work on a Redis that is not the embedded one."""

import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.support.ports import free_port

START_DEADLINE = 30.0
PAUSE = 0.05


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[str]:
    """The address of one that keeps nothing. What needs it is skipped loudly where it is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        reason = "redis-server is not installed (Debian: apt install redis-server)"
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"NOTHING WAS TRIED ON REDIS ITSELF: {reason}", stacklevel=3)
        pytest.skip(reason)
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
    with (folder / "redis-server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_DEADLINE
    with redis.Redis.from_url(url) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(PAUSE)
            else:
                return
    raise AssertionError("redis-server did not start")
