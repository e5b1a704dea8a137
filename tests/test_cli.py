"""The command line: exit codes, and what is printed where."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEADLINE = 60.0


def run(*arguments: str, cwd: Path = ROOT, **environ: str) -> "subprocess.CompletedProcess[str]":
    plain = {name: value for name, value in os.environ.items() if not name.upper().startswith("MADANG_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**plain, **environ},
        timeout=DEADLINE,
    )


def serve_arguments(folder: Path) -> list[str]:
    return ["--set", "server.port=0", "--set", f"data_dir={folder / 'data'}"]


def check_refused(done: "subprocess.CompletedProcess[str]", said: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_check_says_that_the_configuration_is_right(tmp_path: Path) -> None:
    done = run("check", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ROOT / 'config.yaml'}: ok\n", "")


@pytest.mark.parametrize("command", [["check"], ["serve"], []])
def test_a_bad_configuration_stops_every_start(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("# one\nserver:\n  port: many\n")
    said = f"{file}:3: server.port: expected a whole number, 0 to 65535"
    check_refused(run(*command, "--config", str(file)), said)
    check_refused(run("--config", str(file), *command), said)
    check_refused(run(*command, "--config", str(tmp_path / "none.yaml")), f"{tmp_path / 'none.yaml'}: cannot be read")
    check_refused(run(*command, "--set", "server.port=-1"), "option --set server.port: server.port: ")
    check_refused(run(*command, MADANG_SERVER__PORT="-1"), "environment variable MADANG_SERVER__PORT: server.port: ")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_options_stand_before_and_after_the_command() -> None:
    check_refused(run("--set", "server.port=1", "check", "--set", "server.port=x"), "server.port")
    check_refused(run("--set", "server.port=x", "check", "--set", "server.host=y"), "server.port")
    assert run("--set", "server.port=x", "check", "--set", "server.port=1").returncode == 0


@pytest.mark.parametrize("arguments", [["dance"], ["--port", "1"], ["check", "x"], ["--set"]])
def test_what_is_not_known_is_a_usage_error(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage: main.py" in done.stderr


def test_help_names_the_commands_and_options() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("serve", "check", "config", "migrate", "epoch", "--config", "--set"))


@contextmanager
def serving(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A server and its port, taken from the one line that it prints."""
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), *serve_arguments(folder)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        watchdog = threading.Timer(DEADLINE, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", line)
            assert found, (line, (folder / "server.log").read_text())
            yield process, int(found[1])
        finally:
            watchdog.cancel()
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_children(number: signal.Signals, tmp_path: Path) -> None:
    with serving(tmp_path) as (process, port):
        socket.create_connection(("127.0.0.1", port), DEADLINE).close()
        children = [int((tmp_path / "data" / "run" / name).read_text()) for name in ("mongodb", "redis")]
        process.send_signal(number)
        assert process.wait(DEADLINE) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it_too(number: signal.Signals, tmp_path: Path) -> None:
    entry = tmp_path / "data" / "run" / "redis"
    process = subprocess.Popen([sys.executable, str(ROOT / "main.py"), *serve_arguments(tmp_path)])
    try:
        deadline = time.monotonic() + DEADLINE
        while not (entry.exists() and entry.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(number)
        assert process.wait(DEADLINE) == 0
        with pytest.raises(ProcessLookupError):
            os.kill(int(entry.read_text()), 0)
    finally:
        process.kill()
        process.wait()


def test_a_second_server_on_a_folder_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path):
        done = run(*serve_arguments(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"cannot start: {tmp_path / 'data'} is in use by another server")
    assert "Traceback" not in done.stderr


def test_the_version_is_that_of_the_changelog() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert "[Unreleased]" not in headings[1:]
    releases = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", heading) for heading in headings]
    found = [(tuple(map(int, release.groups()[:3])), release[4]) for release in releases if release is not None]
    assert len(found) == len(set(headings) - {"[Unreleased]"}), "every other section is a release with its date"
    assert found == sorted(found, reverse=True), "the newest comes first"
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"madang {'.'.join(map(str, found[0][0]))}\n")


def test_variables_that_are_no_settings_are_named_in_one_warning() -> None:
    done = run("check", MADANG_PORT="tcp://10.0.0.1:3000", MADANG_SERVICE_HOST="10.0.0.1", MADANG_LOG__LEVEL="WARNING")
    assert (done.returncode, done.stdout) == (0, f"{ROOT / 'config.yaml'}: ok\n")
    (line,) = done.stderr.splitlines()
    assert " WARNING " in line
    assert "ignored names=MADANG_PORT,MADANG_SERVICE_HOST;" in line
    assert "10.0.0.1" not in line


@pytest.mark.parametrize("folder", ["taken", "taken/below", "/proc/madang"])
def test_a_data_folder_that_cannot_be_one_is_named_with_its_setting(folder: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    done = run("--set", "server.port=0", "--set", f"data_dir={tmp_path / folder}")
    assert (done.returncode, done.stdout) == (1, "")
    said = done.stderr.splitlines()[-1]
    assert said.startswith("cannot start: data_dir: "), done.stderr
    assert str(tmp_path / folder) in said
    assert "Traceback" not in done.stderr


def test_without_its_libraries_it_says_how_to_install_them() -> None:
    # -S leaves out what is installed, as another Python would.
    command = [sys.executable, "-S", str(ROOT / "main.py"), "check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(": run make setup, then .venv/bin/python main.py\n")
    assert len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--set", f"data_dir={tmp_path / 'data'}", "--set", f"server.port={port}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"cannot start at 127.0.0.1:{port}: Address already in use; take ")
    assert "MADANG_SERVER__PORT=3001" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_start_makes_its_own_secret(tmp_path: Path) -> None:
    with serving(tmp_path):
        file = tmp_path / "data" / "jwt_secret"
        secret = file.read_text().strip()
        assert len(secret) >= 32
        assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in (tmp_path / "server.log").read_text()
