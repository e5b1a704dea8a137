"""Group commit: many messages at once reach the store in few writes. The server's own composition, writes counted."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from pymongo import monitoring

from server.config.load import load
from server.context import Context, open_context
from server.models import Client
from server.requests import Registration, RoomRequest, SendMessage
from tests.support.people import PASSWORD, unique
from tests.support.server_process import ROOT

WRITES = {"insert", "update", "delete", "findAndModify", "bulkWrite"}
ROOMS = 100
SENDS = 500
FAR_FEWER = 10  # at least this many messages for each write


class WriteCounter(monitoring.CommandListener):
    """The write commands that the driver sends while counting is on: (command, collection, documents)."""

    def __init__(self) -> None:
        self.is_on = False
        self.writes: list[tuple[str, str, int]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self.is_on and event.command_name in WRITES:
            command: dict[str, Any] = event.command
            size = len(command.get("documents", command.get("updates", [None])))
            self.writes.append((event.command_name, command[event.command_name], size))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to count."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to count."""

    @contextlib.contextmanager
    def counting(self) -> Any:
        self.writes.clear()
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False


COUNTER = WriteCounter()
monitoring.register(COUNTER)  # the driver knows no way back, hence once for the whole run and off by default


async def register(context: Context) -> str:
    payload = Registration(email=f"{unique()}@example.com", password=PASSWORD, first_name="A", last_name="B")
    return (await context.accounts.register(payload, Client("127.0.0.1"))).user.id


async def open_rooms(context: Context) -> tuple[str, list[str]]:
    one, other = await register(context), await register(context)
    requests = [RoomRequest(other_user_id=other, booking_id=f"{number}") for number in range(ROOMS)]
    opened = await asyncio.gather(*(context.chat_list.open_room(one, request) for request in requests))
    return one, [room.id for room, _is_new in opened]


async def test_many_messages_are_few_writes_and_one_is_one(tmp_path: Path) -> None:
    sets = [f"data_dir={tmp_path / 'data'}", "limits.enabled=false"]
    async with open_context(load(ROOT / "config.yaml", sets, {})) as context:
        sender, rooms = await open_rooms(context)
        await context.messages.send(sender, SendMessage(room_id=rooms[0], content="warm"))
        with COUNTER.counting():
            await context.messages.send(sender, SendMessage(room_id=rooms[0], content="alone"))
        assert inserted() == [1]
        with COUNTER.counting():
            sends = [SendMessage(room_id=rooms[number % ROOMS], content=f"{number}") for number in range(SENDS)]
            sent = await asyncio.gather(*(context.messages.send(sender, payload) for payload in sends))
            await context.drain()
        assert sum(inserted()) == SENDS
        assert len(inserted()) * FAR_FEWER <= SENDS, COUNTER.writes
        # What follows a message (ends of rooms, marks) is gathered too.
        assert len(COUNTER.writes) * FAR_FEWER <= SENDS, COUNTER.writes
        for room_id in rooms[1:]:
            seqs = sorted(message.seq for message, _is_new in sent if message.room_id == room_id)
            assert seqs == list(range(1, SENDS // ROOMS + 1))


def inserted() -> list[int]:
    """How many messages each counted insert carried."""
    return [size for command, collection, size in COUNTER.writes if (command, collection) == ("insert", "messages")]
