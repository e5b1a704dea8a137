"""Sending: validates messages from REST and sockets and appends them to the write queue."""

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from server.errors import ValidationFailed
from server.file_types import IMAGE_EXTENSIONS
from server.models import SentType, User
from server.protocol import MessageView, SendMessage
from server.room_state import RoomState
from server.services.room_log.pending import PendingMessage
from server.services.room_log.ports import Attachments, Limits, People, Rooms
from server.services.room_log.write_queue import WriteQueue
from server.web_address import is_web_address


class Admitted(NamedTuple):
    """A message whose content was checked. Its room is not checked yet."""

    user_id: str
    payload: SendMessage
    kind: SentType


class Messages:
    def __init__(
        self,
        rooms: Rooms,
        write_queue: WriteQueue,
        people: People,
        limits: Limits,
        attachments: Attachments,
        *,
        max_length: int,
    ) -> None:
        self._rooms = rooms
        self._write_queue = write_queue
        self._people = people
        self._limits = limits
        self._attachments = attachments
        self._max_length = max_length

    async def send(self, user_id: str, payload: SendMessage) -> tuple[MessageView, bool]:
        """`check`, then `store`."""
        return await self.store(self.check(user_id, payload))

    async def store(self, admitted: Admitted) -> tuple[MessageView, bool]:
        """Store a message. Returns once it is durable, which is before it is delivered.

        Returns the message as its sender sees it, and False if an earlier send under the same id had stored it.
        Raises as `place`.
        """
        message = await self.place(admitted)
        sent = await message.result
        return message.view(), sent.is_new

    def check(self, user_id: str, payload: SendMessage) -> Admitted:
        """Check the content, and count a long one as several messages. `place` checks the room afterwards.

        In another order, the error for bad content would reveal which rooms exist. Raises `RateLimited` or
        `ValidationFailed`.
        """
        self._limits.check_length(user_id, payload.content or "")
        return Admitted(user_id, payload, self._check_content(payload))

    async def place(self, admitted: Admitted) -> PendingMessage:
        """Append to the write queue. Returns once the message has its position there.

        Raises `ValidationFailed`, `NotFound` if the user is not in the room, or `Unavailable`.
        """
        user_id, payload, _kind = admitted
        room = await self._rooms.access_room(user_id, payload.room_id)
        sender = await self._people.get(user_id)
        if payload.attachment_url is not None and self._attachments.is_upload(payload.attachment_url):
            await self._attachments.link(user_id, payload.attachment_url, await self._rooms.peers(user_id))
        return self._append(room, sender, admitted)

    def place_now(self, admitted: Admitted) -> PendingMessage | None:
        """As `place` without waiting. Returns None, without effects, if it would have to wait."""
        user_id, payload, _kind = admitted
        room = self._rooms.access_cached(user_id, payload.room_id)
        sender = self._people.cached(user_id)
        if room is None or sender is None or payload.attachment_url is not None:
            return None
        return self._append(room, sender, admitted)

    def _append(self, room: RoomState, sender: User, admitted: Admitted) -> PendingMessage:
        payload = admitted.payload
        message = PendingMessage(
            room=room,
            sender_id=sender.id,
            sender_name=sender.full_name,
            content=payload.content or "",
            type=admitted.kind,
            attachment_url=payload.attachment_url,
            client_message_id=payload.client_message_id,
        )
        self._write_queue.append(message)
        return message

    def _check_content(self, payload: SendMessage) -> SentType:
        """Validate what needs no store, and return the message type."""
        content, url = payload.content or "", payload.attachment_url
        if len(content) > self._max_length:
            raise ValidationFailed.at("content", f"must hold at most {self._max_length} characters")
        kind = payload.type or payload.message_type or "TEXT"
        if url is None:
            if kind != "TEXT":
                raise ValidationFailed.at("attachmentUrl", f"is required for {kind}")
            if not content.strip():
                raise ValidationFailed.at("content", "must not be blank")
            return "TEXT"
        check_attachment_url(url, self._attachments.is_upload)
        return detect_type(url) if kind == "TEXT" else kind


def check_attachment_url(url: str, is_upload: Callable[[str], bool]) -> None:
    """Raise `ValidationFailed` unless `url` is an absolute http(s) URL or has the form of an upload's path."""
    if not is_upload(url) and not is_web_address(url):
        words = "must be an upload's path or an absolute http(s) URL without user name and direction marks"
        raise ValidationFailed.at("attachmentUrl", words)


def detect_type(url: str) -> SentType:
    """IMAGE if the path ends in an image extension, else FILE."""
    _, dot, extension = urlsplit(url).path.rpartition("/")[2].rpartition(".")
    return "IMAGE" if dot and extension.lower() in IMAGE_EXTENSIONS else "FILE"
