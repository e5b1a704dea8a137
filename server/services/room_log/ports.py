"""Interfaces that the room log needs from other services, wired in `server/context.py`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from server.models import Message, Quote, User
from server.room_state import RoomState, StoredChange, StoredMessage


class Attachments(Protocol):
    """Uploads: attachment targets other than absolute http(s) URLs."""

    def is_upload(self, url: str) -> bool: ...

    async def link(self, user_id: str, url: str, peers: Collection[str], message_id: str) -> None:
        """Use an upload in a message. Raises `ValidationFailed` if neither the user owns it nor a peer has sent it."""

    async def link_copy(self, url: str, message_id: str) -> bool:
        """Use an upload in a copy of a message that uses it. Returns False if it is gone."""


class MessageAccess(Protocol):
    async def access_message(self, user_id: str, message_id: str, room_id: str = "") -> tuple[RoomState, Message]: ...


class Quotes(Protocol):
    async def quote(self, message: Message) -> Quote: ...

    async def find(self, messages: Collection[Message]) -> Mapping[str, Quote]: ...


class Consumer(Protocol):
    """A consumer of the log. It calls `room.advance(name, seq)` once it is done with everything up to `seq`."""

    name: str

    def take(self, stored: Sequence[StoredMessage]) -> None:
        """Stored messages in log order. Pins the rooms that it is not done with."""

    def take_changes(self, stored: Sequence[StoredChange]) -> None:
        """Stored changes of messages, in the order of each room."""

    def note_loaded(self, room: RoomState) -> None:
        """The room was read to the end of its log, which may be beyond the cursor."""

    async def resume(self, room: RoomState) -> set[str]:
        """As `note_loaded`, after a crash with the room in flight. Returns the users who get messages again."""


class Limits(Protocol):
    def check_length(self, user_id: str, text: str) -> None: ...


class People(Protocol):
    async def get_many(self, user_ids: Collection[str]) -> dict[str, User]: ...

    def cached(self, user_id: str) -> User | None: ...

    async def get(self, user_id: str) -> User: ...


class Rooms(Protocol):
    def access_cached(self, user_id: str, room_id: str) -> RoomState | None: ...

    async def of_user(self, user_id: str) -> list[RoomState]: ...

    async def access_room(self, user_id: str, room_id: str) -> RoomState: ...

    async def peers(self, user_id: str) -> set[str]: ...


class RoomLoader(Protocol):
    async def pin_many(self, room_ids: Sequence[str]) -> list[RoomState]: ...

    async def find_ids(self, after: str, limit: int) -> list[str]: ...

    async def load_many(self, room_ids: Sequence[str]) -> list[RoomState]: ...

    async def read_tail(self, state: RoomState) -> Sequence[Message]: ...


class RoomSaver(Protocol):
    async def save_room(self, state: RoomState) -> None: ...
