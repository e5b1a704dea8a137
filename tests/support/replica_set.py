"""A replica set in trouble, played by a proxy of MongoDB's wire protocol in front of a single store.

To a driver it is the primary of `rs0`. What it answers instead of the store's own answers has the codes and names that
MongoDB documents.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Collection
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import bson

HEADER: Final = struct.Struct("<iiii")  # length, request id, response to, kind
OP_REPLY: Final = 1
OP_QUERY: Final = 2004
OP_MSG: Final = 2013
REPLY_HEAD: Final = 20  # flags, cursor, start, count
EXHAUST_ALLOWED: Final = 1 << 16
HELLO: Final = frozenset({"hello", "ismaster"})
# What every member answers, whoever is primary.
ANSWERED_ALWAYS: Final = HELLO | {"ping", "buildinfo", "saslstart", "saslcontinue", "endsessions", "authenticate"}
Document = dict[str, Any]
# Before the command reaches the store; after it was carried out, in place of the store's answer or beside it.
Moment = Literal["before", "after", "beside"]


class Trouble(NamedTuple):
    """What comes of one command. Without a name, the connection is reset."""

    moment: Moment
    name: str = ""
    code: int = 0

    def __str__(self) -> str:
        return f"{self.name or 'reset'} {self.moment}"


TROUBLES: Final = (
    Trouble("before", "NotWritablePrimary", 10107),
    Trouble("before", "PrimarySteppedDown", 189),
    Trouble("after", "PrimarySteppedDown", 189),
    Trouble("before", "InterruptedAtShutdown", 11600),
    Trouble("after", "InterruptedAtShutdown", 11600),
    Trouble("after", "InterruptedDueToReplStateChange", 11602),
    Trouble("before", "ExceededTimeLimit", 262),
    Trouble("beside", "WriteConcernTimeout", 64),
    Trouble("beside", "PrimarySteppedDown", 189),
    Trouble("beside", "ShutdownInProgress", 91),
    Trouble("before"),
    Trouble("after"),
)


class ReplicaSet:
    """`address` is the store's own with this in front of it. `strike` arms what comes of the next such command."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        assert parts.hostname and parts.port
        self._uri, self._store = uri, (parts.hostname, parts.port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._armed: list[tuple[Trouble, Callable[[Document], bool]]] = []
        self._election = 0
        self._has_primary = True
        self._unseen: set[Any] = set()
        self.struck = 0
        self.address = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._place = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        there = f"{self._store[0]}:{self._store[1]}"
        self.address = self._uri.replace(there, self._place).replace("directConnection=true", "replicaSet=rs0")

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def strike(self, trouble: Trouble, where: Callable[[Document], bool], times: int = 1) -> None:
        self._armed += [(trouble, where)] * times

    @property
    def is_armed(self) -> bool:
        return bool(self._armed)

    def step_down(self) -> None:
        """No member is primary: connections end, and what comes on new ones is refused until `elect`."""
        self._has_primary = False
        self._election += 1
        self._reset_all()

    def elect(self) -> None:
        self._has_primary = True

    def hide(self, ids: Collection[Any]) -> None:
        """These documents are on the primary alone: reads of what a majority holds do not find them."""
        self._unseen |= set(ids)

    def replicate(self) -> None:
        self._unseen.clear()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection(*self._store)
            self._writers |= {writer, far}
            while True:
                request = await _read(reader)
                await self._carry(request, writer, far_reader, far)
        except (OSError, EOFError):
            pass
        finally:
            for one in (writer, far):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()

    async def _carry(
        self, request: bytes, writer: asyncio.StreamWriter, far_reader: asyncio.StreamReader, far: asyncio.StreamWriter
    ) -> None:
        command = _command(request)
        name = next(iter(command)).lower()
        trouble = self._next_trouble(command)
        if trouble is None and not self._has_primary and name not in ANSWERED_ALWAYS:
            trouble = Trouble("before", "NotWritablePrimary", 10107)
        if trouble is not None and trouble.moment == "before":
            self._answer_trouble(request, writer, trouble)
            await writer.drain()
            return
        far.write(_without_exhaust(request))
        await far.drain()
        reply = await _read(far_reader)
        if trouble is not None and trouble.moment == "after":
            self._answer_trouble(request, writer, trouble)
        else:
            writer.write(_rewritten(reply, lambda document: self._play(document, command, name, trouble)))
        await writer.drain()

    def _next_trouble(self, command: Document) -> Trouble | None:
        for number, (trouble, where) in enumerate(self._armed):
            if where(command):
                del self._armed[number]
                self.struck += 1
                return trouble
        return None

    def _answer_trouble(self, request: bytes, writer: asyncio.StreamWriter, trouble: Trouble) -> None:
        if not trouble.name:
            writer.transport.abort()
            raise EOFError
        body = {"ok": 0.0, "errmsg": trouble.name, "code": trouble.code, "codeName": trouble.name}
        data = struct.pack("<I", 0) + b"\0" + bson.encode(body)
        _, number, _, _ = HEADER.unpack_from(request)
        writer.write(HEADER.pack(HEADER.size + len(data), number, number, OP_MSG) + data)

    def _play(self, document: Document, command: Document, name: str, trouble: Trouble | None) -> Document:
        if name in HELLO:
            # Without it the driver asks again and again, which a proxy can answer; with it, it waits for the store.
            document.pop("topologyVersion", None)
            role = {"isWritablePrimary": self._has_primary, "ismaster": self._has_primary}
            document |= role | {"secondary": not self._has_primary, "setName": "rs0", "setVersion": 1}
            document |= {"hosts": [self._place], "me": self._place}
            document.pop("primary", None)
            if self._has_primary:
                document |= {
                    "primary": self._place,
                    "electionId": bson.ObjectId(f"{0x7FFFFFFF:08x}{self._election:016x}"),
                }
        elif trouble is not None:
            document["writeConcernError"] = {"code": trouble.code, "codeName": trouble.name, "errmsg": trouble.name}
        elif name == "find" and self._unseen and command.get("readConcern", {}).get("level") == "majority":
            batch = document["cursor"]["firstBatch"]
            document["cursor"]["firstBatch"] = [one for one in batch if one.get("_id") not in self._unseen]
        return document


async def _read(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(HEADER.size)
    return head + await reader.readexactly(HEADER.unpack(head)[0] - HEADER.size)


def _command(request: bytes) -> Document:
    """The command of a request, with the documents that came beside it."""
    kind = HEADER.unpack_from(request)[3]
    if kind == OP_QUERY:
        start = request.index(b"\0", HEADER.size + 4) + 1 + 8
        return dict(bson.decode(request[start : start + _size_at(request, start)]))
    assert kind == OP_MSG, kind
    command: Document = {}
    place = HEADER.size + 4
    while place < len(request):
        section, place = request[place], place + 1
        size = _size_at(request, place)
        if section == 0:
            command = dict(bson.decode(request[place : place + size])) | command
        else:
            end = request.index(b"\0", place + 4)
            key = request[place + 4 : end].decode()
            command[key] = bson.decode_all(request[end + 1 : place + size])
        place += size
    first = [key for key in command if key not in ("documents", "updates", "deletes")]
    return {key: command[key] for key in (*first, *(key for key in command if key not in first))}


def _without_exhaust(request: bytes) -> bytes:
    """As one question with one answer."""
    if HEADER.unpack_from(request)[3] != OP_MSG:
        return request
    (flags,) = struct.unpack_from("<I", request, HEADER.size)
    return request[: HEADER.size] + struct.pack("<I", flags & ~EXHAUST_ALLOWED) + request[HEADER.size + 4 :]


def _rewritten(reply: bytes, change: Callable[[Document], Document]) -> bytes:
    """The reply with its one document changed."""
    _, number, answers, kind = HEADER.unpack_from(reply)
    start = HEADER.size + (REPLY_HEAD if kind == OP_REPLY else 5)
    document = change(dict(bson.decode(reply[start : start + _size_at(reply, start)])))
    data = reply[HEADER.size : start] + bson.encode(document)
    return HEADER.pack(HEADER.size + len(data), number, answers, kind) + data


def _size_at(data: bytes, place: int) -> int:
    size: int = struct.unpack_from("<i", data, place)[0]
    return size


@contextlib.asynccontextmanager
async def replica_set(uri: str) -> Any:
    """In front of the store at `uri`, until the end of the block."""
    played = ReplicaSet(uri)
    await played.start()
    try:
        yield played
    finally:
        await played.close()
