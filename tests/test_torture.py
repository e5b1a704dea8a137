"""A short torture run by its command line: three kills of every kind, each failpoint, and no violation."""

import subprocess
import sys
from pathlib import Path

from tests.support.server_process import ROOT

PLAN = "kill-server=3,kill-mongodb=3,kill-redis=3,kill-two=3,kill-all=3,crash=1,cut-people=1"
COMMAND = (sys.executable, "-m", "tests.torture", "--seed", "1", "--people", "14", "--crowd", "0", "--only", PLAN)
DEADLINE = 600  # some ten times what it takes


def test_nothing_promised_is_broken(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "violations: 0" in done.stdout, done.stdout
