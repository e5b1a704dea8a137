"""Sending: validates messages from REST and sockets and appends them to the write queue."""

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from server.errors import Forbidden, NotFound, ValidationFailed
from server.file_types import IMAGE_EXTENSIONS
from server.models import Message, SentType, User
from server.protocol import MessageView
from server.requests import SendMessage
from server.room_state import RoomState
from server.services.room_log.mentions import check_mentions
from server.services.room_log.pending import PendingMessage
from server.services.room_log.ports import Attachments, Limits, MessageAccess, People, Quotes, Rooms
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
        access: MessageAccess,
        quotes: Quotes,
        *,
        max_length: int,
    ) -> None:
        self._rooms = rooms
        self._write_queue = write_queue
        self._people = people
        self._limits = limits
        self._attachments = attachments
        self._access = access
        self._quotes = quotes
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

        Raises `ValidationFailed`, `NotFound` if the user is not in the room, `Forbidden` if one of a pair has blocked
        the other, or `Unavailable`.
        """
        user_id, payload, _kind = admitted
        room = await self._rooms.access_room(user_id, payload.room_id)
        sender = await self._people.get(user_id)
        pending = self._prepare(room, sender, admitted)
        await self._check_contact(user_id, pending)
        if payload.forward is not None or payload.reply_to is not None:
            await self._refer(pending, user_id, payload)
        if payload.attachment_url is not None and self._attachments.is_upload(payload.attachment_url):
            await self._attachments.link(user_id, payload.attachment_url, await self._rooms.peers(user_id), pending.id)
        self._write_queue.append(pending)
        return pending

    def place_now(self, admitted: Admitted) -> PendingMessage | None:
        """As `place` without waiting. Returns None, without effects, if it would have to wait."""
        user_id, payload, _kind = admitted
        room = self._rooms.access_cached(user_id, payload.room_id)
        sender = self._people.cached(user_id)
        if room is None or sender is None or payload.attachment_url or payload.reply_to or payload.forward:
            return None
        if room.type == "DIRECT" and room.are_any_apart(user_id):
            return None
        pending = self._prepare(room, sender, admitted)
        self._write_queue.append(pending)
        return pending

    def _prepare(self, room: RoomState, sender: User, admitted: Admitted) -> PendingMessage:
        payload = admitted.payload
        if payload.mentions:
            check_mentions(room, payload.mentions)
        return PendingMessage(
            room=room,
            sender_id=sender.id,
            sender_name=sender.full_name,
            content=payload.content or "",
            type=admitted.kind,
            attachment_url=payload.attachment_url,
            client_message_id=payload.client_message_id,
            mentions=tuple(dict.fromkeys(payload.mentions)),
            mentions_room=payload.mentions_room,
        )

    async def _check_contact(self, user_id: str, pending: PendingMessage) -> None:
        """Raise `Forbidden` if one of a pair has blocked the other; a repeat of what is stored is still answered."""
        try:
            pending.room.check_contact(user_id)
        except Forbidden:
            if pending.client_message_id is None or not await self._is_stored(user_id, pending):
                raise

    async def _refer(self, pending: PendingMessage, user_id: str, payload: SendMessage) -> None:
        """Add what the message takes from the one that it answers or forwards. Raises `ValidationFailed`."""
        try:
            if payload.reply_to is not None:
                _, replied = await self._access_named(user_id, payload.reply_to, "replyTo", payload.room_id)
                pending.quote = await self._quotes.quote(replied)
            if payload.forward is not None:
                _, original = await self._access_named(user_id, payload.forward, "forward")
                await self._copy(pending, original)
        except ValidationFailed:
            # A repeat of what is stored: it is answered, whatever has become of the other message.
            if not await self._is_stored(user_id, pending):
                raise

    async def _access_named(
        self, user_id: str, message_id: str, field: str, room_id: str = ""
    ) -> tuple[RoomState, Message]:
        try:
            return await self._access.access_message(user_id, message_id, room_id)
        except NotFound:
            words = "must be a message of this room" if room_id else "must be a message that you may see"
            raise ValidationFailed.at(field, words) from None

    async def _copy(self, pending: PendingMessage, original: Message) -> None:
        if original.notice is not None or original.deleted_at is not None:
            raise ValidationFailed.at("forward", "must not be a notice or a deleted message")
        url = original.attachment_url
        is_upload = url is not None and self._attachments.is_upload(url)
        if url is not None and is_upload and not await self._attachments.link_copy(url, pending.id):
            raise ValidationFailed.at("forward", "has an attachment that is gone")
        pending.content, pending.type, pending.attachment_url = original.content, original.type, url
        pending.forwarded_from = original.forwarded_from or (await self._quotes.quote(original)).sender_name

    async def _is_stored(self, user_id: str, pending: PendingMessage) -> bool:
        try:
            await self._access.access_message(user_id, pending.id, pending.room.id)
        except NotFound:
            return False
        return True

    def _check_content(self, payload: SendMessage) -> SentType:
        """Validate what needs no store, and return the message type."""
        content, url = payload.content or "", payload.attachment_url
        if payload.forward is not None:
            if content or url is not None:
                raise ValidationFailed.at("forward", "cannot go together with content or attachmentUrl")
            return "TEXT"
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
