"""What the documentation says is true: links, settings, routes and events exist, and the README's examples run."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from handlers.routes import ROUTES, pattern_of
from handlers.socket.events import EVENTS
from server.config.load import declared
from server.config.reloading import LIVE
from server.events import SERVER_EVENTS
from server.operations.table import OPERATIONS
from tests.conftest import StartServer
from tests.support.people import Town
from tests.support.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
KEYS = {setting.key for setting in declared()}
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key}
EVENT_NAMES = EVENTS.keys() | SERVER_EVENTS.keys() | {"connect_error", "connect", "disconnect"}
# Files that a name such as `server.py` or `config.yaml` may stand for are no settings.
FILE_ENDINGS = {"py", "yaml", "md", "log", "txt", "sock", "json", "ndjson"}
# What a Socket.IO client calls its token looks like a setting.
OF_CLIENTS = {"auth.token"}
SUBSYSTEMS = ["accounts", "search", "rooms", "messages", "delivery", "presence", "sockets"]
SUBSYSTEMS += ["stores", "operations", "configuration", "contract", "safety"]
ADDRESS = "http://localhost:3000"
RUN_DEADLINE = 60.0

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def settings_table() -> str:
    """The table of docs/configuration.md, from the declarations."""
    lines = ["| setting | default | bounds | meaning |", "| --- | --- | --- | --- |"]
    for setting in declared():
        default = setting.kind.write(setting.default)
        lines.append(f"| `{setting.key}` | `{default}` | {setting.kind.bounds} | {setting.meaning} |")
    return "\n".join(lines)


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", without_code(page.read_text()))


def code_block(page: Path, language: str) -> str:
    """The only block in this language."""
    blocks = re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)
    assert len(blocks) == 1, f"{page.name} has {len(blocks)} blocks of {language}"
    return str(blocks[0])


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert target.is_relative_to(ROOT), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_every_page_is_linked() -> None:
    linked = "".join((ROOT / name).read_text() for name in ("README.md", "docs/architecture.md"))
    missing = [page.name for page in DOCS.glob("*.md") if f"{page.name})" not in linked]
    assert not missing, f"neither README.md nor docs/architecture.md links to {missing}"


@by_page
def test_named_settings_exist(page: Path) -> None:
    for span in code_spans(page):
        found = re.fullmatch(r"([a-z_]+)\.([a-z_]+)(: .*)?", span)
        if found and found[1] in SECTIONS and found[2] not in FILE_ENDINGS and not span.startswith("server.services"):
            is_module = (ROOT / found[1] / found[2]).exists()
            assert f"{found[1]}.{found[2]}" in KEYS | OF_CLIENTS | OPERATIONS.keys() or is_module, (
                f"{page.name} names the setting {span}"
            )
        for variable in re.findall(r"\bMADANG_([A-Z_]+)", span):
            assert variable.lower().replace("__", ".") in KEYS, f"{page.name} names the variable {span}"


@by_page
def test_named_routes_exist(page: Path) -> None:
    for span in code_spans(page):
        found = re.fullmatch(r"(GET|POST|PATCH|PUT|DELETE) (/\S*)(?: .*)?", span)
        if found is None:
            continue
        path = re.sub(r"\{\w+\}|…", "x", found[2].partition("?")[0])
        routes = [route for route in ROUTES if re.fullmatch(pattern_of(route.path), path)]
        assert routes, f"{page.name} names the route {span}"
        # The first that fits takes the request.
        assert found[1] in routes[0].endpoints, f"{page.name} names the method of {span}"


@by_page
def test_named_events_exist(page: Path) -> None:
    for span in code_spans(page):
        if re.fullmatch(r"(message|messages|typing|user|room|presence|auth):[a-z]+", span):
            assert span in EVENT_NAMES, f"{page.name} names the event {span}"


@by_page
def test_named_files_exist(page: Path) -> None:
    for span in code_spans(page):
        if re.fullmatch(r"(server|handlers|tests|bench|web|docs)(/[\w.]+)*/?", span) and "/" in span:
            assert (ROOT / span).exists(), f"{page.name} names the file {span}"


@by_page
def test_named_tests_exist(page: Path) -> None:
    tests = {file.name: file.read_text() for file in (ROOT / "tests").glob("test_*.py")}
    for span in code_spans(page):
        if re.fullmatch(r"test_\w+\.py", span):
            assert span in tests, f"{page.name} names the file {span}"
        elif re.fullmatch(r"test_\w+", span):
            assert any(f"def {span}(" in text for text in tests.values()), f"{page.name} names the test {span}"


def test_every_setting_is_told() -> None:
    table = settings_table()
    assert table in (DOCS / "configuration.md").read_text(), f"docs/configuration.md should hold:\n{table}"


def test_what_changes_live_is_told() -> None:
    assert set(LIVE) <= set(code_spans(DOCS / "configuration.md"))


def test_pages_tell_their_failures() -> None:
    for name in SUBSYSTEMS:
        assert "## When something fails\n" in (DOCS / f"{name}.md").read_text(), f"docs/{name}.md"


def test_the_service_its_backup_and_its_commands_use_the_same_places() -> None:
    text = (DOCS / "operations.md").read_text()
    unit = code_block(DOCS / "operations.md", "ini")
    config = re.findall(r"--config (/\S+)", text)
    assert len(config) > 1 and set(config) == {"/etc/madang.yaml"}
    folder = re.findall(r"echo 'data_dir: (\S+)' > /etc/madang\.yaml", text)
    assert folder == [f"/var/lib/{name}" for name in re.findall(r"^StateDirectory=(\w+)$", unit, flags=re.MULTILINE)]
    packed = re.findall(r"tar -C (\S+) -czf \S+ (\S+)$", text, flags=re.MULTILINE)
    assert packed and {f"{parent}/{name}" for parent, name in packed} == set(folder)
    [command] = re.findall(r"^ExecStart=(.+)$", unit, flags=re.MULTILINE)
    assert command.startswith("/srv/madang/.venv/bin/python main.py ")


def run_in_bash(script: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=RUN_DEADLINE
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


async def test_the_readme_conversation_by_curl(start_server: StartServer) -> None:
    """The block can be run again: the second time, everybody logs in."""
    script = code_block(ROOT / "README.md", "bash")
    assert ADDRESS in script
    script = script.replace(ADDRESS, start_server().url)
    for seq in (1, 2):
        sent, chats, read, liked = (json.loads(line) for line in run_in_bash(script))
        assert (sent["content"], sent["senderName"], sent["seq"]) == ("Hello Ben!", "Ann Lee", seq)
        [chat] = [chat for chat in chats["chats"] if chat["type"] == "DIRECT"]
        assert (chat["participantName"], chat["lastMessage"], chat["unreadCount"]) == ("Ann Lee", "Hello Ben!", 1)
        assert read == {"ok": True, "roomId": sent["roomId"], "seq": seq, "unreadCount": 0}
        [thumb] = liked["reactions"]
        assert (liked["content"], liked["senderName"], thumb["count"]) == ("Hello, all!", "Ann Lee", 1)


async def test_the_readme_client_in_python(town: Town, server: ServerProcess, tmp_path: Path) -> None:
    alice, bob, room_id = await town.pair()
    program = code_block(ROOT / "README.md", "python")
    assert ADDRESS in program
    file = tmp_path / "hello.py"
    file.write_text(program.replace(ADDRESS, server.url))
    done = subprocess.run(
        [sys.executable, str(file), alice.access_token, room_id], capture_output=True, text=True, timeout=RUN_DEADLINE
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "stored" in done.stdout.splitlines()
    [message] = (await bob.history(room_id))["messages"]
    assert (message["content"], message["senderId"]) == ("Hello!", alice.id)


async def test_the_readme_client_in_javascript(town: Town, node_folder: Path) -> None:
    """It prints the number of its own message and all messages of the room."""
    alice, bob, room_id = await town.pair()
    program = code_block(ROOT / "README.md", "js")
    assert ADDRESS in program
    (node_folder / "chat.mjs").write_text(program.replace(ADDRESS, town.url))
    command = ["node", str(node_folder / "chat.mjs"), alice.access_token, room_id]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(RUN_DEADLINE):
            first = {(await process.stdout.readline()).decode() for _ in range(2)}
            assert first == {"1\n", f"{alice.name}: Hello!\n"}
            await bob.send(room_id, "Hello Alice!")
            assert (await process.stdout.readline()).decode() == f"{bob.name}: Hello Alice!\n"
    finally:
        process.kill()
        await process.wait()


def test_the_readme_names_what_is_installed() -> None:
    """The two commands are targets of the Makefile, and the commands of main.py that are named exist."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    offered = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--help"], capture_output=True, text=True, timeout=RUN_DEADLINE
    ).stdout
    for page in PAGES:
        for command in re.findall(r"main\.py ([a-z]+)\b", page.read_text()):
            assert re.search(rf"^    {command}\b", offered, flags=re.MULTILINE), f"{page.name} names main.py {command}"
