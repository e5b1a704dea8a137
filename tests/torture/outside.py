"""Stores outside the server, behind proxies: the ways to them can be delayed, stalled, cut and closed."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.server_process import ROOT
from tests.torture.proxy import Proxy, dial_tcp, dial_unix

START_DEADLINE = 60.0
STOP_DEADLINE = 30.0


class OutsideStores:
    """Both embedded stores in a process of their own. `settings` lead a server to them through the proxies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, object] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.upper().startswith("MADANG_")}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.stores_process",
            str(self.folder),
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_DEADLINE)
        mongodb_uri, redis_url = json.loads(line)
        mongodb, redis = urlsplit(mongodb_uri), urlsplit(redis_url)
        self.mongodb = Proxy(dial_tcp("127.0.0.1", mongodb.port or 0))
        self.redis = Proxy(dial_unix(unquote(redis.path)))
        await self.mongodb.start()
        await self.redis.start()
        password = redis.query.removeprefix("password=")
        self.settings = {
            "mongodb.uri": re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{self.mongodb.port}", mongodb_uri),
            "redis.url": f"redis://:{password}@127.0.0.1:{self.redis.port}/0",
        }

    async def stop(self) -> None:
        if self._process is None:
            return
        await self.mongodb.close()
        await self.redis.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_DEADLINE)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
