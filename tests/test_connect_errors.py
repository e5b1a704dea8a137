"""Common mistakes of developers: clients that omit `/chat` or speak an older protocol. The error says what to do."""

import json
import subprocess
from pathlib import Path

import pytest
import socketio
from socketio.exceptions import ConnectionError as ClientError

from tests.support.people import Town
from tests.support.poller import PLAIN, POLLING_PATH, SEPARATOR
from tests.support.raw_socket import PATH
from tests.support.shapes import check_error, check_problem

RUN_DEADLINE = 60.0
FORGETS_CHAT = """
import { io } from "socket.io-client";
const [url, transport] = process.argv.slice(2);
const socket = io(url, { transports: [transport], reconnection: false, auth: { token: "x" } });
socket.on("connect_error", (error) => {
    console.log(JSON.stringify({ message: error.message, data: error.data }));
    socket.close();
});
"""


def check_told(error: dict[str, object]) -> None:
    """The body of an error that says what there is instead."""
    check_error(error, "NOT_FOUND")
    assert "/chat" in str(error["detail"])


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_the_python_client_without_a_namespace(town: Town, transport: str) -> None:
    client, told = socketio.AsyncClient(reconnection=False), []
    client.on("connect_error", lambda data: told.append(data))
    with pytest.raises(ClientError):
        await client.connect(town.url, transports=[transport], auth={"token": "x"}, namespaces=["/"])
    await client.disconnect()
    [error] = told
    assert "/chat" in error["message"]
    check_told(error["data"])


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_the_javascript_client_without_a_namespace(town: Town, node_folder: Path, transport: str) -> None:
    (node_folder / "forgets.mjs").write_text(FORGETS_CHAT)
    command = ["node", str(node_folder / "forgets.mjs"), town.url, transport]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_DEADLINE)
    assert done.returncode == 0, done.stderr
    error = json.loads(done.stdout)
    assert "/chat" in error["message"]
    check_told(error["data"])


@pytest.mark.parametrize("namespace", ["", "/admin,", "/chats,", "/chat/x?y=1,", "/한국,"])
async def test_every_other_namespace_is_answered_and_chat_can_still_be_entered(town: Town, namespace: str) -> None:
    person = await town.person()
    raw = await town.raw_session()
    await raw.send(f"40{namespace}{{}}")
    answer = json.loads((await raw.packet(f"44{namespace.partition('?')[0].rstrip(',')}")).lstrip(","))
    check_told(answer["data"])
    await raw.enter_chat(person.access_token)
    opening = await town.rest.call("GET", POLLING_PATH)
    session = f"{POLLING_PATH}&sid={json.loads(opening.raw[1:])['sid']}"
    body = SEPARATOR.join(["40", f'40/chat,{{"token":"{person.access_token}"}}']).encode()
    assert (await town.rest.call("POST", session, body, headers=PLAIN)).status == 200
    heard = (await town.rest.call("GET", session)).raw.decode().split(SEPARATOR)
    check_told(json.loads(next(packet for packet in heard if packet.startswith("44{"))[2:])["data"])
    assert any(packet.startswith("40/chat,") for packet in heard)


async def test_a_namespace_without_an_end_costs_the_connection(town: Town) -> None:
    raw = await town.raw_session()
    await raw.send("40/" + "x" * 5000)
    await raw.ended()


@pytest.mark.parametrize("version", ["EIO=3&", "EIO=2&", "EIO=&", "EIO=x%0d%0a&", ""])
async def test_an_older_protocol_is_told_what_is_spoken_here(town: Town, version: str) -> None:
    for path in (POLLING_PATH, PATH):
        answer = await town.rest.call("GET", path.replace("EIO=4&", version))
        check_problem(answer, "VALIDATION_FAILED", "EIO")
        assert "socket.io-client" in answer.body["detail"]
    raw = await town.raw(path=PATH.replace("EIO=4&", version))
    assert raw.status == 400 and "application/problem+json" in raw.response_head


async def test_other_refusals_have_the_same_shape(town: Town) -> None:
    for path, name in (
        (f"{POLLING_PATH}&sid=made-up", "sid"),
        (POLLING_PATH.replace("polling", "pigeon"), "transport"),
    ):
        check_problem(await town.rest.call("GET", path), "VALIDATION_FAILED", name)
    opening = await town.rest.call("GET", POLLING_PATH)
    session = f"{POLLING_PATH}&sid={json.loads(opening.raw[1:])['sid']}"
    check_problem(await town.rest.call("POST", session, b"9", headers=PLAIN), "VALIDATION_FAILED")
