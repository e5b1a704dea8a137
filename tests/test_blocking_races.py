"""A block that comes while a message is on its way. The server's own composition on real stores, one read held back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from server.config.load import load
from server.context import Context, open_context
from server.errors import Forbidden
from server.models import Client, Message
from server.requests import Registration, RoomRequest, SendMessage
from server.services.room_log import write_queue
from server.storage.mongo.messages import MessageStore
from tests.support.people import PASSWORD, unique
from tests.support.server_process import ROOT

find = MessageStore.find


async def register(context: Context) -> str:
    payload = Registration(email=f"{unique()}@example.com", password=PASSWORD, first_name="A", last_name="B")
    return (await context.accounts.register(payload, Client("127.0.0.1"))).user.id


async def run(folder: Path, work: Callable[[Context, str, str, str], Awaitable[None]]) -> None:
    sets = [f"data_dir={folder / 'data'}", "limits.enabled=false"]
    async with open_context(load(ROOT / "config.yaml", sets, {})) as context:
        one, other = await register(context), await register(context)
        room, _is_new = await context.chat_list.open_room(one, RoomRequest(other_user_id=other))
        await work(context, one, other, room.id)
        await context.drain()


class HeldRead:
    """The next read of a message by its id waits until `release`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.has_begun, self._may_end = asyncio.Event(), asyncio.Event()

        async def find_later(store: MessageStore, message_id: str) -> Message | None:
            self.has_begun.set()
            await self._may_end.wait()
            return await find(store, message_id)

        patch.setattr(MessageStore, "find", find_later)
        # What was just stored is found without the store.
        patch.setattr(write_queue.RecentMessages, "get", Mock(return_value=None))

    def release(self) -> None:
        self._may_end.set()


async def test_what_was_looked_up_while_the_block_was_answered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quote_and_block(context: Context, one: str, other: str, room_id: str) -> None:
        said, _is_new = await context.messages.send(one, SendMessage(room_id=room_id, content="said"))
        read = HeldRead(monkeypatch)
        payload = SendMessage(room_id=room_id, content="answer", reply_to=said.message_id, client_message_id="a")
        answer = asyncio.ensure_future(context.messages.send(other, payload))
        await read.has_begun.wait()
        await context.blocking.block(one, other)
        read.release()
        with pytest.raises(Forbidden):
            await answer
        assert (await context.rooms.access_room(one, room_id)).last_seq == 1

    await run(tmp_path, quote_and_block)


async def test_a_repeat_that_meets_the_block_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def repeat_and_block(context: Context, one: str, other: str, room_id: str) -> None:
        said, _is_new = await context.messages.send(one, SendMessage(room_id=room_id, content="said"))
        payload = SendMessage(room_id=room_id, content="answer", reply_to=said.message_id, client_message_id="a")
        stored, _is_new = await context.messages.send(other, payload)
        read = HeldRead(monkeypatch)
        repeat = asyncio.ensure_future(context.messages.send(other, payload))
        await read.has_begun.wait()
        await context.blocking.block(one, other)
        read.release()
        assert (await repeat)[0].message_id == stored.message_id and not (await repeat)[1]

    await run(tmp_path, repeat_and_block)
