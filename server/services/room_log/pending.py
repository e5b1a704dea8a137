"""Pending message of the room log: what the sender asked for, and the future with the outcome."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple

from server.errors import ChatError, Conflict, NotFound, Unavailable
from server.models import Message, MessageType, Notice, Quote, now
from server.protocol import MessageView
from server.room_state import RoomState
from server.views import view_message

ID_BYTES: Final = 16


class SendResult(NamedTuple):
    """A stored message; `is_new` is False if an earlier send under the same id stored it."""

    message: Message
    is_new: bool


class PendingMessage:
    """A validated message without a place in the log yet.

    `result` completes once the message is stored or refused. `check` is called with the room as it is before the
    message, and raises if it must not be stored there; without one, its sender must be a member. The sender's name and
    the quote are kept here, so that nothing is read from a store after the write. `tried` holds the sequence numbers
    that the writer tried to store it under.
    """

    __slots__ = (
        "attachment_url",
        "check",
        "client_message_id",
        "content",
        "deadline",
        "forwarded_from",
        "id",
        "mentions",
        "mentions_room",
        "notice",
        "quote",
        "result",
        "room",
        "sender_id",
        "sender_name",
        "sent_at",
        "tried",
        "type",
    )

    def __init__(
        self,
        *,
        room: RoomState,
        sender_id: str,
        sender_name: str,
        content: str,
        type: MessageType,
        attachment_url: str | None,
        client_message_id: str | None,
        notice: Notice | None = None,
        check: Callable[[RoomState], None] | None = None,
        quote: Quote | None = None,
        mentions: tuple[str, ...] = (),
        mentions_room: bool = False,
        forwarded_from: str | None = None,
    ) -> None:
        self.room = room
        self.sender_id = sender_id
        self.sender_name = sender_name
        self.content = content
        self.type = type
        self.attachment_url = attachment_url
        self.client_message_id = client_message_id
        self.notice = notice
        self.check = check
        self.quote = quote
        self.mentions = mentions
        self.mentions_room = mentions_room
        self.forwarded_from = forwarded_from
        self.id = derive_message_id(room.id, sender_id, client_message_id)
        self.sent_at: datetime = now()
        self.deadline = 0.0
        self.result: asyncio.Future[SendResult] = asyncio.get_running_loop().create_future()
        self.tried: list[int] = []

    def find_refusal(self) -> ChatError | None:
        """Why the message may not be stored at the end of its room as it is now."""
        try:
            if self.room.is_ended or (self.check is None and self.sender_id not in self.room.members):
                raise NotFound("No such room")
            if self.check is not None:
                self.check(self.room)
            elif self.notice is None:
                self.room.check_contact(self.sender_id)
        except ChatError as error:
            return error
        return None

    def number(self, seq: int, sender_seq: int, notices: int) -> Message:
        """The message with its number in the room, the sender's messages in the room, and the room's notices."""
        self.tried.append(seq)
        return Message(
            id=self.id,
            room_id=self.room.id,
            seq=seq,
            sender_id=self.sender_id,
            sender_seq=sender_seq,
            content=self.content,
            type=self.type,
            sent_at=self.sent_at,
            attachment_url=self.attachment_url,
            client_message_id=self.client_message_id,
            notices=notices,
            notice=self.notice,
            reply_to=None if self.quote is None else self.quote.message.id,
            mentions=self.mentions,
            mentions_room=self.mentions_room,
            forwarded_from=self.forwarded_from,
        )

    def has_stored(self, message: Message) -> bool:
        """Whether one of this object's attempts stored `message`, and not an earlier send under the same id."""
        return message.id == self.id and message.seq in self.tried and message.sent_at == self.sent_at

    def view(self) -> MessageView:
        """The stored message as its sender sees it. Raises the error of `result` if it was not stored."""
        message = self.result.result().message
        is_read = self.room.is_read(message, self.sender_id)
        return view_message(message, self.sender_name, is_read, self.sender_id, self.quote)

    def resolve(self, sent: SendResult) -> None:
        """Complete `result` if it is not done: with `Conflict` if the first send of this id said other things."""
        if self.result.done():
            return
        if sent.is_new or self._says_the_same(sent.message):
            self.result.set_result(sent)
        else:
            self.refuse(Conflict("Another message was sent with this clientMessageId"))

    def _says_the_same(self, message: Message) -> bool:
        """Whether the stored message may be what this one repeats. It, or what it forwards, may have changed since."""
        if message.edited_at or message.deleted_at or message.forwarded_from is not None:
            return True
        return (message.content, message.attachment_url) == (self.content, self.attachment_url)

    def refuse(self, error: ChatError | None = None) -> None:
        """Fail `result` if it is not done: with `Unavailable`, unless another error is given."""
        if not self.result.done():
            self.result.set_exception(error or Unavailable("Messages cannot be stored just now"))
            # Marks the exception as retrieved: the sender may be gone.
            self.result.exception()

    def follow(self, first: "PendingMessage") -> None:
        """Copy the outcome of the first send under the same id."""
        first.result.add_done_callback(self._copy_outcome)

    def _copy_outcome(self, first: "asyncio.Future[SendResult]") -> None:
        if self.result.done():
            return
        if first.cancelled():
            self.result.set_exception(Unavailable("The first send was given up"))
        elif (error := first.exception()) is not None:
            self.result.set_exception(error)
        else:
            self.resolve(SendResult(first.result().message, is_new=False))


def derive_message_id(room_id: str, sender_id: str, client_message_id: str | None) -> str:
    """Derived from the `clientMessageId` if given, so that the primary key rules out duplicates. Else random."""
    if client_message_id is None:
        return secrets.token_hex(ID_BYTES)
    key = json.dumps([room_id, sender_id, client_message_id], ensure_ascii=False).encode()
    return hashlib.blake2b(key, digest_size=ID_BYTES).hexdigest()
