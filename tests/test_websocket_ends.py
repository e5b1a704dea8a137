"""The end of a WebSocket: protocol errors, silence, and a stopping server with unsent data."""

import asyncio
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Residents, StartServer
from tests.support.people import Town
from tests.support.raw_socket import CLOSE, TEXT, RawSocket
from tests.support.server_process import ROOT
from tests.support.shapes import check_error
from tests.support.waiting import eventually

POLLING_PATH = "/socket.io/?EIO=4&transport=polling"
PLAIN = {"Content-Type": "text/plain"}


@pytest.fixture
def own_stores(tmp_path: Path) -> Iterator[dict[str, object]]:
    """Settings of stores that outlive a server, so that nothing of theirs delays its end."""
    command = [sys.executable, "-m", "tests.support.stores_process", str(tmp_path / "stores")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            mongodb, redis = json.loads(process.stdout.readline())
            yield {"mongodb.uri": mongodb, "redis.url": redis}
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("said", "code"),
    [(b"x", 1002), (struct.pack("!H", 1005), 1002), (struct.pack("!H", 999), 1002), (b"\x03\xe8\xff\xfe", 1007)],
    ids=["half a code", "a code that never travels", "a code out of range", "a reason that is no text"],
)
async def test_a_bad_close_is_not_repeated(town: Town, residents: Residents, said: bytes, code: int) -> None:
    raw = await town.raw_chat(residents.alice.access_token)
    await raw.send_raw(RawSocket.encode(said, CLOSE))
    assert await raw.ending() == code


async def test_who_ends_their_side_is_told_goodbye_and_what_they_sent_is_taken(quick_town: Town) -> None:
    friend, person, room_id = await quick_town.pair()
    witness = await friend.connect()
    raw = await quick_town.raw_chat(person.access_token)
    await witness.next("user:online")
    count = 30
    for _ in range(count):
        await raw.emit("message:send", {"roomId": room_id, "content": "x"})
    raw.writer.write_eof()
    assert await raw.ending() is None
    assert [(await witness.next("message:new"))["seq"] for _ in range(count)] == list(range(1, count + 1))
    await witness.next("user:offline")


DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize("entry", ["{bad", "9" * 5000, DEEP], ids=["no JSON", "a long number", "deep nesting"])
async def test_a_malformed_entry_ends_the_session(town: Town, entry: str) -> None:
    raw = await town.raw_session()
    await raw.send(f"40/chat,{entry}")
    assert await raw.ending() == 1003
    opening = await town.rest.call("GET", POLLING_PATH)
    session = f"{POLLING_PATH}&sid={json.loads(opening.raw[1:])['sid']}"
    assert (await town.rest.call("POST", session, f"40/chat,{entry}".encode(), headers=PLAIN)).status == 200
    for method, body in (("POST", b"40/chat,"), ("GET", None)):
        options = {} if body is None else {"body": body, "headers": PLAIN}
        assert (await town.rest.call(method, session, **options)).status == 400


async def test_a_stopping_server_lets_slow_readers_have_what_was_sent(
    start_server: StartServer, town_at, own_stores: dict[str, object]
) -> None:
    server = start_server({**own_stores, "socket.max_unsent": "16MiB"})
    town: Town = town_at(server)
    reader, sender, room_id = await town.pair()
    raw = await town.raw_chat(reader.access_token, receive_buffer=8192)
    here = await sender.connect()
    # More than the kernel keeps for somebody who does not read.
    count, payload = 350, {"roomId": room_id, "content": "한" * 10_000}
    for _ in range(count // 50):
        answers = await asyncio.gather(*(here.call("message:send", payload) for _ in range(50)))
        assert all(answer["ok"] for answer in answers)
    stopping = asyncio.get_running_loop().run_in_executor(None, server.stop)

    async def has_begun_to_stop() -> bool:
        return "stopping" in server.log()

    await eventually(has_begun_to_stop, "the server stops")
    heard = []
    async with asyncio.timeout(30):
        while (told := await raw.frame()).opcode != CLOSE:
            if told.opcode == TEXT and b'["message:new"' in told.payload[:30]:
                heard.append(json.loads(told.payload[len("42/chat,") :])[1]["seq"])
    assert heard == list(range(1, count + 1))
    await stopping


async def test_who_sends_too_much_is_told_why(quick_town: Town) -> None:
    person = await quick_town.person()
    raw = await quick_town.raw_chat(person.access_token)
    await raw.send_raw(bytes((0x80 | TEXT, 0x80 | 127)) + struct.pack("!Q", 1_000_000) + b"\0\0\0\0")
    error = await raw.event("exception")
    check_error(error, "PAYLOAD_TOO_LARGE")
    assert error["event"] == ""
    assert await raw.ending() == 1009
