"""A round: people chat through a proxy while faults strike; then quiet, a clean restart, and the record."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from tornado.httpclient import AsyncHTTPClient

from server.storage.stores import redis_prefix
from tests.support.groups import ROOMS, everybody, make
from tests.support.people import Person, Town
from tests.torture.changed_state import digest
from tests.torture.changers import Changer
from tests.torture.chat_socket import Lost
from tests.torture.devices import Device
from tests.torture.faults import Fault
from tests.torture.ground import Ground
from tests.torture.guests import Guest, Host
from tests.torture.history import History
from tests.torture.listeners import Listener
from tests.torture.outcasts import Outcast, external_person, sign_writer
from tests.torture.proxy import Proxy, dial_tcp
from tests.torture.senders import Sender
from tests.torture.server_control import ServerControl, embedded_redis

PEOPLE = 50
# Twenty-five pairs, so that everybody has a room, and some who have two or three.
EXTRA_ROOMS = 5
SECOND_DEVICES = 10
RARE_SHARE = 0.35
# Devices that never acknowledge a batch; a ping round trip proves for them.
SILENT_SHARE = 0.2
# For each of so many people there is one who only listens; every other one by long-polling.
PEOPLE_PER_LISTENER = 3
# Groups beside the pairs, with at most so many members; the last one lets guests in and out.
GROUPS = (3, 30)
# A further group has everybody and so many more who have no device.
CROWD = 250
MOST_AT_ONCE = 100
# People who are in the last group and in the crowd's at times, and the pause between two of their moves in a room.
GUESTS = 8
MOVE_PAUSE = 0.5
# For each of so many people there is a pair of whom one is blocked at times, and a pair of whom one is deactivated.
PEOPLE_PER_OUTCAST = 12
# Messages to a pair for each one to a group, which everybody in it hears, and hears again after a crash.
PAIR_WEIGHT = 4
# Of the people, those who change messages too, and their pause in terms of that between two sends.
CHANGER_SHARE = 0.4
CHANGE_PAUSE = 1.5
SEND_PAUSE = 0.7
SETTLE_DEADLINE = 60.0
PAUSE = 0.05


class Round:
    """The world of one round's people. `server` must run; it is stopped and started once at the end."""

    def __init__(
        self,
        server: ServerControl,
        folder: Path,
        seed: int,
        *,
        ground: Ground,
        people: int = PEOPLE,
        crowd: Sequence[Person] = (),
        send_pause: float = SEND_PAUSE,
    ) -> None:
        self.server = server
        self.ground = ground
        self.history = History(folder / f"round-{seed}.jsonl")
        self.random = random.Random(seed)
        self.proxy = Proxy(self._dial)
        server.tell_death = lambda: self.history.note("killed")
        self.is_settling = False
        self.is_over = False
        self.url = ""
        self.people: list[Person] = []
        self.devices: list[Device] = []
        self._listeners: list[Listener] = []
        self._listening: list[Person] = []
        self._crowd = crowd
        self._guests: list[Guest] = []
        self._outcasts: list[Outcast] = []
        # The room of the crowd, which is above the bounds of queues and receipts.
        self._crowded = ""
        # The rooms that guests come to, and the owner of each.
        self._visited: dict[str, Person] = {}
        self._count = people
        self._send_pause = send_pause
        self._senders: list[Sender] = []
        self._changers: list[Changer] = []
        self._rooms: dict[str, tuple[Person, ...]] = {}
        self._http = AsyncHTTPClient(force_instance=True, max_clients=500)
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.Task[None]] = []

    @property
    def server_is_dead(self) -> bool:
        return self.server.is_dead

    async def open(self) -> None:
        """Register everybody, make the rooms, and let the people begin."""
        await self.proxy.start()
        self.url = f"http://127.0.0.1:{self.proxy.port}"
        town = Town(self.server.process.url)
        try:
            for batch in range(0, self._count, 10):
                self.people += await town.people(min(10, self._count - batch))
            self._listening = await town.people(max(2, self._count // PEOPLE_PER_LISTENER))
            visitors = await town.people(GUESTS)
            await self._make_rooms()
            for _ in range(max(1, self._count // PEOPLE_PER_OUTCAST)):
                await self._make_outcasts(town)
        finally:
            await town.close()
        for room_id, members in self._rooms.items():
            users = [member.id for member in members]
            self.history.note("room", r=room_id, users=users, queues=room_id != self._crowded)
        for outcast in self._outcasts:
            # Only the log of it is judged, and that those who are out are.
            self.history.note("room", r=outcast.room_id, users=[], queues=False)
        self._guests = [Guest(self, visitor, list(self._visited)) for visitor in visitors]
        for guest in self._guests:
            for room_id in self._visited:
                self.history.note("guest", u=guest.person.id, r=room_id)
        for index, person in enumerate(self.people):
            room_ids = [room_id for room_id, members in self._rooms.items() if person in members]
            count = 2 if index < SECOND_DEVICES else 1
            is_rare = count == 1 and self.random.random() < RARE_SHARE
            devices = [
                Device(
                    self,
                    person.id,
                    person.access_token,
                    room_ids,
                    acks=self.random.random() >= SILENT_SHARE,
                    is_rare=is_rare,
                )
                for _ in range(count)
            ]
            self.devices += devices
            self._senders.append(
                Sender(
                    self,
                    devices[0],
                    self._http,
                    user_id=person.id,
                    token=person.access_token,
                    room_ids=[
                        room_id
                        for room_id in room_ids
                        for _ in range(PAIR_WEIGHT if len(self._rooms[room_id]) == 2 else 1)
                    ],
                    pause=self._send_pause,
                )
            )
            if self.random.random() < CHANGER_SHARE:
                self._changers.append(Changer(self, devices[0], pause=CHANGE_PAUSE * self._send_pause))
        for index, person in enumerate(self._listening):
            self.history.note("listener", u=person.id)
            acks = self.random.random() >= SILENT_SHARE
            self._listeners.append(Listener(self, person.id, person.access_token, acks=acks, polls=index % 2 == 1))
        hosts = [
            Host(self, self._http, self.server.process.url, owner, room_id, self._guests, MOVE_PAUSE)
            for room_id, owner in self._visited.items()
        ]
        living = (*self.devices, *self._listeners, *self._guests, *self._outcasts)
        self._tasks = [asyncio.create_task(one.live()) for one in living]
        self._writers = [asyncio.create_task(one.write()) for one in (*self._senders, *self._guests, *self._outcasts)]
        self._writers += [asyncio.create_task(changer.change()) for changer in self._changers]
        self._writers += [asyncio.create_task(host.move_guests()) for host in hosts]

    async def strike(self, fault: Fault) -> None:
        """One fault from its beginning until all is well again."""
        self.history.note("fault", name=fault.name, hurts=list(fault.hurts), halts=list(fault.halts))
        await fault.strike(self)
        await self.server.wait_well()
        self._check_alive()
        self.history.note("healed", name=fault.name)

    async def close(self) -> None:
        """Settle, take the record of everything, and let the people go."""
        self.is_settling = True
        async with asyncio.timeout(SETTLE_DEADLINE):
            await asyncio.gather(*self._writers)
            await self._settle()
            self.history.note("quiet")
            await self._note_lists()
            self._note_held()
            await asyncio.gather(*(guest.complete() for guest in self._guests))
        await self.server.stop()
        await self.server.start()
        await self.server.wait_well()
        async with asyncio.timeout(SETTLE_DEADLINE):
            await self._note_lists()
            await self._settle()
            await self._note_lists()
            await self._record()

    @property
    def _database(self) -> str:
        return str(self.ground.settings.get("mongodb.database", "madang"))

    def open_redis(self) -> Redis:
        """A client of the Redis that the server uses, on a way of its own."""
        if self.ground.redis_url:
            return Redis.from_url(self.ground.redis_url)
        stores = self.ground.stores
        return embedded_redis(self.server.process.data_dir if stores is None else stores.folder)

    def abandon(self) -> None:
        """End everybody's work at once."""
        self.is_over = True
        for task in [*self._tasks, *self._writers]:
            task.cancel()
        for sender in self._senders:
            sender.abandon()
        self.history.close()

    async def _settle(self) -> None:
        """A last word in each room, then wait until every device has heard everything that it will hear."""
        speakers = {room_id: self._sender_of(members[0]) for room_id, members in self._rooms.items()}
        await self._all_connected()
        await asyncio.gather(*(sender.send(room_id, with_id=True) for room_id, sender in speakers.items()))
        for sender in self._senders:
            await sender.finish()
        await self._all_connected()
        for device in self.devices:
            if device.socket is not None:
                with contextlib.suppress(Lost):
                    await device.socket.call("presence:get", {"userIds": []}, SETTLE_DEADLINE)

    async def _all_connected(self) -> None:
        while not all(device.socket is not None and device.is_synced for device in self.devices) or not all(
            listener.is_connected for listener in self._listeners
        ):
            self._check_alive()
            await asyncio.sleep(PAUSE)

    async def _note_lists(self) -> None:
        """What `sync {}` and the list of chats say to everybody, while nobody writes."""
        await self._all_connected()
        town = Town(self.server.process.url)
        try:
            for person, device in {device.user_id: device for device in self.devices}.items():
                assert device.socket is not None
                answer = await device.socket.call("sync", {"rooms": {}}, SETTLE_DEADLINE)
                resident = town.resident(next(one for one in self.people if one.id == person))
                chats = (await resident.chats(limit=100))["chats"]
                self.history.note(
                    "listed",
                    u=person,
                    rooms=list(device.have),
                    ends={room["roomId"]: room["lastSeq"] for room in answer["rooms"]},
                    last={chat["chatId"]: chat["lastMessage"] for chat in chats},
                )
        finally:
            await town.close()

    def _note_held(self) -> None:
        """The changed messages that each device holds, of those rooms that it has from their beginning."""
        for device in self.devices:
            for room_id, changed in device.changed.items():
                items = [[seq, rev, state] for seq, (rev, state) in sorted(changed.items())]
                self.history.note("held", s=device.number, r=room_id, end=device.have[room_id], items=items)

    async def _record(self) -> None:
        """The store's side, as the server shows it: logs, marks, unread counts, and what the queues still hold."""
        town = Town(self.server.process.url)
        everybody = [*self.people, *self._listening]
        people = {person.id: town.resident(person) for person in everybody}
        try:
            for room_id, members in self._rooms.items():
                await self._record_room(room_id, [people[member.id] for member in members])
            for outcast in self._outcasts:
                await self._record_log(outcast.room_id, town.resident(outcast.friend))
            async with self.open_redis() as redis:
                for person in everybody:
                    left = await self._queue_left(redis, person.id)
                    self.history.note("left", u=person.id, count=left)
        finally:
            await town.close()

    async def _record_log(self, room_id: str, member: Person) -> None:
        after = 0
        while True:
            page = await member.history(room_id, after=after, limit=200)
            for message in page["messages"]:
                after = message["seq"]
                self.history.note(
                    "stored",
                    r=message["roomId"],
                    q=after,
                    m=message["messageId"],
                    u=message["senderId"],
                    c=message["clientMessageId"],
                    b=message["content"],
                    v=message.get("rev", 0),
                    d=digest(message),
                    gone="deletedAt" in message,
                    notice=message.get("notice", {}).get("kind", ""),
                    of=message.get("notice", {}).get("userIds", []),
                )
            if not page["pagination"]["hasNext"]:
                break

    async def _record_room(self, room_id: str, members: list[Person]) -> None:
        await self._record_log(room_id, members[0])
        room = await members[0].room(room_id)
        marks = {mark["userId"]: mark for mark in room["members"]}
        if room_id in self._visited:
            lines = await everybody(members[0], room_id)
            marks = {line["user"]["id"]: line for line in lines}
            self.history.note("seated", r=room_id, users=list(marks))
        self.history.note("end", r=room_id, q=room["lastSeq"], m=(room["lastMessage"] or {}).get("messageId"))
        for member in members:
            mark, chat = marks[member.id], await member.chat(room_id)
            self.history.note(
                "marks",
                r=room_id,
                u=member.id,
                delivered=mark["lastDeliveredSeq"],
                read=mark["lastReadSeq"],
                unread=chat["unreadCount"],
            )

    async def _queue_left(self, redis: Any, user_id: str) -> int:
        """What is left once everybody acknowledged or was proven by a ping; looked at for some seconds."""
        left = 0
        for _ in range(100):
            left = await redis.llen(f"{redis_prefix(self._database)}:queue:{user_id}")
            if not left:
                break
            await asyncio.sleep(PAUSE)
        return left

    async def _make_rooms(self) -> None:
        pairs = list(zip(self.people[::2], self.people[1::2], strict=False))
        while len(pairs) < len(self.people) // 2 + EXTRA_ROOMS and len(self.people) > 2:
            one, other = self.random.sample(self.people, 2)
            if (one, other) not in pairs and (other, one) not in pairs:
                pairs.append((one, other))
        # Who only listens has somebody to listen to, and a second one too.
        for listener in self._listening:
            pairs += [(speaker, listener) for speaker in self.random.sample(self.people, 2)]
        for one, other in pairs:
            self._rooms[await one.open_room(other)] = (one, other)
        for size in GROUPS:
            members = self.random.sample(self.people, min(size, len(self.people)))
            room_id = await make(*members, visibility="OPEN", history="JOINED")
            self._rooms[room_id] = tuple(members)
        # The last of them, and the crowd.
        self._visited[room_id] = members[0]
        if self._crowd:
            room_id = self._crowded = await make(*self.people, visibility="OPEN", history="JOINED")
            for begin in range(0, len(self._crowd), MOST_AT_ONCE):
                added = [person.id for person in self._crowd[begin : begin + MOST_AT_ONCE]]
                await self.people[0].post(f"{ROOMS}/{room_id}/members", {"userIds": added})
            self._rooms[room_id] = tuple(self.people)
            self._visited[room_id] = self.people[0]

    async def _make_outcasts(self, town: Town) -> None:
        """A pair of whom one is blocked at times, and a pair of whom one is deactivated."""
        for writer in ("", sign_writer()):
            friend, outcast = await external_person(town), await external_person(town)
            room_id = await friend.open_room(outcast)
            url = self.server.process.url
            self._outcasts.append(Outcast(self, self._http, url, (friend, outcast), room_id, writer))

    def _check_alive(self) -> None:
        """A person whose work has failed would make the round look better than it was."""
        for task in (*self._tasks, *self._writers):
            if task.done():
                task.result()

    def _sender_of(self, person: Person) -> Sender:
        return self._senders[self.people.index(person)]

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await dial_tcp("127.0.0.1", self.server.port)()
