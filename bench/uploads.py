"""What a large upload costs the server: `python -m bench.uploads --size 200` (MB) for both stores.

The server runs in a process of its own on a temporary folder. Its memory is read from the system every few
milliseconds while the upload runs, and others ask for `/healthz` all the time: their waiting shows who is held up.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[1]
MB = 1000**2
PIECE = 256 * 1024
WARM_UP_BYTES = 5 * MB
SAMPLE_PAUSE = 0.005
ASK_PAUSE = 0.01
LIMIT_MB = 10.0
BOUNDARY = "bench-boundary"


@contextlib.contextmanager
def serving(store: str, largest: int, folder: Path) -> Iterator[tuple[int, int]]:
    """A server with this upload store: its process id and port."""
    settings = {"server.port": 0, "data_dir": str(folder), "uploads.store": store, "uploads.max_file": largest}
    command = [sys.executable, str(ROOT / "main.py")]
    for key, value in settings.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        found = re.search(rb"listening on http://\S+:(\d+)", process.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start")
        yield process.pid, int(found[1])
    finally:
        process.terminate()
        process.wait()


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def request(port: int, head: str, pieces: AsyncIterator[bytes]) -> tuple[int, Any]:
    """One HTTP request on a connection of its own: the status and the JSON of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
    async for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = await reader.read()
    writer.close()
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)


async def send(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def send_form(size: int, pause: float) -> AsyncIterator[bytes]:
    """A form with a file of random bytes; `pause` seconds between two pieces."""
    yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'.encode()
    piece = os.urandom(PIECE)
    for left in range(size, 0, -PIECE):
        yield piece[:left]
        await asyncio.sleep(pause)
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


async def register(port: int) -> str:
    """A new user's token."""
    body = json.dumps(
        {"email": f"{uuid4().hex}@example.com", "password": uuid4().hex, "firstName": "A", "lastName": "B"}
    )
    head = f"POST /api/v1/auth/register HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    status, answer = await request(port, head, send(body.encode()))
    assert status == 201, answer
    return str(answer["accessToken"])


async def upload(port: int, token: str, size: int, pause: float = 0.0) -> None:
    frame = len(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n')
    length = frame + size + len(f"\r\n--{BOUNDARY}--\r\n")
    head = (
        f"POST /api/v1/upload HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}"
    )
    status, answer = await request(port, head, send_form(size, pause))
    assert (status, answer.get("size")) == (201, size), answer


async def sample(pid: int, seen: list[int]) -> None:
    while True:
        seen.append(resident_bytes(pid))
        await asyncio.sleep(SAMPLE_PAUSE)


async def ask(port: int, waits: list[float]) -> None:
    while True:
        started = time.perf_counter()
        await request(port, "GET /healthz HTTP/1.1", send())
        waits.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(ASK_PAUSE)


async def measure(store: str, size: int, folder: Path) -> dict[str, Any]:
    """One large upload, after a small one that loads what any upload needs."""
    with serving(store, size, folder) as (pid, port):
        token = await register(port)
        await upload(port, token, min(size, WARM_UP_BYTES))
        before, seen, waits = resident_bytes(pid), [0], [0.0, 0.0]
        watchers = [asyncio.create_task(sample(pid, seen)), asyncio.create_task(ask(port, waits))]
        started = time.perf_counter()
        await upload(port, token, size)
        seconds = time.perf_counter() - started
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
    return {
        "store": store,
        "mb": size / MB,
        "seconds": round(seconds, 2),
        "mb_per_second": round(size / MB / seconds, 1),
        "rss_before_mb": round(before / MB, 1),
        "rss_growth_mb": round((max(seen) - before) / MB, 2),
        "healthz_p50_ms": round(statistics.median(waits), 1),
        "healthz_max_ms": round(max(waits), 1),
    }


def main() -> int:
    """Print a table to read and, last, one line of JSON. The exit code is 1 where the memory grew too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=200, help="of the upload, in MB")
    options = parser.parse_args()
    results = []
    for store in ("disk", "gridfs"):
        with tempfile.TemporaryDirectory() as folder:
            results.append(asyncio.run(measure(store, options.size * MB, Path(folder) / "data")))
    print(" | ".join(f"{name:>14}" for name in results[0]))
    for result in results:
        print(" | ".join(f"{value:>14}" for value in result.values()))
    print(json.dumps({"benchmark": "uploads", "limit_mb": LIMIT_MB, "results": results}))
    return int(any(result["rss_growth_mb"] >= LIMIT_MB for result in results))


if __name__ == "__main__":
    sys.exit(main())
