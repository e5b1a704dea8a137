"""The server's log: clients cannot flood it, and nothing that they send is in it."""

import asyncio
import contextvars
import io
import json
import logging
import re

import pytest

from server.log.context import REQUEST, note_caller
from server.log.events import EVENTS
from server.log.output import OncePerMinute
from tests.conftest import StartServer
from tests.support.people import Town, unique
from tests.support.raw_http import ask, request
from tests.support.rest import API
from tests.support.server_process import ServerProcess
from tests.support.uploads import FORM, form
from tests.support.waiting import eventually

MARK = "ZzMarkZz"
SOCKET = "/socket.io/?EIO=4&transport="
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "a" * 24,
}
ROUNDS = 15


def malformed() -> list[bytes]:
    """Requests of strangers that libraries would write about, each with the mark wherever it can stand."""
    marked = {"X-Mark": MARK, "Origin": f"http://{MARK}.example.com"}
    return [
        f"{MARK} {MARK}\r\n\r\n".encode(),
        f"GET /{MARK} HTTP/9.9\r\n{MARK}: {MARK}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\n{MARK}\r\n\r\n".encode(),
        request("POST", f"/{MARK}", {"Content-Length": MARK}),
        request("POST", f"/{MARK}", {"Content-Length": "1, 2"}),
        request("POST", "/", {"Transfer-Encoding": MARK}),
        request("POST", "/", {"Transfer-Encoding": "chunked"}, f"{MARK}\r\n".encode()),
        request(MARK.upper(), f"{SOCKET}polling&sid={MARK}", marked),
        request("GET", f"{SOCKET}polling&sid={MARK}", marked),
        request("GET", f"{SOCKET}polling&j={MARK}"),
        request("GET", f"{SOCKET}{MARK}"),
        request("GET", f"{SOCKET}websocket&sid={MARK}", UPGRADE | marked),
        request("GET", f"{SOCKET}websocket", {"Origin": f"http://[{MARK}"} | UPGRADE),
        request("GET", f"{SOCKET}websocket", {**UPGRADE, "Sec-WebSocket-Version": MARK}),
        request("POST", f"{SOCKET}polling&sid={MARK}", marked, MARK.encode()),
        request("GET", f"{SOCKET}polling&transport=%ff&sid=%ff{MARK}"),
        request("GET", f"/web/%00{MARK}?%ff={MARK}%ff"),
        request("POST", "/api/v1/auth/login", {"Content-Type": MARK}, MARK.encode()),
        request("POST", "/api/v1/upload", {"Content-Type": f"multipart/form-data; boundary={MARK}"}, MARK.encode()),
    ]


async def test_strangers_cannot_fill_it(start_server: StartServer, town_at) -> None:
    server: ServerProcess = start_server()
    town: Town = town_at(server)
    before = len(server.log())
    for _ in range(ROUNDS):
        await asyncio.gather(*(ask(town.url, one) for one in malformed()))
    person = await town.person()
    raw = await town.raw_chat(person.access_token)
    for _ in range(ROUNDS):
        for packet in (
            f'42/chat,["{MARK}",{{}}]',
            f"42/chat,{MARK}",
            f"42/{MARK},[]",
            f'42/chat,["sync",{{"{MARK}":1e999}}]',
        ):
            await raw.send(packet)
    await raw.acked("presence:get", {"userIds": []})
    server.stop()
    log = server.log()[before:]
    assert MARK.lower() not in log.lower(), log[:3000]
    assert "Traceback" not in log, log[:3000]
    assert len(log) < 10_000, (len(log), log[:3000])


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where a logger named `server.tests` and one named `others` write, with a short minute."""
    monkeypatch.setattr("server.log.output.PERIOD", 3.0)
    stream = io.StringIO()
    handler = OncePerMinute(stream)
    for name in ("server.tests", "server.embedded.tests", "others"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "handlers", [handler])
        monkeypatch.setattr(logger, "propagate", False)
    return stream


async def test_a_kind_comes_once_and_then_its_count(output: io.StringIO) -> None:
    log = logging.getLogger("server.tests")
    for number in range(1000):
        log.error("something failed: %d", number)
        if number == 0:
            log.error("something else")
    assert len(output.getvalue().splitlines()) == 2

    async def is_counted() -> bool:
        return "something failed: 999 (and 999 like it within a minute)" in output.getvalue()

    await eventually(is_counted, "the count")
    assert len(output.getvalue().splitlines()) == 3
    assert output.getvalue().count("else") == 1


def test_children_do_not_stand_in_for_each_other(output: io.StringIO) -> None:
    log = logging.getLogger("server.embedded.tests")
    for name in ("mongodb", "redis", "mongodb"):
        log.error("%s ended", name)
    assert [line.split(": ")[-1] for line in output.getvalue().splitlines()] == ["mongodb ended", "redis ended"]


async def test_what_is_not_told_yet_is_told_at_the_end(output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.log.output.PERIOD", 60.0)
    log = logging.getLogger("server.tests")
    for _ in range(5):
        log.error("again")
    log.handlers[0].close()
    assert output.getvalue().endswith("again (and 4 like it within a minute)\n"), output.getvalue()


def test_a_line_tells_whose_request_it_is_about(output: io.StringIO) -> None:
    token = REQUEST.set("abc")
    try:
        logging.getLogger("server.tests").error("one")
    finally:
        REQUEST.reset(token)
    logging.getLogger("server.tests").error("two")
    one, two = output.getvalue().splitlines()
    assert one.endswith("Z ERROR server.tests [abc]: one"), one
    assert two.endswith("Z ERROR server.tests: two"), two


async def test_entries_as_json_name_event_fields_and_caller(start_server: StartServer, town_at) -> None:
    server: ServerProcess = start_server({"log.format": "json", "log.level": "DEBUG"})
    town: Town = town_at(server)
    person = await town.person()
    device = await person.connect()
    await device.call("presence:get", {"userIds": []})
    assert (await person.call("GET", f"{API}/users/me", headers={"X-Request-Id": "find-me"})).status == 200
    # Something that nobody foresees: the folder of uploads is no folder.
    (server.data_dir / "uploads").rename(server.data_dir / "elsewhere")
    (server.data_dir / "uploads").write_text("")
    headers = {**FORM, "X-Request-Id": "find-this"}
    assert (await person.call("POST", f"{API}/upload", form(b"hello", "name.txt"), headers=headers)).status == 500
    server.stop()
    entries = [json.loads(line) for line in server.log().splitlines() if not line.startswith("listening on")]
    assert {entry["event"] for entry in entries} <= EVENTS.keys()
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
    assert all(moment.fullmatch(entry["time"]) and entry["level"] and entry["logger"] for entry in entries)
    finished = [entry for entry in entries if entry["event"] == "operation_finished"]
    assert finished[0]["fields"].keys() == {"operation", "outcome", "seconds"}
    assert isinstance(finished[0]["fields"]["seconds"], float)
    (failed,) = [entry for entry in entries if entry["event"] == "request_failed"]
    assert failed["level"] == "ERROR" and failed["fields"] == {"method": "POST", "handler": "UploadHandler"}
    assert (failed["request"], failed["user"]) == ("find-this", person.id)
    assert failed["exception"].startswith("Traceback")


def test_an_entry_of_a_socket_names_connection_and_user(output: io.StringIO) -> None:
    def log_as_socket() -> None:
        note_caller("ann", "socket")
        logging.getLogger("server.tests").error("one")

    contextvars.copy_context().run(log_as_socket)
    logging.getLogger("server.tests").error("two")
    one, two = output.getvalue().splitlines()
    assert one.endswith("server.tests [connection=socket user=ann]: one") and two.endswith("server.tests: two")


def test_values_of_others_are_left_out(output: io.StringIO) -> None:
    log, secret = logging.getLogger("others"), unique()
    log.error("cannot read %r of %s", secret, secret)
    log.error("cannot read " + secret)  # noqa: G003 - as libraries do
    log.error("bad %(name)s\nmore of it", {"name": secret})
    first, second, third = output.getvalue().splitlines()
    assert first.endswith("others: cannot read … of …"), first
    assert "in test_log.test_values_of_others_are_left_out, line " in second, second
    assert third.endswith("others: bad …"), third


def test_a_traceback_tells_places_and_types_alone(output: io.StringIO) -> None:
    log, secret = logging.getLogger("server.tests"), unique()
    try:
        try:
            int(secret)
        except ValueError as error:
            raise ExceptionGroup(secret, [KeyError(secret), OSError(28, secret)]) from error
    except ExceptionGroup:
        log.exception("it failed")
    told = output.getvalue()
    assert secret not in told
    for part in (
        "it failed\n",
        "Traceback (most recent call last):",
        "ValueError\n",
        "KeyError\n",
        "OSError (errno 28)",
    ):
        assert part in told, told
    assert "int(secret)" in told
