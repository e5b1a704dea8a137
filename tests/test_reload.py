"""SIGHUP: what can change live does, one line says what changed, and a bad configuration changes nothing."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.config.load import declared
from server.config.reloading import LIVE, apply_changes, is_live
from server.config.settings import Settings
from tests.support.issuer import SHARED_SECRET, sign
from tests.support.named_stores import named_stores
from tests.support.people import PASSWORD, Town, unique
from tests.support.rest import API, MESSAGES
from tests.support.server_process import ServerProcess
from tests.support.shapes import check_problem
from tests.support.tokens import SECRET
from tests.support.waiting import eventually

ME = f"{API}/users/me"
OTHER_SECRET = "another secret that the shop and the chat server share"
EXTERNAL = {"algorithms": ["HS256"], "secret": SHARED_SECRET}


class Configured:
    """A server with a configuration file of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yaml"
        self.process = ServerProcess(folder, {**named_stores(folder), "auth.secret": SECRET})
        self.process.config = self.file

    def write(self, settings: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump(settings))

    async def reload(self, settings: dict[str, Any] | str) -> str:
        """Send SIGHUP with another file. Returns the line that the log has of it."""
        text = settings if isinstance(settings, str) else yaml.safe_dump(settings)
        self.file.write_text(text)
        seen = len(self.lines())
        self.process.signal(signal.SIGHUP)

        async def is_logged() -> bool:
            return len(self.lines()) > seen

        await eventually(is_logged, "the log says what came of it")
        return self.lines()[-1]

    def lines(self) -> list[str]:
        return re.findall(r"configuration (?:re|not re)loaded.*", self.process.log())


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    one = Configured(tmp_path)
    try:
        yield one
        one.process.stop()
    finally:
        one.process.kill()


TownAt = Callable[[ServerProcess], Town]


async def test_what_can_change_live_does(configured: Configured, town_at: TownAt) -> None:
    configured.write({"limits": {"enabled": False}})
    configured.process.start()
    town = town_at(configured.process)
    one, other, room_id = await town.pair()
    device = await one.connect()
    line = await configured.reload(
        {
            "limits": {"enabled": True, "messages": 1, "messages_burst": 1},
            "cors": {"origins": ["https://app.example.com"]},
            "auth": {"registration": "closed"},
            "messages": {"edit_window": "1ms"},
            "metrics": {"allow": []},
            "log": {"level": "DEBUG"},
            "server": {"port": 1, "max_payload": "1MiB"},
        }
    )
    found = re.search(r"changed=(.*) needs_restart", line)
    assert found is not None and set(found[1].split(", ")) == {
        *("log.level", "auth.registration", "messages.edit_window", "cors.origins", "metrics.allow"),
        *("limits.enabled", "limits.messages", "limits.messages_burst"),
    }
    assert line.endswith("needs_restart=server.max_payload"), "the port is set by an option, which wins"
    message = await one.send(room_id)
    check_problem(await one.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": "x"}), "RATE_LIMITED")
    edit = await other.call("PATCH", f"{MESSAGES}/{message['messageId']}", {"content": "y"})
    assert edit.status == 403
    page = await town.rest.call("GET", ME, headers={"Origin": "https://app.example.com"})
    assert page.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    body = {"email": f"{unique()}@example.com", "password": PASSWORD, "firstName": "A", "lastName": "B"}
    check_problem(await town.rest.call("POST", f"{API}/auth/register", body), "FORBIDDEN")
    check_problem(await town.rest.call("GET", "/metrics"), "UNAUTHORIZED")
    await device.round_trip()


async def test_keys_of_another_service_are_rotated(configured: Configured, town_at: TownAt) -> None:
    configured.write({"auth": {"mode": "both", "external": EXTERNAL}})
    configured.process.start()
    town = town_at(configured.process)
    old, new = (sign(unique(), secret, "HS256", aud=None) for secret in (SHARED_SECRET, OTHER_SECRET))
    assert (await town.rest.call("GET", ME, token=old)).status == 200
    check_problem(await town.rest.call("GET", ME, token=new), "UNAUTHORIZED")
    line = await configured.reload({"auth": {"mode": "both", "external": {**EXTERNAL, "secret": OTHER_SECRET}}})
    assert line == "configuration reloaded changed=auth.external.secret needs_restart=nothing"
    assert OTHER_SECRET not in configured.process.log()
    check_problem(await town.rest.call("GET", ME, token=old), "UNAUTHORIZED")
    assert (await town.rest.call("GET", ME, token=new)).status == 200


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("limits:\n  messages: 5\nlog:\n  level: LOUD\n", "4: log.level: expected DEBUG"),
        ("limits:\n  massages: 5\n", "2: limits.massages"),
        ("limits: [", "config.yaml"),
        ("auth:\n  mode: external\n", "auth.external"),
    ],
)
async def test_a_bad_one_changes_nothing(configured: Configured, town_at: TownAt, text: str, named: str) -> None:
    configured.write({"cors": {"origins": ["https://app.example.com"]}})
    configured.process.start()
    line = await configured.reload(text)
    assert line.startswith("configuration not reloaded") and named in line, line
    page = await town_at(configured.process).rest.call("GET", ME, headers={"Origin": "https://app.example.com"})
    assert page.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    again = await configured.reload({"cors": {"origins": []}})
    assert again == "configuration reloaded changed=cors.origins needs_restart=nothing"


async def test_the_same_file_changes_nothing(configured: Configured) -> None:
    configured.write({})
    configured.process.start()
    assert await configured.reload({}) == "configuration reloaded changed=nothing needs_restart=nothing"


def test_every_setting_is_either_live_or_not() -> None:
    keys = {setting.key for setting in declared()}
    for live in LIVE:
        assert any(key == live or key.startswith(f"{live}.") for key in keys), f"there is no {live}"
    assert {key for key in keys if is_live(key)} < keys
    assert apply_changes(Settings(), Settings()) == (Settings(), [], [])
