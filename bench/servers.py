"""Starts the measured processes: embedded stores and a server, each pinned to a core, on a temporary folder."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.figures import children_of
from bench.seed import SECRET
from server.config.load import load
from server.embedded import EmbeddedStores
from server.storage.mongo.database import Database

ROOT: Final = Path(__file__).resolve().parents[1]
NODE: Final = ROOT / "bench" / "node"
# Of two cores, the server has one to itself; the stores and the generator share the other.
SERVER_CORE: Final = 0
STORE_CORE: Final = 1
GENERATOR_CORE: Final = 1
START_SECONDS: Final = 60.0
READY: Final = re.compile(rb"listening on http://([^:]+):(\d+)")
DATABASE: Final = "bench"

PRODUCT: Final = [sys.executable, "main.py", "--set", "server.port=0", "--set", "limits.enabled=false"]
COMMANDS: Final[dict[str, list[str]]] = {
    "madang": PRODUCT,
    "madang, metrics": [sys.executable, "-m", "bench.launch", "--", *PRODUCT[2:]],
    "madang, no metrics": [sys.executable, "-m", "bench.launch", "--no-metrics", "--", *PRODUCT[2:]],
    "baseline": [sys.executable, "-m", "bench.baseline.server"],
    "node": ["node", str(NODE / "server.js")],
    "madang, no store": [sys.executable, "-m", "bench.launch", "--no-store", "--", *PRODUCT[2:]],
    "madang, no store, no metrics": [
        *(sys.executable, "-m", "bench.launch", "--no-store", "--no-metrics", "--"),
        *PRODUCT[2:],
    ],
    "baseline, no store": [sys.executable, "-m", "bench.baseline.server", "--no-store"],
    "node, no store": ["node", str(NODE / "server.js"), "--no-store"],
    "bare relay": [sys.executable, "-m", "bench.limit.relay"],
}


class Stores(msgspec.Struct):
    """Embedded stores of one's own. `environment` tells every server alike where they are."""

    environment: dict[str, str]
    pids: dict[str, int]
    data_dir: Path

    @property
    def mongodb_uri(self) -> str:
        return self.environment["MADANG_MONGODB__URI"]

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """A client of the database that the servers use."""
        database = Database(self.mongodb_uri, DATABASE)
        try:
            yield database
        finally:
            database.close()


class Server(msgspec.Struct):
    """A server that listens."""

    name: str
    host: str
    port: int
    process: subprocess.Popen[bytes]
    stores: Stores

    @property
    def pids(self) -> dict[str, int]:
        return {"server": self.process.pid, **self.stores.pids}


def on_core(core: int) -> Callable[[], None]:
    """For `preexec_fn`: the child and all its threads stay on this core."""
    return lambda: os.sched_setaffinity(0, {core})


@contextlib.asynccontextmanager
async def run_stores() -> AsyncIterator[Stores]:
    """Stores on a new folder, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="madang-bench-", ignore_cleanup_errors=True) as folder:
        settings = load(ROOT / "config.yaml", [f"data_dir={folder}/stores"])
        stores, before = EmbeddedStores(), children_of(os.getpid())
        own = os.sched_getaffinity(0)
        # Children inherit it, and this process has little to do meanwhile.
        os.sched_setaffinity(0, {STORE_CORE})
        addresses = await stores.start(settings)
        os.sched_setaffinity(0, own)
        try:
            pids = {_store_name(pid): pid for pid in children_of(os.getpid()) - before}
            environment = {
                "MADANG_MONGODB__URI": addresses.mongodb_uri,
                "MADANG_MONGODB__DATABASE": DATABASE,
                "MADANG_REDIS__URL": addresses.redis_url,
                "MADANG_DATA_DIR": f"{folder}/server",
                "MADANG_AUTH__SECRET": SECRET,
                "MADANG_LOG__LEVEL": "WARNING",
            }
            yield Stores(environment, pids, Path(folder))
        finally:
            await stores.stop()


@contextlib.asynccontextmanager
async def run_server(name: str, stores: Stores, arguments: Sequence[str] = ()) -> AsyncIterator[Server]:
    """One of `COMMANDS`, on these stores."""
    server = await start_server(name, stores, arguments)
    try:
        yield server
    finally:
        await stop(server.process)


async def start_server(name: str, stores: Stores, arguments: Sequence[str] = ()) -> Server:
    """Returns once it listens. Raises `RuntimeError` if it does not."""
    if name.startswith("node"):
        install_node_packages()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MADANG_")}
    process = subprocess.Popen(  # noqa: ASYNC220 (nothing else runs meanwhile)
        [*COMMANDS[name], *arguments],
        cwd=ROOT,
        env={**environment, **stores.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        preexec_fn=on_core(SERVER_CORE),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await asyncio.to_thread(process.stdout.readline)
    except TimeoutError:
        line = b""
    found = READY.search(line)
    if found is None:
        await stop(process)
        raise RuntimeError(f"{name} did not start: {line.decode(errors='replace')}")
    return Server(name, found[1].decode(), int(found[2]), process, stores)


async def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process that was started here."""
    process.terminate()
    try:
        await asyncio.to_thread(process.wait, 15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def install_node_packages() -> None:
    """Install once, into `bench/node/node_modules`, which is not under version control."""
    if (NODE / "node_modules").exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is needed to compare with Node")
    subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=NODE, check=True, stdout=subprocess.DEVNULL)


def _store_name(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return "mongodb" if b"secantus" in command else "redis"


async def run_python(
    module: str, *arguments: str, given: bytes = b"", environment: dict[str, str] | None = None
) -> bytes:
    """Run one of the benches' own programs on the generator's core and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=on_core(GENERATOR_CORE),
    )
    output, _ = await process.communicate(given)
    if process.returncode != 0:
        raise RuntimeError(f"{module} failed with exit code {process.returncode}")
    return output
