"""The tests that depend on Redis, on Debian's own redis-server; and nothing of them is left in it."""

import os
import subprocess
import sys
from pathlib import Path

import redis

from tests.support.redis_server import redis_server
from tests.support.server_process import ROOT

WHAT = ("tests/test_offline_queue.py", "tests/test_limits.py::test_guessing_is_limited_for_each_account")
DEADLINE = 900.0  # some ten times what it takes


def test_queues_and_limits_on_redis_itself(tmp_path: Path) -> None:
    with redis_server(tmp_path) as url:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "not embedded_stores", "-p", "no:cacheprovider", *WHAT],
            cwd=ROOT,
            env={**os.environ, "TEST_REDIS": url},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout
        with redis.Redis.from_url(url) as client:
            assert client.info("stats")["total_commands_processed"] > 100, "the servers were led to it"
            assert client.keys("*") == []
