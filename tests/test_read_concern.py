"""Every read asks for majority-committed data. Shown by the commands of the driver."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pymongo import monitoring

from server.config.load import load
from server.context import Context, open_context
from server.errors import Unavailable
from server.models import Client, Message
from server.requests import (
    ChatsQuery,
    Edit,
    HistoryQuery,
    OpenRoomsQuery,
    PresenceQuery,
    Registration,
    RoomRequest,
    SearchQuery,
    SendMessage,
    SyncPoint,
    SyncRequest,
)
from server.storage.mongo.messages import MessageStore
from tests.support.people import PASSWORD, unique
from tests.support.server_process import ROOT
from tests.support.waiting import eventually

READS = {"find", "aggregate", "count", "distinct"}
insert = MessageStore.insert


class Reads(monitoring.CommandListener):
    """While it is on: each read that the driver sends, as (collection, fields of its query, read concern)."""

    def __init__(self) -> None:
        self.is_on = False
        self.seen: list[tuple[str, frozenset[str], str | None]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self.is_on and event.command_name in READS:
            level = event.command.get("readConcern", {}).get("level")
            query = frozenset(event.command.get("filter", {}))
            self.seen.append((event.command[event.command_name], query, level))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to note."""

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self.seen.clear()
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False


READ = Reads()
monitoring.register(READ)  # the driver knows no way back, hence once for the whole run and off by default


async def store_and_lose_the_answer(self: MessageStore, messages: Sequence[Message]) -> int:
    await insert(self, messages)
    raise Unavailable


async def test_every_read_asks_for_what_a_majority_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole life: from an empty database to a send with an unknown outcome, and a start on what is there."""
    sets = [f"data_dir={tmp_path / 'data'}", "limits.enabled=false", "uploads.store=gridfs"]
    with READ.watching():
        async with open_context(load(ROOT / "config.yaml", sets, {})) as context:
            one, other = await register(context), await register(context)
            room, _is_new = await context.chat_list.open_room(one, RoomRequest(other_user_id=other))
            with monkeypatch.context() as lossy:
                lossy.setattr(MessageStore, "insert", store_and_lose_the_answer)
                before = len(READ.seen)
                sent, _is_new = await context.messages.send(one, SendMessage(room_id=room.id, content="x"))
                looked = READ.seen[before:]
            await context.drain()
        async with open_context(load(ROOT / "config.yaml", sets, {})) as context:
            assert (await context.sync.catch_up(other, SyncRequest(rooms={room.id: 0}))).rooms[0].last_seq == 1
            assert len((await context.history.read_page(one, room.id, HistoryQuery())).messages) == 1
            await context.changes.edit(one, Edit(message_id=sent.message_id, content="x", mentions=[other]))
            await context.sync.catch_up(other, SyncRequest(rooms={room.id: SyncPoint(seq=1, rev=0)}))
            await context.changes.list_pins(one, room.id)
            await context.open_rooms.list_open_rooms(one, OpenRoomsQuery())
            await context.chat_list.list_chats(other, ChatsQuery())
            await context.receipts.mark_read(other, sent.message_id)
            await context.search.search(one, SearchQuery(q="b"))
            await context.presence.query(one, PresenceQuery(user_ids=[one]))
            await context.sweep()
            await context.drain()
    # The look at the ids and at the room's end, by which an answer of an unknown outcome is found.
    assert {query for name, query, _ in looked if name == "messages"} >= {
        frozenset({"_id"}),
        frozenset({"roomId", "seq"}),
    }
    assert {name for name, _, _ in READ.seen} >= {"messages", "changes", "mentions", "rooms", "members", "users"}
    # Who looks after the embedded store asks it for a `probe`, only to hear whether it answers.
    assert [read for read in READ.seen if read[0] != "probe" and read[2] != "majority"] == []


async def test_what_no_majority_holds_yet_is_not_asked_for_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in the way of the same message sent again, and cannot be seen: as long as an election goes on."""
    tries = 0
    seen = False

    async def collide_unseen(self: MessageStore, messages: Sequence[Message]) -> int:
        nonlocal tries
        tries += 1
        return await insert(self, messages) if seen else 0

    async with open_context(load(ROOT / "config.yaml", [f"data_dir={tmp_path / 'data'}"], {})) as context:
        one, other = await register(context), await register(context)
        room, _is_new = await context.chat_list.open_room(one, RoomRequest(other_user_id=other))
        monkeypatch.setattr(MessageStore, "insert", collide_unseen)
        with pytest.raises(Unavailable):
            await context.messages.send(one, SendMessage(room_id=room.id, content="x"))
        assert tries < 100
        seen = True

        async def is_stored() -> bool:
            with contextlib.suppress(Unavailable):
                return (await context.messages.send(one, SendMessage(room_id=room.id, content="x")))[0].seq == 1
            return False

        await eventually(is_stored, "it goes on by itself")
        await context.drain()


async def register(context: Context) -> str:
    payload = Registration(email=f"{unique()}@example.com", password=PASSWORD, first_name="A", last_name="B")
    return (await context.accounts.register(payload, Client("127.0.0.1"))).user.id
