"""A server under test: `python main.py` in a process of its own, with its own data folder."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_LINE = re.compile(r"listening on (http://\S+)")
START_DEADLINE = 60.0
STOP_DEADLINE = 30.0
ENDING_SECONDS = 5.0
LOG_TAIL = 60


class ServerProcess:
    """Starts and ends one server. `url` is its address once `start` has returned; it changes with every start."""

    def __init__(
        self, folder: Path, settings: Mapping[str, object] | None = None, *, program: Sequence[str] = ()
    ) -> None:
        # Who runs the server in another manner (a planted bug, a false clock) gives the words before its options.
        self.program = list(program) or [sys.executable, str(ROOT / "main.py")]
        self.environment: dict[str, str] = {}
        self.config = ROOT / "config.yaml"
        self.data_dir = folder / "data"
        self.log_file = folder / "server.log"
        self.settings: dict[str, object] = {"server.port": 0, "data_dir": str(self.data_dir), **(settings or {})}
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """Return when the server says that it listens. Fails with the end of its log if it ends or takes too long."""
        # Of this start alone: the output of a killed server may end only now.
        self._ready, self.url = threading.Event(), ""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.upper().startswith("MADANG_")}
        environment["PYTHONUNBUFFERED"] = "1"
        environment |= self.environment
        command = [*self.program, "--config", str(self.config)]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        threading.Thread(target=self._copy_output, args=(self._process, self._ready), daemon=True).start()
        self._ready.wait(START_DEADLINE)
        if not self.url:
            # Its output ends a little before itself.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING_SECONDS)
        if not self.url or self._process.poll() is not None:
            status = self._process.poll()
            self.kill()
            raise AssertionError(f"the server did not start (exit code {status}):\n{self.log_tail()}")

    def _copy_output(self, process: "subprocess.Popen[bytes]", ready: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout as output, self.log_file.open("ab") as log:
            for line in output:
                log.write(line)
                log.flush()
                found = READY_LINE.search(line.decode(errors="replace"))
                if found:
                    self.url = found.group(1)
                    ready.set()
        ready.set()  # the output ended: whoever waits for the start need not wait longer

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_tail(self) -> str:
        return "\n".join(self.log().splitlines()[-LOG_TAIL:])

    def stop(self) -> None:
        """Stop by SIGTERM; the exit code must be 0."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM did not stop the server:\n{self.log_tail()}") from None
        self._process = None
        assert status == 0, f"the server ended with exit code {status}:\n{self.log_tail()}"

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def run(self, command: str, *options: str) -> str:
        """What another command of `main.py` prints for the same settings; it must succeed."""
        words = [*self.program, command, *options, "--config", str(ROOT / "config.yaml")]
        for key, value in self.settings.items():
            words += ["--set", f"{key}={json.dumps(value)}"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=START_DEADLINE, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def restart(self) -> None:
        """Start again on the same data, after `stop` or `kill`."""
        self.start()
