"""The guide's whole conversation with python-socketio, with curl, and with npm's client, on every transport."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.device import TRANSPORTS
from tests.support.people import PASSWORD, Person, Town, unique
from tests.support.rest import API, MESSAGES
from tests.support.server_process import ServerProcess
from tests.support.shapes import CHAT_KEYS, MESSAGE_KEYS, USER_KEYS, check_error, check_message

NODE_DEADLINE = 120
GUIDE_USER_KEYS = USER_KEYS - {"isOnline", "lastSeenAt"}


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_the_whole_flow_with_the_python_client(town: Town, transports: tuple[str, ...]) -> None:
    last_name = unique("Kim")
    sender = await town.person("userA")
    receiver = await town.person("userB", last_name, phone="+639123456789", userType="provider")
    # 1. Search.
    found = await sender.get(f"{API}/users/search", q=last_name, limit=20)
    assert found.status == 200 and found.body["total"] == 1
    user = found.body["users"][0]
    assert user.keys() >= GUIDE_USER_KEYS
    assert (user["fullName"], user["userType"]) == (f"userB {last_name}", "provider")
    # 2. A room.
    room = (await sender.post(f"{MESSAGES}/chat-rooms", {"otherUserId": user["id"]})).body
    assert {room["user1Id"], room["user2Id"]} == {sender.id, receiver.id}
    # 3. to 5. Connect, join, send, without asking for acknowledgements.
    mine = await sender.connect(transports)
    theirs = await town.device().connect(
        transports=transports, headers={"Authorization": f"Bearer {receiver.access_token}"}
    )
    if transports[-1] == "websocket":
        assert mine.sio.eio.current_transport == "websocket"
    for device in (mine, theirs):
        await device.emit("room:join", {"roomId": room["id"]})
    await mine.emit("typing:start", {"roomId": room["id"]})
    assert await theirs.next("typing:start") == {"roomId": room["id"], "userId": sender.id}
    await mine.emit("message:send", {"roomId": room["id"], "content": "Hello!", "messageType": "TEXT"})
    text = await theirs.next("message:new")
    check_message(text)
    assert (text["content"], text["senderId"], text["roomId"]) == ("Hello!", sender.id, room["id"])
    # 6. A picture, by its address.
    picture = {"roomId": room["id"], "content": "Check this image", "attachmentUrl": "https://example.com/image.jpg"}
    await mine.emit("message:send", picture)
    shown = await theirs.next("message:new")
    assert (shown["messageType"], shown["attachmentUrl"]) == ("IMAGE", picture["attachmentUrl"])
    # 7. Reading.
    await theirs.emit("message:read", {"messageId": shown["messageId"]})
    assert (await mine.next("message:read"))["messageId"] == shown["messageId"]
    # Over REST, to the same people.
    await sender.send(room["id"], "by REST")
    assert (await theirs.next("message:new"))["content"] == "by REST"
    for device in (mine, theirs):
        assert device.heard("exception") == []


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_what_came_while_away_waits(town: Town, transports: tuple[str, ...]) -> None:
    sender, receiver, room_id = await town.pair()
    for content in ("one", "two"):
        await sender.send(room_id, content)
    device = await receiver.connect(transports, acks=False)
    assert [message["content"] for message in await device.next("messages:offline")] == ["one", "two"]


def curl(url: str, *options: str, token: str | None = None) -> Any:
    """Run curl as the guide does and parse what it prints."""
    command = ["curl", "--silent", "--show-error", "--max-time", "30", *options, url]
    if token is not None:
        command += ["-H", f"Authorization: Bearer {token}"]
    output = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    return json.loads(output) if output else None


def post(url: str, body: dict[str, Any], token: str | None = None) -> Any:
    return curl(url, "-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps(body), token=token)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_whole_flow_with_curl(server: ServerProcess) -> None:
    api = server.url + API
    last_name = unique("Lee")
    people = [
        post(
            f"{api}/auth/register",
            {"email": f"{unique()}@example.com", "password": PASSWORD, "firstName": name, "lastName": last_name},
        )
        for name in ("userA", "userB")
    ]
    login = post(f"{api}/auth/login", {"email": people[0]["user"]["email"], "password": PASSWORD})
    token = login["accessToken"]
    assert curl(f"{api}/users/me", token=token)["id"] == people[0]["user"]["id"]
    found = curl(f"{api}/users/search?q=userB%20{last_name}&limit=20", "-X", "GET", token=token)
    assert found["total"] == 1 and found["users"][0].keys() >= GUIDE_USER_KEYS
    room = post(f"{api}/messages/chat-rooms", {"otherUserId": found["users"][0]["id"]}, token)
    path = f"{api}/messages/chats/{room['id']}/messages"
    message = post(path, {"content": "Test message", "type": "TEXT"}, token)
    assert message["content"] == "Test message"
    other = people[1]["accessToken"]
    chats = curl(f"{api}/messages/chats", token=other)["chats"]
    assert chats[0].keys() >= CHAT_KEYS
    assert (chats[0]["lastMessage"], chats[0]["unreadCount"]) == ("Test message", 1)
    history = curl(f"{path}?page=1&limit=50", token=other)
    assert [entry["messageId"] for entry in history["messages"]] == [message["messageId"]]
    assert history["pagination"]["totalItems"] == 1
    check_error(curl(f"{api}/users/me"), "UNAUTHORIZED")


async def _node(script: Path, *arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        "node", str(script), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(NODE_DEADLINE):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, errors.decode()
    return dict(json.loads(output))


async def _talk(town: Town, script: Path, transport: str) -> tuple[Person, Person, str, dict[str, Any]]:
    one, other, room_id = await town.pair()
    await one.send(room_id, "waiting")
    heard = await _node(script, town.url, transport, room_id, one.access_token, other.access_token, "1")
    return one, other, room_id, heard


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_whole_flow_with_npms_client(town: Town, node_folder: Path, transport: str) -> None:
    one, _other, room_id, heard = await _talk(town, node_folder / "guide.mjs", transport)
    assert heard["refusedWith"] == "UNAUTHORIZED"
    assert [message["content"] for message in heard["offline"]] == ["waiting"]
    assert heard["typing"] == {"roomId": room_id, "userId": one.id}
    assert heard["text"].keys() >= MESSAGE_KEYS and heard["text"]["content"] == "Hello!"
    assert heard["ack"]["ok"] is True
    assert heard["ack"]["message"]["messageId"] == heard["picture"]["messageId"] == heard["read"]["messageId"]
    check_error(heard["exception"], "NOT_FOUND")
    assert heard["exception"]["event"] == "message:send"
    assert set(heard["transportNames"]) == {"polling" if transport == "polling" else "websocket"}
