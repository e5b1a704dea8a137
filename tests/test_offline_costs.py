"""The cost of flushing an offline batch: one query for all its rooms, and each mark written once."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pymongo import monitoring
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from handlers.app import make_application
from handlers.socket.engine.gateway import Gateway
from server.config.load import load
from server.context import Context, open_context
from server.services.rooms.room_cache import RoomCache
from tests.support.people import Town
from tests.support.server_process import ROOT

ROOMS = 8


class Commands(monitoring.CommandListener):
    """The commands that go to MongoDB, as (name, collection, command)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.seen.append((event.command_name, str(event.command.get(event.command_name)), event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to count."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to count."""

    def finds(self, collection: str) -> int:
        return sum(seen[:2] == ("find", collection) for seen in self.seen)

    def mark_writes(self, user_id: str) -> list[list[str]]:
        """For each write of marks of this user, the members that it was for."""
        writes = (
            [str(update["q"]["_id"]) for update in command["updates"]]
            for name, collection, command in self.seen
            if (name, collection) == ("update", "members")
        )
        return [ids for ids in writes if any(member.endswith(user_id) for member in ids)]


COMMANDS = Commands()
monitoring.register(COMMANDS)


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Context, str]]:
    """The server on a port of this process, with quick pings."""
    sets = [f"data_dir={folder / 'data'}", "limits.enabled=false", "socket.ping_interval=300ms"]
    async with open_context(load(ROOT / "config.yaml", sets, {})) as context:
        gateway = Gateway(context)
        gateway.attach()
        server = HTTPServer(make_application(context, gateway.sessions))
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        try:
            yield context, f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        finally:
            server.stop()
            await context.drain()
            await server.close_all_connections()


async def test_a_batch_of_many_rooms_is_one_look_up_and_one_write_of_each_mark(tmp_path: Path) -> None:
    async with serving(tmp_path) as (context, url):
        town = Town(url)
        try:
            one, other = await town.people(2)
            rooms = [await one.open_room(other, f"booking {number}") for number in range(ROOMS)]
            for room_id in rooms:
                await one.send(room_id)
            await context.offline_writer.wait_written()
            await context.save_ends()
            forget_rooms(context)
            COMMANDS.seen.clear()
            raw = await town.raw_chat(other.access_token)
            batch = json.loads(await raw.packet("42/chat,1"))[1]
            assert {message["roomId"] for message in batch} == set(rooms)
            assert COMMANDS.finds("rooms") <= 2, "one for the batch, one for who is told of the arrival"
            await raw.send("43/chat,1[]")
            await answer_ping(raw)
            await context._marks.wait_empty()
            written = [member for ids in COMMANDS.mark_writes(other.id) for member in ids if member.endswith(other.id)]
            assert sorted(written) == sorted(f"{room_id}:{other.id}" for room_id in rooms)
            assert len(COMMANDS.mark_writes(other.id)) <= 2, "gathered"
            await raw.close()
        finally:
            await town.close()


def forget_rooms(context: Context) -> None:
    """As if they had not been used for long."""
    context.room_loader._cache = context.room_saver._cache = RoomCache(ROOMS)


async def answer_ping(raw: Any) -> None:
    """Answer the pings up to one that was sent after the acknowledgement, and wait until that has been worked on."""
    assert (await raw.acked("presence:get", {"userIds": []}, 7))["ok"]
    async with asyncio.timeout(30):
        while (await raw.frame()).payload != b"2":
            pass
    await raw.send("3")
    assert (await raw.acked("presence:get", {"userIds": []}, 8))["ok"]
