"""From the log to the people: live to every connected socket, to the offline queue for everybody else."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from server.errors import ChatError
from server.frames import Frame, event_frame
from server.models import Message, User
from server.protocol import MESSAGE_NEW
from server.room_state import RoomState
from server.views import name_of, view_message

log = logging.getLogger(__name__)

Stored = tuple[RoomState, Message]


class People(Protocol):
    def cached(self, user_id: str) -> User | None: ...

    async def get_many(self, user_ids: list[str]) -> dict[str, User]: ...


class Sockets(Protocol):
    def send(self, user_id: str, frame: Frame) -> bool: ...


class Pushes(Protocol):
    def push(self, user_id: str, payload: bytes, at: datetime) -> "asyncio.Future[None]": ...


class _OnItsWay:
    """The pushes of one message on offline queues, until all are written or have failed, and what is settled then:

    that message, or a later one that needed none.
    """

    __slots__ = ("message", "pushes")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.pushes = 0


class Delivery:
    """Takes stored messages in the log's order and keeps it. Nothing that fails here reaches the sender."""

    def __init__(
        self,
        people: People,
        sockets: Sockets,
        pushes: Pushes,
        end_typing: Callable[[str, str], None],
    ) -> None:
        self._people = people
        self._sockets = sockets
        self._pushes = pushes
        self._end_typing = end_typing
        self._waiting: deque[Stored] = deque()
        self._on_their_way: dict[str, deque[_OnItsWay]] = {}
        self._task: asyncio.Task[None] | None = None

    def deliver(self, stored: Sequence[Stored]) -> None:
        """Deliver at once, or right after the sender's name is known.

        Each comes with one hold on its room, which is let go of once the message is delivered and queued.
        """
        self._waiting.extend(stored)
        if self._task is not None:
            return
        if not self._deliver_known():
            self._task = asyncio.get_running_loop().create_task(self._deliver_rest())

    async def wait_empty(self) -> None:
        """Return once everything that was handed in is delivered."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def _deliver_known(self) -> bool:
        """Deliver up to the first message whose sender is not in memory; True where none is left."""
        while self._waiting:
            room, message = self._waiting[0]
            sender = self._people.cached(message.sender_id)
            if sender is None:
                return False
            self._waiting.popleft()
            self._deliver_one(room, message, name_of(sender))
        return True

    async def _deliver_rest(self) -> None:
        try:
            while not self._deliver_known():
                room, message = self._waiting[0]
                try:
                    people = await self._people.get_many([message.sender_id])
                    name = name_of(people.get(message.sender_id))
                except ChatError as error:
                    log.warning("a message is delivered without its sender's name: %s", error)
                    name = ""
                except Exception:
                    log.exception("a message is delivered without its sender's name")
                    name = ""
                self._waiting.popleft()
                self._deliver_one(room, message, name)
        finally:
            self._task = None

    def _deliver_one(self, room: RoomState, message: Message, sender_name: str) -> None:
        progress = _OnItsWay(message)
        try:
            self._end_typing(message.sender_id, room.id)
            view = view_message(message, sender_name, is_read=False)
            frame = event_frame(MESSAGE_NEW, view)
            for user_id in room.user_ids:
                if not self._sockets.send(user_id, frame) and self._is_owed(room, message, user_id):
                    pushed = self._pushes.push(user_id, msgspec.json.encode(view), message.sent_at)
                    if not pushed.done():
                        progress.pushes += 1
                        pushed.add_done_callback(lambda _done: self._end_push(room, progress))
        except Exception:
            log.exception("message %s of room %s was not delivered live", message.seq, room.id)
        if progress.pushes:
            self._on_their_way.setdefault(room.id, deque()).append(progress)
        elif room.id in self._on_their_way:
            # Settled together with the one before: what needs no queue must not pile up behind what waits for Redis.
            self._on_their_way[room.id][-1].message = message
            room.holds -= 1
        else:
            _let_go(room, message)

    def _is_owed(self, room: RoomState, message: Message, user_id: str) -> bool:
        """Not one's own, and, where it was stored before a crash, not what one has got before."""
        return user_id != message.sender_id and room.members[user_id].delivered < message.seq

    def _end_push(self, room: RoomState, progress: _OnItsWay) -> None:
        progress.pushes -= 1
        self._settle(room)

    def _settle(self, room: RoomState) -> None:
        """Let go of what is delivered, in the room's order, so that its settled end leaves nothing behind it."""
        on_their_way = self._on_their_way[room.id]
        while on_their_way and not on_their_way[0].pushes:
            _let_go(room, on_their_way.popleft().message)
        if not on_their_way:
            del self._on_their_way[room.id]


def _let_go(room: RoomState, message: Message) -> None:
    room.settle(message)
    room.holds -= 1
