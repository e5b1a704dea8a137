"""Far more rooms and people than are kept in memory: whatever is asked at once, every answer is true.

The server's own composition on real stores, against a model: no answer lies below what had been acknowledged when it
was asked, and at rest `sync {}`, the list of chats and the marks are what the log says.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from server.config.load import load
from server.context import Context, open_context
from server.models import Client
from server.requests import ChatsQuery, HistoryQuery, Registration, RoomRequest, SendMessage, SyncRequest
from tests.support.people import PASSWORD, unique
from tests.support.server_process import ROOT

# A longer search: MADANG_TEST_EXAMPLES=200 python -m pytest tests/test_small_cache.py
EXAMPLES = int(os.environ.get("MADANG_TEST_EXAMPLES", "4"))
STEPS = 12
PEOPLE = 4
ROOMS = 8
CACHES = ("rooms.max_cached=2", "rooms.max_cached_people=1")
DEEDS = ("send", "send", "send", "sync", "chats", "read", "page", "open", "save")
# What is done at the same time: what, by whom, in which room.
BURSTS = st.lists(
    st.tuples(st.sampled_from(DEEDS), st.integers(0, PEOPLE - 1), st.integers(0, ROOMS - 1)), min_size=1, max_size=12
)


class Room:
    """What is known of a room: who is in it, what was acknowledged, and how many sends have begun."""

    def __init__(self, members: tuple[str, str], booking_id: str) -> None:
        self.members = members
        self.booking_id = booking_id
        self.begun = 0
        self.acked: dict[int, tuple[str, str]] = {}
        self.read = dict.fromkeys(members, 0)

    @property
    def end(self) -> int:
        return max(self.acked, default=0)


class World:
    """One example's people and rooms on the one server."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.people: list[str] = []
        self.rooms: dict[str, Room] = {}

    async def begin(self, seed: int) -> None:
        for name in range(PEOPLE):
            payload = Registration(f"{unique()}@example.com", PASSWORD, f"{name}", "B")
            self.people.append((await self.context.accounts.register(payload, Client("127.0.0.1"))).user.id)
        for _ in range(ROOMS):
            one, other = random.Random(seed + len(self.rooms)).sample(self.people, 2)
            booking_id = unique("b")
            request = RoomRequest(other_user_id=other, booking_id=booking_id)
            room, _is_new = await self.context.chat_list.open_room(one, request)
            self.rooms[room.id] = Room((one, other), booking_id)

    async def do(self, deed: str, person: int, place: int) -> None:
        user_id = self.people[person]
        mine = [room_id for room_id, room in self.rooms.items() if user_id in room.members]
        if deed == "save":
            await self.context.room_saver.save_all()
        elif deed == "sync":
            await self._sync(user_id, mine)
        elif deed == "chats":
            await self._list(user_id, mine)
        elif mine:
            room_id = mine[place % len(mine)]
            room = self.rooms[room_id]
            if deed == "send":
                await self._send(user_id, room_id, room)
            elif deed == "read" and room.end:
                end = room.end
                mark = await self.context.receipts.mark_read(user_id, room.acked[end][1])
                assert mark.seq >= end
                room.read[user_id] = max(room.read[user_id], end)
            elif deed == "page":
                floor = room.end
                page = await self.context.history.read_page(user_id, room_id, HistoryQuery(limit=5))
                assert floor <= page.pagination.total_items <= room.begun
                assert not page.messages or seqs_of(page.messages)[0] == page.pagination.total_items
            elif deed == "open":
                floor = room.end
                other = next(one for one in room.members if one != user_id)
                request = RoomRequest(other_user_id=other, booking_id=room.booking_id)
                view, is_new = await self.context.chat_list.open_room(user_id, request)
                assert (view.id, is_new) == (room_id, False)
                assert floor <= view.last_seq <= room.begun

    async def rest(self) -> None:
        """Nobody does anything else."""
        for user_id in self.people:
            mine = [room_id for room_id, room in self.rooms.items() if user_id in room.members]
            unread = await self._sync(user_id, mine)
            assert unread == await self._list(user_id, mine)
            for room_id in mine:
                room = self.rooms[room_id]
                assert sorted(room.acked) == list(range(1, room.begun + 1))
                view = await self.context.chat_list.get_room(user_id, room_id)
                assert view.last_seq == room.begun
                (mark,) = [member.last_read_seq for member in view.members if member.user_id == user_id]
                assert mark >= room.read[user_id]
                beyond = [room.acked[seq][0] for seq in range(mark + 1, room.begun + 1)]
                assert unread[room_id] == sum(sender != user_id for sender in beyond)

    async def _send(self, user_id: str, room_id: str, room: Room) -> None:
        room.begun += 1
        payload = SendMessage(room_id=room_id, content="x")
        message, _is_new = await self.context.messages.send(user_id, payload)
        assert message.seq not in room.acked
        room.acked[message.seq] = user_id, message.message_id

    async def _sync(self, user_id: str, mine: list[str]) -> dict[str, int]:
        floors = {room_id: self.rooms[room_id].end for room_id in mine}
        have = {room_id: floor // 2 for room_id, floor in floors.items() if floor % 2}
        synced = await self.context.sync.catch_up(user_id, SyncRequest(rooms=have))
        answer = {room.room_id: room for room in synced.rooms}
        assert answer.keys() == floors.keys()
        for room_id, room in answer.items():
            assert floors[room_id] <= room.last_seq <= self.rooms[room_id].begun
            if room_id in have:
                seqs = seqs_of(room.messages)
                assert seqs == list(range(have[room_id] + 1, have[room_id] + 1 + len(seqs)))
                assert not seqs or seqs[-1] >= floors[room_id]
        return {room_id: room.unread_count for room_id, room in answer.items()}

    async def _list(self, user_id: str, mine: list[str]) -> dict[str, int]:
        chats = (await self.context.chat_list.list_chats(user_id, ChatsQuery(limit=100))).chats
        assert {chat.chat_id for chat in chats} == set(mine)
        return {chat.chat_id: chat.unread_count for chat in chats}


def seqs_of(messages: Sequence[msgspec.Raw]) -> list[int]:
    return [msgspec.json.decode(message)["seq"] for message in messages]


@contextlib.asynccontextmanager
async def small_server(folder: Path) -> AsyncIterator[Context]:
    sets = [f"data_dir={folder / 'data'}", "limits.enabled=false", *CACHES]
    async with open_context(load(ROOT / "config.yaml", sets, {})) as context:
        yield context
        await context.drain()


def test_more_rooms_and_people_than_memory_holds(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    server = small_server(tmp_path)
    context = loop.run_until_complete(server.__aenter__())

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.world = World(context)
            loop.run_until_complete(self.world.begin(seed=1))

        @rule(burst=BURSTS)
        def at_once(self, burst: list[tuple[str, int, int]]) -> None:
            async def all_of_them() -> None:
                await asyncio.gather(*(self.world.do(*deed) for deed in burst))

            loop.run_until_complete(all_of_them())

        @rule()
        def rest(self) -> None:
            loop.run_until_complete(self.world.rest())

        def teardown(self) -> None:
            loop.run_until_complete(self.world.rest())

    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                derandomize=True,
            ),
        )
    finally:
        loop.run_until_complete(server.__aexit__(None, None, None))
        loop.close()
