"""A device of a person: it connects again and again, completes its rooms by `sync`, and notes all that it hears."""

import asyncio
import itertools
import random
from collections import deque
from typing import Any, Protocol

from tests.torture.changed_state import digest
from tests.torture.chat_socket import ChatSocket, Lost
from tests.torture.history import History

FIRST_RECONNECT_PAUSE = 0.15
LONGEST_RECONNECT_PAUSE = 1.0
SYNC_PAUSE = 0.2
ANSWER_DEADLINE = 10.0
# A session reads nothing before its offline batch had the time to come: what is read is not handed over any more.
READING_DELAY = 2.0
READ_SHARE = 0.15
SESSION_SECONDS = 2.0
ABSENCE_SECONDS = 0.8
# Of those who come rarely, so that some are away while a server dies and starts again.
LONG_ABSENCE_SECONDS = 8.0
RARE_SESSION_SECONDS = 0.5
SHORTEST_SESSION = 0.3
LOOK_PAUSE = 0.1
MOST_KNOWN = 20
# Of the goodbyes, those without a word.
VANISHING_SHARE = 0.3
SOCKET_NUMBERS = itertools.count(1)


class World(Protocol):
    """What a device knows of the round that it lives in."""

    history: History
    random: random.Random
    url: str
    server_is_dead: bool
    is_settling: bool
    is_over: bool


class Device:
    """One device of one person. `acks`: it acknowledges offline batches, which the guide's clients do not.
    `is_rare`: it is away most of the time."""

    def __init__(
        self, world: World, user_id: str, token: str, room_ids: list[str], *, acks: bool, is_rare: bool
    ) -> None:
        self._world = world
        self.user_id = user_id
        self._token = token
        self._acks = acks
        self._is_rare = is_rare
        self.number = 0
        self._opened_at = 0.0
        self._has_batch = False
        self._readers: set[asyncio.Task[None]] = set()
        self.socket: ChatSocket | None = None
        self.heard: dict[str, set[int]] = {room_id: set() for room_id in room_ids}
        self.have: dict[str, int] = dict.fromkeys(room_ids, 0)
        self.is_synced = False
        # Of each room the number of the last change, and the changed messages, each with its number and state.
        self.revs: dict[str, int] = dict.fromkeys(room_ids, 0)
        self.changed: dict[str, dict[int, tuple[int, str]]] = {room_id: {} for room_id in room_ids}
        # Some messages that may be changed, as they were when they came.
        self.known: deque[dict[str, Any]] = deque(maxlen=MOST_KNOWN)
        self._syncing: asyncio.Task[None] | None = None
        # Something was missed after the running one had been asked.
        self._has_missed = False

    async def live(self) -> None:
        """Connected for a while, away for a while, until the round is over; from settling on, connected only."""
        world = self._world
        pause = FIRST_RECONNECT_PAUSE
        while not world.is_over:
            self.number = next(SOCKET_NUMBERS)
            world.history.note("dial", s=self.number, u=self.user_id)
            was_dead = world.server_is_dead
            try:
                socket = await ChatSocket.open(world.url, self._token, self._hear, acks=self._acks)
            except Lost:
                world.history.note(
                    "refused-dial", s=self.number, u=self.user_id, dead=was_dead and world.server_is_dead
                )
                await self._stay_away(pause * (0.5 + world.random.random()))
                pause = min(pause * 1.5, LONGEST_RECONNECT_PAUSE)
                continue
            pause = FIRST_RECONNECT_PAUSE
            left = await self._session(socket)
            self.socket = None
            self.is_synced = False
            world.history.note("lost", s=self.number, u=self.user_id, dead=left or world.server_is_dead)
            if self._is_rare:
                await self._stay_away(world.random.expovariate(1 / LONG_ABSENCE_SECONDS))
            else:
                await self._stay_away(world.random.expovariate(1 / ABSENCE_SECONDS) if left else FIRST_RECONNECT_PAUSE)

    async def _stay_away(self, seconds: float) -> None:
        """As long as that, but no longer than until everybody comes together at the end."""
        until = asyncio.get_running_loop().time() + seconds
        while not self._world.is_settling and (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, LOOK_PAUSE))
        if self._world.is_settling:
            await asyncio.sleep(LOOK_PAUSE)

    async def _session(self, socket: ChatSocket) -> bool:
        """Live on one connection; True where this side ended it and the server has counted it out."""
        world = self._world
        world.history.note("open", s=self.number, u=self.user_id)
        self._opened_at, self._has_batch = asyncio.get_running_loop().time(), False
        self.socket = socket
        for room_id, heard in self.heard.items():
            # Beyond a gap: changes of these are not among those of the messages up to there.
            heard.intersection_update(range(self.have[room_id] + 1))
        self._sync(socket)
        try:
            seconds = RARE_SESSION_SECONDS if self._is_rare else SESSION_SECONDS
            deadline = asyncio.get_running_loop().time() + world.random.expovariate(1 / seconds) + SHORTEST_SESSION
            while not socket.ended.is_set() and not world.is_over:
                if not world.is_settling and asyncio.get_running_loop().time() > deadline:
                    break
                await _wait(socket.ended, 0.25)
            if socket.ended.is_set():
                return False
            if world.random.random() < VANISHING_SHARE:
                socket.cut()
                await socket.ended.wait()
                return False
            await socket.leave()
            return True
        finally:
            if self._syncing is not None:
                self._syncing.cancel()
                self._syncing = None

    def _sync(self, socket: ChatSocket) -> None:
        """One at a time: in a crowd, each device that asked anew at each gap would keep the others from an answer."""
        self.is_synced = False
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync_until_done(socket))
        else:
            self._has_missed = True

    async def _sync_until_done(self, socket: ChatSocket) -> None:
        while not socket.ended.is_set():
            self._has_missed = False
            self._world.history.note("ask", s=self.number, rooms=list(self.have))
            try:
                points = {room_id: {"seq": seq, "rev": self.revs[room_id]} for room_id, seq in self.have.items()}
                answer = await socket.call("sync", {"rooms": points}, ANSWER_DEADLINE)
            except Lost:
                continue
            if answer["ok"]:
                rooms = [room for room in answer["rooms"] if room["roomId"] in self.have]
                self._world.history.note(
                    "base", s=self.number, ends={room["roomId"]: room["lastSeq"] for room in rooms}
                )
                items = [_item(message) for room in rooms for message in room["messages"]]
                self._world.history.note("synced", s=self.number, items=items)
                for item in items:
                    self._take(item)
                for room in rooms:
                    for message in (*room["messages"], *room["changed"]):
                        self._take_state(message)
                    self.revs[room["roomId"]] = max(self.revs[room["roomId"]], room["lastRev"])
                if not self._has_missed and not any(room["hasMore"] for room in rooms):
                    self.is_synced = True
                    return
            else:
                await asyncio.sleep(SYNC_PAUSE)

    def _hear(self, event: str, data: Any) -> None:
        if event == "message:new":
            item = _item(data)
            self._world.history.note("new", s=self.number, r=item[0], q=item[1], m=item[2])
            self._take(item)
            self._take_state(data)
            self._maybe_read(data)
        elif event == "message:changed":
            self._take_change(data)
        elif event == "messages:offline":
            items = [_item(message) for message in data]
            self._world.history.note("queued", s=self.number, items=items)
            self._has_batch = True
            for item in items:
                self._take(item)
            for message in data:
                self._take_state(message)

    def _take_change(self, data: dict[str, Any]) -> None:
        """As the contract has it: who holds another number than the one before has missed something, and syncs."""
        room_id, rev, message = data["roomId"], data["rev"], data["message"]
        self._world.history.note(
            "changed", s=self.number, r=room_id, q=message["seq"], v=rev, p=data["prevRev"], d=digest(message)
        )
        self._take_state(message)
        if room_id not in self.revs:
            return
        if data["prevRev"] == self.revs[room_id]:
            self.revs[room_id] = rev
        elif rev > self.revs[room_id] and self.socket is not None:
            self._sync(self.socket)

    def _take_state(self, message: dict[str, Any]) -> None:
        changed, rev = self.changed.get(message["roomId"]), message.get("rev", 0)
        if changed is not None and rev > changed.get(message["seq"], (0, ""))[0]:
            changed[message["seq"]] = rev, digest(message)
        if changed is not None and message["type"] != "NOTICE" and "deletedAt" not in message:
            self.known.append(message)

    def _take(self, item: tuple[str, int, str]) -> None:
        room_id, seq, _ = item
        heard = self.heard.get(room_id)
        if heard is None:
            return
        heard.add(seq)
        while self.have[room_id] + 1 in heard:
            self.have[room_id] += 1

    def _maybe_read(self, message: dict[str, Any]) -> None:
        may_read = self._has_batch or asyncio.get_running_loop().time() - self._opened_at > READING_DELAY
        if may_read and message["senderId"] != self.user_id and self._world.random.random() < READ_SHARE:
            task = asyncio.create_task(self._read(message))
            self._readers.add(task)
            task.add_done_callback(self._readers.discard)

    async def _read(self, message: dict[str, Any]) -> None:
        room_id, socket = message["roomId"], self.socket
        if socket is None:
            return
        self._world.history.note("read", u=self.user_id, r=room_id, q=message["seq"])
        try:
            answer = await socket.call("message:read", {"messageId": message["messageId"]}, ANSWER_DEADLINE)
        except Lost:
            return
        if answer["ok"]:
            self._world.history.note("marked", u=self.user_id, r=room_id, q=answer["seq"])


def _item(message: dict[str, Any]) -> tuple[str, int, str]:
    return message["roomId"], message["seq"], message["messageId"]


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
