"""The embedded database's program as its authors ship it, on a free port: it stands in for a real MongoDB."""

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port


@contextmanager
def plain_mongodb(folder: Path, *options: str) -> Iterator[str]:
    """Its address, at which it answers soon."""
    port = free_port()
    # Named explicitly, so that a file of its own elsewhere on the machine is not read.
    configuration = folder / "secantusd.toml"
    configuration.touch()
    script = str(Path(sysconfig.get_path("scripts")) / "secantusd-py")
    place = ["--config", str(configuration), "--storage-path", str(folder / "target"), "--host", "127.0.0.1"]
    command = [sys.executable, "-P", script, *place, "--port", str(port), "--log-level", "WARNING", *options]
    with subprocess.Popen(command) as process:
        try:
            yield f"mongodb://127.0.0.1:{port}/?directConnection=true"
        finally:
            process.kill()
