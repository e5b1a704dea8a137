"""Messages on their way into a room's log, and what comes of them."""

import asyncio
import hashlib
import json
import secrets
from datetime import datetime
from typing import Final, NamedTuple

from server.errors import Unavailable
from server.models import Message, MessageType, now
from server.room_state import RoomState

ID_BYTES: Final = 16


class Sent(NamedTuple):
    """A stored message; `is_new` is False where an earlier send under the same id had stored it."""

    message: Message
    is_new: bool


class Draft(NamedTuple):
    """A message that has been checked and only needs its place.

    It carries the sender's name, so that nothing has to be asked of a store once it is stored.
    """

    room: RoomState
    sender_id: str
    sender_name: str
    content: str
    type: MessageType
    attachment_url: str | None
    client_message_id: str | None


class Stored(NamedTuple):
    """A message of the log on its way to the room's people. It holds its room until it is delivered."""

    room: RoomState
    message: Message
    sender_name: str


class Entry:
    """A draft that waits for its place: who is answered by `result`, until when, and which places were tried for it."""

    __slots__ = ("deadline", "draft", "id", "result", "sent_at", "tried")

    def __init__(self, draft: Draft, message_id: str, result: "asyncio.Future[Sent]", deadline: float) -> None:
        self.draft = draft
        self.id = message_id
        self.result = result
        self.deadline = deadline
        self.sent_at: datetime = now()
        self.tried: list[int] = []

    def try_place(self, seq: int, sender_seq: int) -> Message:
        """The message at this place of its room, and at its sender's k-th there."""
        self.tried.append(seq)
        draft = self.draft
        return Message(
            id=self.id,
            room_id=draft.room.id,
            seq=seq,
            sender_id=draft.sender_id,
            sender_seq=sender_seq,
            content=draft.content,
            type=draft.type,
            sent_at=self.sent_at,
            attachment_url=draft.attachment_url,
            client_message_id=draft.client_message_id,
        )

    def has_stored(self, message: Message) -> bool:
        """Whether this message got into the log by an attempt of this entry, and not by an earlier send."""
        return message.id == self.id and message.seq in self.tried and message.sent_at == self.sent_at


def derive_message_id(draft: Draft) -> str:
    """Random, or made from room, sender and the client's own id, so that the primary key rules out a repeat."""
    if draft.client_message_id is None:
        return secrets.token_hex(ID_BYTES)
    key = json.dumps([draft.room.id, draft.sender_id, draft.client_message_id], ensure_ascii=False).encode()
    return hashlib.blake2b(key, digest_size=ID_BYTES).hexdigest()


def follow(first: "asyncio.Future[Sent]", second: "asyncio.Future[Sent]") -> None:
    """Give a concurrent repeat the outcome of the first."""
    if second.done():
        return
    if first.cancelled():
        second.set_exception(Unavailable("The first send was given up"))
    elif (error := first.exception()) is not None:
        second.set_exception(error)
    else:
        second.set_result(Sent(first.result().message, is_new=False))
