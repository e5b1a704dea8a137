"""Users with very many rooms, and a cache too small for all. The server's own composition on real stores."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from server.config.load import load
from server.context import Context, open_context
from server.models import Client, Member, Message, Room, RoomEnd, now
from server.protocol import MessageView
from server.requests import ChatsQuery, Registration, RoomRequest, SendMessage, SyncRequest
from server.storage.mongo.messages import MessageStore
from server.storage.mongo.rooms import MemberStore, RoomStore
from tests.support.people import PASSWORD, unique
from tests.support.server_process import ROOT
from tests.support.waiting import eventually

MANY = 2_000
STEP = 100
SMALL_CACHE = "rooms.max_cached=4"
of_user = MemberStore.of_user
save_marks = MemberStore.save_marks
save_ends = RoomStore.save_ends


def settings_in(folder: Path, *more: str) -> list[str]:
    return [f"data_dir={folder / 'data'}", "limits.enabled=false", *more]


async def register(context: Context) -> str:
    payload = Registration(email=f"{unique()}@example.com", password=PASSWORD, first_name="A", last_name="B")
    return (await context.accounts.register(payload, Client("127.0.0.1"))).user.id


async def open_rooms(context: Context, one: str, other: str, count: int) -> set[str]:
    requests = [RoomRequest(other_user_id=other, booking_id=f"{number}") for number in range(count)]
    return {(await context.chat_list.open_room(one, request))[0].id for request in requests}


async def chats_of(context: Context, user_id: str) -> set[str]:
    return {chat.chat_id for chat in (await context.chat_list.list_chats(user_id, ChatsQuery(limit=100))).chats}


async def ends_of(context: Context, user_id: str) -> dict[str, int]:
    """As `sync` names them to a client that has nothing."""
    answer = await context.sync.catch_up(user_id, SyncRequest(rooms={}))
    return {room.room_id: room.last_seq for room in answer.rooms}


async def send(context: Context, user_id: str, room_id: str) -> MessageView:
    return (await context.messages.send(user_id, SendMessage(room_id=room_id, content="x")))[0]


def message_of(room_id: str, sender: str, seq: int) -> Message:
    """Of a room in which one person alone writes."""
    return Message(unique("m"), room_id, seq, sender, seq, f"{seq}", "TEXT", now())


async def store_rooms(context: Context, one: str, other: str, count: int) -> None:
    """As earlier years left them: stored, and not in memory."""
    stored, members = RoomStore(context._stores.database), MemberStore(context._stores.database)
    for start in range(0, count, STEP):
        made = [Room(unique("room"), one, f"{start + number}", now()) for number in range(STEP)]
        pairs = (one, other), (other, one)
        await members.create([Member(room.id, user, peer) for room in made for user, peer in pairs])
        await asyncio.gather(*(stored.create(room) for room in made))


async def test_thousands_of_rooms_are_listed_while_the_database_stays_in_reach(tmp_path: Path) -> None:
    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path), {})) as context:
        one, other = await register(context), await register(context)
        await store_rooms(context, one, other, MANY)
        assert len(await chats_of(context, one)) == 100
        assert len(await context.rooms.of_user(one)) == MANY


async def test_a_full_cache_hides_no_room(tmp_path: Path) -> None:
    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path, SMALL_CACHE), {})) as context:
        one, other, third = await register(context), await register(context), await register(context)
        mine = await open_rooms(context, one, other, 4)
        await open_rooms(context, other, third, 4)
        for room_id in list(mine)[:2]:
            await context.rooms.access_room(one, room_id)
        await open_rooms(context, other, third, 2)
        assert await chats_of(context, one) == mine


async def test_rooms_in_use_keep_no_other_room_out(tmp_path: Path) -> None:
    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path, SMALL_CACHE), {})) as context:
        one, other, third = await register(context), await register(context), await register(context)
        mine = await open_rooms(context, one, other, 4)
        others = await open_rooms(context, other, third, 5)
        # As while Redis is away, and messages for the absent wait for it.
        held = await context.room_loader.pin_many(sorted(others))
        assert {room.id for room in held} == others
        for room_id in mine:
            assert (await context.rooms.access_room(one, room_id)).id == room_id
        assert await chats_of(context, one) == mine


async def test_a_room_whose_marks_are_being_stored_is_not_read_anew_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_storing, may_store = asyncio.Event(), asyncio.Event()
    may_store.set()

    async def store_late(self: MemberStore, members: Sequence[Member]) -> None:
        is_storing.set()
        await may_store.wait()
        await save_marks(self, members)

    monkeypatch.setattr(MemberStore, "save_marks", store_late)
    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path, SMALL_CACHE), {})) as context:
        one, other, third = await register(context), await register(context), await register(context)
        (room_id,) = await open_rooms(context, one, other, 1)
        message = await send(context, other, room_id)

        async def is_settled() -> bool:
            await context.room_saver.save_all()
            room = await context.rooms.access_room(one, room_id)
            return room.pins == 0 and not room.is_changed

        await eventually(is_settled, "nothing but its mark keeps the room")
        is_storing.clear()
        may_store.clear()
        reading = asyncio.create_task(context.receipts.mark_read(one, message.message_id))
        await is_storing.wait()
        await open_rooms(context, other, third, 8)
        room = await context.rooms.access_room(one, room_id)
        may_store.set()
        assert (await reading).seq == 1
        assert (room.members[one].read.seq, room.unread(one)) == (1, 0)


async def test_a_room_whose_end_is_being_stored_is_not_read_anew_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_storing, may_store = asyncio.Event(), asyncio.Event()

    async def store_late(self: RoomStore, ends: Sequence[RoomEnd]) -> None:
        if ends:
            is_storing.set()
            await may_store.wait()
        await save_ends(self, ends)

    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path, SMALL_CACHE), {})) as context:
        one, other, third = await register(context), await register(context), await register(context)
        (room_id,) = await open_rooms(context, one, other, 1)
        monkeypatch.setattr(RoomStore, "save_ends", store_late)
        await send(context, other, room_id)
        # By itself, once the message is delivered.
        await is_storing.wait()
        await open_rooms(context, other, third, 8)
        (room,) = [room for room in await context.rooms.of_user(one) if room.id == room_id]
        assert (room.last_seq, room.unread(one)) == (1, 1)
        await send(context, other, room_id)
        may_store.set()
        assert await ends_of(context, one) == {room_id: 2}
        await context.drain()


async def test_what_is_stored_behind_a_rooms_stored_end_is_in_every_answer(tmp_path: Path) -> None:
    """As a crash leaves it whose list of rooms under way is lost, or a database that was copied while it was in use."""
    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path), {})) as context:
        one, other = await register(context), await register(context)
        await store_rooms(context, one, other, STEP)
        rooms = sorted(await ends_of(context, other))
        await context.drain()
    settings = load(ROOT / "config.yaml", settings_in(tmp_path, "rooms.max_cached=30"), {})
    async with open_context(settings) as context:
        stored = MessageStore(context._stores.database)
        ends = {room_id: number % 3 for number, room_id in enumerate(rooms)}
        for seq in (1, 2):
            longer = [room_id for room_id, end in ends.items() if end >= seq]
            await stored.insert([message_of(room_id, other, seq) for room_id in longer])
        assert await ends_of(context, one) == ends
        listed = (await context.chat_list.list_chats(one, ChatsQuery(limit=100))).chats
        assert {chat.chat_id: chat.unread_count for chat in listed} == ends
        assert all(chat.last_message == (f"{ends[chat.chat_id]}" if ends[chat.chat_id] else None) for chat in listed)


async def test_a_room_made_while_people_are_forgotten_is_in_every_later_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ask, both answers are old, and the first asker is forgotten in between."""
    began, go_on = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def answer_late(self: MemberStore, user_id: str) -> list[Member]:
        found = await of_user(self, user_id)
        if user_id == one:
            began.release()
            await go_on.acquire()
        return found

    settings = load(ROOT / "config.yaml", settings_in(tmp_path, "rooms.max_cached_people=1"), {})
    async with open_context(settings) as context:
        one, other = await register(context), await register(context)
        monkeypatch.setattr(MemberStore, "of_user", answer_late)
        asking = [asyncio.ensure_future(chats_of(context, one)) for _ in range(2)]
        await began.acquire()
        go_on.release()
        assert await asking[0] == set()
        await chats_of(context, other)
        mine = await open_rooms(context, one, other, 1)
        go_on.release()
        await asking[1]
        go_on.release()
        assert await chats_of(context, one) == mine


async def test_a_room_made_while_two_ask_for_theirs_is_in_every_later_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, made = asyncio.Event(), asyncio.Event()
    asked = 0

    async def answer_the_second_late(self: MemberStore, user_id: str) -> list[Member]:
        nonlocal asked
        asked += 1
        is_second = asked == 2
        found = await of_user(self, user_id)
        if is_second:
            await made.wait()
        else:
            answered.set()
        return found

    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path), {})) as context:
        one, other = await register(context), await register(context)
        monkeypatch.setattr(MemberStore, "of_user", answer_the_second_late)
        first, second = (asyncio.ensure_future(chats_of(context, one)) for _ in range(2))
        assert await first == set()
        await answered.wait()
        mine = await open_rooms(context, one, other, 1)
        made.set()
        await second
        assert await chats_of(context, one) == mine
