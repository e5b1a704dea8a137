"""Changing messages: edits, deletions, reactions and pins, for those who may."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import msgspec

from server.changes import check_changeable, delete, edit, pin, react, unpin
from server.concurrency.keyed_locks import KeyedLocks
from server.errors import Conflict, Forbidden, NotFound, ValidationFailed
from server.models import ChangeKind, Message, now
from server.protocol import MessageView, Pins
from server.requests import Edit, Pin, React
from server.room_state import RoomState
from server.services.room_log.change_writer import ChangeWriter, PendingChange
from server.services.room_log.emoji import check_emoji
from server.services.room_log.mentions import check_mentions
from server.services.room_log.ports import Limits, MessageAccess, People, Quotes, Rooms
from server.storage.mongo.changes import ChangeStore
from server.storage.mongo.messages import MessageStore
from server.views import name_of, view_message

MAX_PINS: Final = 50


class Changes:
    """Each change is checked when it is asked for, and again on the message as it is right before it is stored."""

    def __init__(
        self,
        access: MessageAccess,
        rooms: Rooms,
        writer: ChangeWriter,
        messages: MessageStore,
        changes: ChangeStore,
        people: People,
        quotes: Quotes,
        limits: Limits,
        *,
        max_length: int,
        edit_window: float,
    ) -> None:
        self._access = access
        self._rooms = rooms
        self._writer = writer
        self._messages = messages
        self._changes = changes
        self._people = people
        self._quotes = quotes
        self._limits = limits
        self._max_length = max_length
        # One at a time in a room, so that its pins are counted right.
        self._pinning = KeyedLocks()
        self.set_edit_window(edit_window)

    def set_edit_window(self, seconds: float) -> None:
        """From now on messages may be edited for so long; 0 is for ever."""
        self._edit_window = timedelta(seconds=seconds)

    async def edit(self, user_id: str, request: Edit) -> MessageView:
        """Give one's own message another text. Returns it as it stands then; the same text changes nothing.

        Raises `ValidationFailed`, `NotFound`, `Conflict` for a notice or a deleted message, and `Forbidden` for
        messages of others and after `messages.edit_window`.
        """
        self._limits.check_length(user_id, request.content)
        if len(request.content) > self._max_length:
            raise ValidationFailed.at("content", f"must hold at most {self._max_length} characters")
        mentions = None if isinstance(request.mentions, msgspec.UnsetType) else request.mentions

        def apply(room: RoomState, message: Message) -> Message:
            check_changeable(message)
            room.check_contact(user_id)
            moment = now()
            if message.sender_id != user_id:
                raise Forbidden("Only its sender may edit a message")
            if self._edit_window and moment - message.sent_at > self._edit_window:
                raise Forbidden("It is too late to edit the message (messages.edit_window)")
            if message.attachment_url is None and not request.content.strip():
                raise ValidationFailed.at("content", "must not be blank")
            if mentions is not None:
                check_mentions(room, mentions)
            return edit(message, request.content, mentions, moment)

        return await self._change(user_id, request.message_id, "EDITED", apply)

    async def delete(self, user_id: str, message_id: str) -> MessageView:
        """Delete a message: its sender, or an owner or admin of the group. A deleted one stays as it is.

        Returns once its content is gone from the database. Raises `NotFound`, `Conflict` or `Forbidden`.
        """

        def apply(room: RoomState, message: Message) -> Message:
            if message.notice is not None:
                raise Conflict("Notices cannot be changed")
            is_manager = room.type == "GROUP" and room.role_of(user_id) != "MEMBER"
            if message.sender_id != user_id and not is_manager:
                raise Forbidden("Only its sender, owners and admins may delete a message")
            return delete(message, now())

        return await self._change(user_id, message_id, "DELETED", apply)

    async def react(self, user_id: str, request: React) -> MessageView:
        """Add one's emoji to a message, or take it away. Repeated, it changes nothing.

        Raises `ValidationFailed`, `NotFound` or `Conflict`.
        """
        emoji = check_emoji(request.emoji)

        def apply(room: RoomState, message: Message) -> Message:
            check_changeable(message)
            room.check_contact(user_id)
            return react(message, emoji, user_id, remove=request.remove)

        return await self._change(user_id, request.message_id, "REACTION", apply)

    async def pin(self, user_id: str, request: Pin) -> MessageView:
        """Pin a message or unpin it: anybody in a direct room, owners and admins in a group.

        Raises `NotFound`, `Forbidden`, or `Conflict` if too many are pinned.
        """
        room, _ = await self._access.access_message(user_id, request.message_id)
        async with self._pinning.of(room.id):
            return await self._pin(user_id, request, set(await self._changes.find_pinned(room.id)))

    async def _pin(self, user_id: str, request: Pin, pinned: set[str]) -> MessageView:
        def apply(room: RoomState, message: Message) -> Message:
            check_changeable(message)
            room.check_contact(user_id)
            if room.type == "GROUP" and room.role_of(user_id) == "MEMBER":
                raise Forbidden("Only owners and admins may pin messages")
            if request.remove:
                return unpin(message)
            if len(pinned - {message.id}) >= MAX_PINS:
                raise Conflict(f"A room has at most {MAX_PINS} pinned messages")
            return pin(message, user_id, now())

        return await self._change(user_id, request.message_id, "UNPINNED" if request.remove else "PINNED", apply)

    async def list_pins(self, user_id: str, room_id: str) -> Pins:
        """The pinned messages of a room that the user may see, the latest pin first. Raises `NotFound`."""
        room = await self._rooms.access_room(user_id, room_id)
        found = await self._messages.find_many(await self._changes.find_pinned(room.id))
        if user_id not in room.members:
            raise NotFound("No such room")
        pinned = [(one.pinned_at, one) for one in found.values() if one.pinned_at and room.may_see(user_id, one.seq)]
        messages = [one for _, one in sorted(pinned, key=lambda pair: pair[0], reverse=True)]
        return Pins(await self._view(room, user_id, messages))

    async def _change(
        self, user_id: str, message_id: str, kind: ChangeKind, apply: Callable[[RoomState, Message], Message]
    ) -> MessageView:
        room, message = await self._access.access_message(user_id, message_id)

        def apply_for_member(room: RoomState, message: Message) -> Message:
            if user_id not in room.members or not room.may_see(user_id, message.seq):
                raise NotFound("No such message")
            return apply(room, message)

        with room.pinned():
            apply_for_member(room, message)
            quotes = await self._quotes.find([message])
            senders = await self._people.get_many([message.sender_id])
            changed = await self._writer.change(
                PendingChange(
                    room,
                    message.id,
                    kind,
                    user_id,
                    apply_for_member,
                    name_of(senders.get(message.sender_id)),
                    quotes.get(message.reply_to or ""),
                )
            )
            return (await self._view(room, user_id, [changed]))[0]

    async def _view(self, room: RoomState, user_id: str, messages: Sequence[Message]) -> list[MessageView]:
        quotes = await self._quotes.find(messages)
        people = await self._people.get_many({message.sender_id for message in messages})
        return [
            view_message(
                message,
                name_of(people.get(message.sender_id)),
                room.is_read(message, user_id),
                user_id,
                room.show_quote(user_id, quotes.get(message.reply_to or "")),
            )
            for message in messages
        ]
