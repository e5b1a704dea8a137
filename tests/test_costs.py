"""What a message costs: round trips to the stores and JSON encodings, alone and with 500 senders at once.

The server's own composition behind its own socket handler, with counters around its stores and encoders.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pymongo import monitoring
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from bench.seed import SECRET, Pair, seed_pairs
from bench.sockets import ACK, EVENT, MESSAGE_NEW, Link, open_links
from handlers.app import make_application
from handlers.socket.engine.gateway import Gateway
from server.config.load import load
from server.context import Context, open_context
from server.realtime import frames
from server.services.accounts import inactive
from server.services.room_log.write_queue import WriteQueue
from server.storage.mongo.messages import MessageStore
from server.storage.redis.client import RedisClient
from tests.support.server_process import ROOT
from tests.support.waiting import eventually

SENDERS = 500
MAX_BATCH = 200  # as shipped
# What gathers behind the first write goes in whole batches.
MOST_INSERTS = 1 + -(-SENDERS // MAX_BATCH)
# Pushes on offline queues are gathered as well.
LEAST_PER_REDIS_CALL = 20
DEADLINE = 60.0
# Ends and marks of rooms are stored once a second, and the embedded store is looked after, whatever happens meanwhile.
PERIODIC = {("update", "rooms"), ("update", "members"), ("find", "probe")}


class Commands(monitoring.CommandListener):
    """The commands that go to MongoDB, as (command, collection)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        target = event.command.get(event.command_name)
        # Others, such as `endSessions` of a client that closes, concern no collection.
        if isinstance(target, str):
            self.seen.append((event.command_name, target))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to count."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to count."""


COMMANDS = Commands()
monitoring.register(COMMANDS)


class CountingEncoder:
    """In the place of an encoder."""

    def __init__(self, encode: Callable[..., bytes]) -> None:
        self._encode = encode
        self.count = 0

    def encode(self, value: Any, **options: Any) -> bytes:
        self.count += 1
        return self._encode(value, **options)


class Counters:
    """Counts from `reset` on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._frames = CountingEncoder(frames._encoder.encode)
        self._plain = CountingEncoder(msgspec.json.encode)
        self.redis_calls = 0
        patch.setattr(frames, "_encoder", self._frames)
        patch.setattr(msgspec.json, "encode", self._plain.encode)
        run = RedisClient.run

        async def counted(store: RedisClient, call: Any) -> Any:
            self.redis_calls += 1
            return await run(store, call)

        patch.setattr(RedisClient, "run", counted)

    def reset(self) -> None:
        self._frames.count = self._plain.count = self.redis_calls = 0
        COMMANDS.seen.clear()

    @property
    def encodings(self) -> int:
        return self._frames.count + self._plain.count

    @property
    def commands(self) -> list[tuple[str, Any]]:
        return [command for command in COMMANDS.seen if command not in PERIODIC]


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Context, int]]:
    """The server on a port of this process."""
    sets = [f"data_dir={folder / 'data'}", "limits.enabled=false", f"auth.secret={SECRET}"]
    async with open_context(load(ROOT / "config.yaml", sets, {})) as context:
        gateway = Gateway(context)
        gateway.attach()
        server = HTTPServer(make_application(context, gateway.sessions))
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        try:
            yield context, sockets[0].getsockname()[1]
        finally:
            server.stop()
            await context.drain()
            await server.close_all_connections()
            # Engine.IO's pings of clients that are gone sleep on for the rest of their interval.
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if "_send_ping" in repr(task):
                    task.cancel()


class Client:
    """A link that counts the acks and messages it gets."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.acks = 0
        self.messages = 0
        link.on_frame = self._take

    def send(self, pair: Pair) -> None:
        self._link.send(EVENT + b'1["message:send",{"roomId":"%s","content":"Hello!"}]' % pair.room_id.encode())

    def _take(self, buffer: bytes, start: int, stop: int) -> None:
        if buffer.startswith(ACK, start):
            assert b'"ok":true' in buffer[start:stop], buffer[start:stop]
            self.acks += 1
        elif buffer.startswith(MESSAGE_NEW, start):
            self.messages += 1


async def connect(port: int, tokens: list[str]) -> list[Client]:
    return [Client(link) for link in await open_links("127.0.0.1", port, tokens)]


async def test_one_message_is_one_write_and_two_encodings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sockets its receiver has."""
    # The look for inactive users would come in between where the machine is slow.
    monkeypatch.setattr(inactive, "LONGEST_PAUSE", DEADLINE * 2)
    counters = Counters(monkeypatch)
    async with serving(tmp_path) as (context, port):
        (pair,) = await seed_pairs(context._stores.database, 1)
        (sender,) = await connect(port, [pair.tokens[0]])
        receivers = await connect(port, [pair.tokens[1]] * 3)
        for number in (1, 2):
            counters.reset()
            sender.send(pair)
            await all_have(number, [sender], receivers)
        assert counters.commands == [("insert", "messages")]
        assert counters.encodings == 2, "one ack, and one frame for all sockets"
        assert counters.redis_calls == 0


async def test_five_hundred_senders_share_their_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other receiver is away, so that queues are written too."""
    counters = Counters(monkeypatch)
    # The look for inactive users would come in between where the machine is slow.
    monkeypatch.setattr(inactive, "LONGEST_PAUSE", DEADLINE * 2)
    async with serving(tmp_path) as (context, port):
        pairs = await seed_pairs(context._stores.database, SENDERS)
        senders = await connect(port, [pair.tokens[0] for pair in pairs])
        receivers = await connect(port, [pair.tokens[1] for pair in pairs[::2]])
        everybody(senders, pairs)
        await all_have(1, senders, receivers)
        await context.offline_writer.wait_written()
        hold_until_all_wait(monkeypatch)
        counters.reset()
        everybody(senders, pairs)
        await all_have(2, senders, receivers)
        await context.offline_writer.wait_written()
        inserts = [command for command in counters.commands if command == ("insert", "messages")]
        assert len(inserts) <= MOST_INSERTS, inserts
        assert len(counters.commands) == len(inserts), counters.commands
        assert counters.encodings <= 2 * SENDERS + (SENDERS - len(receivers)), "an ack, a frame, and what is queued"
        assert counters.redis_calls * LEAST_PER_REDIS_CALL <= SENDERS


async def all_have(count: int, senders: list[Client], receivers: list[Client]) -> None:
    """Wait until so many messages are acknowledged to each sender and delivered to each receiver."""

    async def look() -> bool:
        return all(one.acks == count for one in senders) and all(one.messages == count for one in receivers)

    await eventually(look, f"{count} messages of each", DEADLINE)


def everybody(senders: list[Client], pairs: list[Pair]) -> None:
    for sender, pair in zip(senders, pairs, strict=True):
        sender.send(pair)


def hold_until_all_wait(patch: pytest.MonkeyPatch) -> None:
    """The store takes nothing before all have sent, so that the batches do not depend on how fast anything is."""
    append, insert = WriteQueue.append, MessageStore.insert
    all_wait = asyncio.Event()
    appended = 0

    def counted(write_queue: WriteQueue, draft: Any) -> Any:
        nonlocal appended
        appended += 1
        if appended == SENDERS:
            all_wait.set()
        return append(write_queue, draft)

    async def held(store: MessageStore, messages: Any) -> int:
        await all_wait.wait()
        return await insert(store, messages)

    patch.setattr(WriteQueue, "append", counted)
    patch.setattr(MessageStore, "insert", held)
