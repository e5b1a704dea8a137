"""Messages: the one `send` behind REST and sockets, with everything that is checked before a message is stored."""

import asyncio
import re
from collections.abc import Callable, Collection
from typing import Final, Protocol
from urllib.parse import urlsplit

from server.drafts import Draft, Sent
from server.errors import ValidationFailed
from server.models import Message, MessageType, User
from server.protocol import MessageView, SendMessage
from server.room_state import RoomState
from server.views import name_of, view_message

# What people call pictures; a type that the sender states wins over the name.
IMAGE_EXTENSIONS: Final = frozenset(
    {"jpg", "jpeg", "png", "gif", "webp", "bmp", "heic", "heif", "avif", "tif", "tiff", "svg"}
)


class People(Protocol):
    def cached(self, user_id: str) -> User | None: ...

    async def get_many(self, user_ids: list[str]) -> dict[str, User]: ...


class Rooms(Protocol):
    def access_cached(self, user_id: str, room_id: str) -> RoomState | None: ...

    async def access_room(self, user_id: str, room_id: str) -> RoomState: ...

    async def peers(self, user_id: str) -> set[str]: ...


class Log(Protocol):
    def append(self, draft: Draft) -> "asyncio.Future[Sent]": ...


class Limits(Protocol):
    def check_message(self, user_id: str) -> None: ...


class Attachments(Protocol):
    """What an attachment may point to beside an absolute http(s) URL."""

    def is_upload(self, url: str) -> bool: ...

    async def link(self, user_id: str, url: str, peers: Collection[str]) -> None:
        """Use an upload in a message: one's own, or one that a peer has sent before. Raises `ValidationFailed`."""


class Messages:
    def __init__(
        self, rooms: Rooms, log: Log, people: People, limits: Limits, attachments: Attachments, *, max_length: int
    ) -> None:
        self._rooms = rooms
        self._log = log
        self._people = people
        self._limits = limits
        self._attachments = attachments
        self._max_length = max_length

    async def send(self, user_id: str, payload: SendMessage) -> Sent:
        """Store a message and see to its delivery; returns once it would survive the death of every process.

        Raises `ValidationFailed`, `NotFound` for a room of others, `RateLimited` or `Unavailable`.
        """
        return await (await self.submit(user_id, payload))

    async def submit(self, user_id: str, payload: SendMessage) -> "asyncio.Future[Sent]":
        """As `send`, but returns as soon as the message has its turn, so that the next one may follow it."""
        self._limits.check_message(user_id)
        kind = self._check_content(payload)
        room = await self._rooms.access_room(user_id, payload.room_id)
        if payload.attachment_url is not None and self._attachments.is_upload(payload.attachment_url):
            await self._attachments.link(user_id, payload.attachment_url, await self._rooms.peers(user_id))
        return self._append(room, user_id, payload, kind)

    def submit_now(self, user_id: str, payload: SendMessage) -> "asyncio.Future[Sent] | None":
        """As `submit` without waiting; None, and nothing done, where it would have to wait."""
        room = self._rooms.access_cached(user_id, payload.room_id)
        if room is None or payload.attachment_url is not None:
            return None
        self._limits.check_message(user_id)
        return self._append(room, user_id, payload, self._check_content(payload))

    async def view(self, user_id: str, message: Message, room: RoomState) -> MessageView:
        """A message as `user_id` sees it."""
        people = await self._people.get_many([message.sender_id])
        return view_message(message, name_of(people.get(message.sender_id)), room.is_read(message, user_id))

    async def view_sent(self, user_id: str, room_id: str, message: Message) -> MessageView:
        """A message just sent as its sender sees it."""
        return await self.view(user_id, message, await self._rooms.access_room(user_id, room_id))

    def view_now(self, user_id: str, message: Message) -> MessageView | None:
        """As `view_sent` without waiting; None where it would have to wait."""
        room = self._rooms.access_cached(user_id, message.room_id)
        sender = self._people.cached(message.sender_id)
        if room is None or sender is None:
            return None
        return view_message(message, name_of(sender), room.is_read(message, user_id))

    def _append(self, room: RoomState, user_id: str, payload: SendMessage, kind: MessageType) -> "asyncio.Future[Sent]":
        return self._log.append(
            Draft(
                room=room,
                sender_id=user_id,
                content=payload.content or "",
                type=kind,
                attachment_url=payload.attachment_url,
                client_message_id=payload.client_message_id,
            )
        )

    def _check_content(self, payload: SendMessage) -> MessageType:
        """Check what needs no store, and say which type the message has."""
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
    if is_upload(url):
        return
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or re.search(r"[\s\x00-\x1f\x7f\\]", url):
        raise ValidationFailed.at("attachmentUrl", "must be an upload's path or an absolute http(s) URL")


def detect_type(url: str) -> MessageType:
    """IMAGE where the path ends in an image's extension, else FILE."""
    _, dot, extension = urlsplit(url).path.rpartition("/")[2].rpartition(".")
    return "IMAGE" if dot and extension.lower() in IMAGE_EXTENSIONS else "FILE"
