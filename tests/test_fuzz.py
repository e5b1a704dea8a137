"""Whatever strangers send, over every route, header and event: never 500, and never silence.

`FUZZ_CASES=20000 python -m pytest tests/test_fuzz.py` tries so many cases, other ones each time.
"""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import NO_LIMITS
from tests.support import fuzz
from tests.support.people import Person, Town
from tests.support.poller import POLLING_PATH, SEPARATOR, Poller
from tests.support.raw_http import ask, request
from tests.support.raw_socket import BINARY, CLOSE, DEADLINE, PING, PONG, TEXT, RawSocket
from tests.support.routes import ROUTES
from tests.support.server_process import ServerProcess
from tests.support.uploads import FORM, form, upload
from tests.test_bad_events import EVENTS
from tests.test_bad_input import BODIES

CASES = int(os.environ.get("FUZZ_CASES", "0"))
SUITE_CASES = 300
# With short pings, so that a poll with nothing to tell is answered soon.
SETTINGS = {**NO_LIMITS, "socket.ping_interval": "300ms", "socket.connect_timeout": "2s", "uploads.max_file": "20KB"}
FRAMING = ("right", "right", "right", "none", "odd length", "chunked", "bad chunk")
BAD_CHUNKS = (
    b"zz\r\n",
    b"-1\r\n",
    b"ffffffffffffffffff\r\n",
    b"7fffffff\r\n",
    b"1\r\nxxx",
    b"0\r\nxx",
    b"\r\n",
    b"x" * 99,
)
FIELDS = {(body.method, body.path): [field.name for field in body.fields] for body in BODIES}
TARGETS = sorted({route.path.partition("?")[0] for route in ROUTES} | {"/socket.io/", "/nothing", "//", "*"})
# Beside events of the table: what one packet may hold in their place.
PACKETS = (
    *(
        "0",
        "1",
        "2",
        "2probe",
        "3",
        "3probe",
        "4",
        "5",
        "6",
        "7",
        "b",
        "bAAAA",
        "b\xff",
        "40",
        "40/chat,",
        "40/chat,{}",
        "40/x,",
    ),
    *(
        '40/chat,{"token":',
        '40/chat,{"token": 7}',
        '40/chat,{"token": "x.y.z"}',
        "41",
        "41/chat,",
        "41/x",
        "42",
        "42/chat,",
    ),
    *(
        "42/chat,[]",
        "42/chat,[7]",
        "42/chat,99999999999999999999[]",
        '42["x"]',
        '42/x,["x"]',
        "43/chat,1[]",
        "43/chat,",
        "44",
    ),
    *(
        "44/chat,{}",
        '451-/chat,1["x",{"_placeholder":true,"num":0}]',
        "45999999999-/chat,[]",
        "461-/chat,1[]",
        "47",
        "4" * 999,
    ),
)


def share(part: float) -> Callable[[Any], Any]:
    """This part of all cases; in the suite always the same ones, so that it fails for a reason of its own."""
    return settings(
        max_examples=max(10, round((CASES or SUITE_CASES) * part)),
        derandomize=not CASES,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


class Ground:
    """A server, who and what there is on it, and a loop in a thread of its own: hypothesis calls plain functions."""

    def __init__(self, server: ServerProcess, thread: Executor) -> None:
        self.url = server.url
        self._thread = thread
        self._runner = asyncio.Runner()
        self._raw: RawSocket | None = None
        self._number = 0
        self.run(self._settle())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._thread.submit(self._runner.run, work).result()

    def close(self) -> None:
        self.run(self.town.close())
        self._thread.submit(self._runner.close).result()

    async def _settle(self) -> None:
        self.town = Town(self.url)
        self.person, self.friend, self.room_id = await self.town.pair()
        message = await self.person.send(self.room_id)
        self.file_url = (await upload(self.person, b"hello", "a.txt"))["fileUrl"]
        self.message_id = message["messageId"]
        self.ids = sorted((self.person.id, self.friend.id, self.room_id, self.message_id, self.file_url.split("/")[-1]))
        # Fields that are right, as JSON texts.
        self.good = {
            "roomId": json.dumps(self.room_id),
            "messageId": json.dumps(self.message_id),
            "otherUserId": json.dumps(self.friend.id),
            "content": '"x"',
            "userIds": json.dumps([self.friend.id]),
            "rooms": json.dumps({self.room_id: 0}),
            "token": json.dumps(self.person.access_token),
            "attachmentUrl": json.dumps(self.file_url),
        }

    def payloads(self, names: list[str]) -> st.SearchStrategy[str]:
        return fuzz.objects(names, {name: text for name, text in self.good.items() if name in names})

    async def line(self) -> RawSocket:
        """A WebSocket on `/chat`, the one of before where it lives."""
        if self._raw is None or self._raw.reader.at_eof():
            self._raw = await self.town.raw_chat(self.person.access_token)
        return self._raw

    async def acked(self, packet: str) -> dict[str, Any]:
        """The ack of an event whose number stands for `#` in it."""
        raw = await self.line()
        self._number += 1
        await raw.send(packet.replace("#", str(self._number), 1).encode("utf-8", "replace"), TEXT)
        answer = await raw.packet(f"43/chat,{self._number}[")
        return dict(json.loads("[" + answer)[0])


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    server = ServerProcess(tmp_path_factory.mktemp("fuzz"), SETTINGS)
    server.start()
    try:
        with ThreadPoolExecutor(1) as thread:
            fuzzed = Ground(server, thread)
            yield fuzzed
            fuzzed.close()
        server.stop()
    finally:
        server.kill()
    for trouble in ("Traceback", " ERROR "):
        _before, found, after = server.log().partition(trouble)
        assert not found, f"the server logged ({server.log_file}): {after[:3000]}"


@share(0.5)
@given(data=st.data())
def test_every_request_is_answered(ground: Ground, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(fuzz.METHODS))
    target = data.draw(st.sampled_from(TARGETS))
    path = target
    for place in ("{user}", "{room}", "{file}"):
        if place in path:
            path = path.replace(place, data.draw(fuzz.segments(ground.ids)))
    query = data.draw(fuzz.queries)
    headers = {"Host": "x", **data.draw(fuzz.headers)}
    if not target.endswith("/logout") and data.draw(st.booleans()):
        headers["Authorization"] = f"Bearer {ground.person.access_token}"
    body = b""
    if method not in ("GET", "HEAD"):
        names = FIELDS.get((method, target))
        body = data.draw(
            fuzz.bodies if names is None else ground.payloads(names).map(lambda text: text.encode("utf-8", "replace"))
        )
        if target.endswith("/upload") and data.draw(st.booleans()):
            headers |= FORM
            name = data.draw(st.text(max_size=20))
            body = form(body, name, type=data.draw(st.sampled_from(("IMAGE", "FILE", "", "x"))), purpose=name)
        elif data.draw(st.booleans()):
            headers["Content-Type"] = "application/json"
    framing = data.draw(st.sampled_from(FRAMING))
    if framing == "odd length":
        headers["Content-Length"] = data.draw(st.sampled_from(fuzz.ODD_LENGTHS))
    elif framing == "none":
        body = b""
    elif framing != "right":
        headers["Transfer-Encoding"] = "chunked"
        whole = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        body = whole if framing == "chunked" else data.draw(st.sampled_from(BAD_CHUNKS))
    answer = ground.run(ask(ground.url, request(method, f"{path}?{query}" if query else path, headers, body)))
    assert answer.status not in (0, 500, 503), answer


@share(0.3)
@given(data=st.data())
def test_every_event_is_acknowledged(ground: Ground, data: st.DataObject) -> None:
    event = data.draw(st.sampled_from(sorted(EVENTS)))
    names = [field.name for field in EVENTS[event]]
    name = data.draw(st.just(json.dumps(event)) | st.just(json.dumps(event)) | fuzz.json_texts)
    arguments = [name, *data.draw(st.lists(ground.payloads(names), min_size=1, max_size=2))]
    ack = ground.run(ground.acked(f"42/chat,#[{','.join(arguments)}]"))
    assert ack["ok"] or ack["error"]["code"] not in ("INTERNAL", "UNAVAILABLE"), ack


@share(0.05)
@given(text=fuzz.json_texts | st.text(max_size=30))
def test_every_packet_with_a_number_is_acknowledged(ground: Ground, text: str) -> None:
    for kind in ("2", "51-"):
        ack = ground.run(ground.acked(f"4{kind}/chat,# {text}"))
        assert ack["ok"] is False and ack["error"]["code"] in ("VALIDATION_FAILED", "NOT_FOUND"), ack


frames = st.tuples(
    st.sampled_from((TEXT, TEXT, TEXT, BINARY, 0, 3, CLOSE, PING, PONG, 15)),
    st.sampled_from(PACKETS).map(str.encode) | st.binary(max_size=200),
    st.booleans(),
)


@share(0.1)
@given(drawn=st.lists(frames, min_size=1, max_size=6), is_in=st.booleans())
def test_every_frame_is_survived(ground: Ground, drawn: list[tuple[int, bytes, bool]], is_in: bool) -> None:
    async def send() -> None:
        raw = await (ground.town.raw_chat(ground.person.access_token) if is_in else ground.town.raw_session())
        try:
            for opcode, payload, is_whole in drawn:
                frame = bytearray(raw.encode(payload, opcode))
                frame[0] = frame[0] if is_whole else frame[0] & 0x7F
                await raw.send_raw(bytes(frame))
            await raw.send(b"alive?", PING)
            async with asyncio.timeout(DEADLINE):
                while (heard := await raw.frame()) != (PONG, b"alive?"):
                    assert b"INTERNAL" not in heard.payload, heard
        except (asyncio.IncompleteReadError, ConnectionError):
            # Ended for it, which is an answer too.
            pass
        finally:
            await raw.close()

    ground.run(send())


@share(0.05)
@given(packets=st.lists(st.sampled_from(PACKETS) | fuzz.json_texts.map("42/chat,".__add__), min_size=1, max_size=6))
def test_every_poll_is_answered(ground: Ground, packets: list[str]) -> None:
    async def poll() -> None:
        poller = Poller(ground.town)
        await poller.begin(ground.person)
        body = SEPARATOR.join(packets).encode("utf-8", "replace")
        path = f"{POLLING_PATH}&sid={poller.sid}"
        said = await ask(ground.url, request("POST", path, {"Content-Type": "text/plain"}, body))
        told = await ask(ground.url, request("GET", path))
        assert {said.status, told.status} <= {200, 400}, (said, told)
        assert b"INTERNAL" not in told.body, told

    ground.run(poll())


def test_the_server_is_still_well(ground: Ground) -> None:
    async def look() -> None:
        person: Person = await ground.town.person()
        room_id = await person.open_room(ground.friend)
        message = await person.send(room_id)
        assert [one["messageId"] for one in (await ground.friend.history(room_id))["messages"]] == [
            message["messageId"]
        ]

    ground.run(look())
