"""Changes of messages: what a message becomes by an edit, a deletion, a reaction or a pin."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from server.errors import Conflict
from server.models import Message, Reaction

MAX_REACTIONS: Final = 20


def check_changeable(message: Message) -> None:
    """Raise `Conflict` for notices and deleted messages."""
    if message.notice is not None:
        raise Conflict("Notices cannot be changed")
    if message.deleted_at is not None:
        raise Conflict("The message was deleted")


def edit(message: Message, content: str, mentions: Sequence[str] | None, at: datetime) -> Message:
    """Another text, and other mentions unless they are None. The same ones change nothing."""
    new = message.mentions if mentions is None else tuple(dict.fromkeys(mentions))
    if content == message.content and new == message.mentions:
        return message
    return msgspec.structs.replace(message, content=content, mentions=new, edited_at=at)


def delete(message: Message, at: datetime) -> Message:
    """Nothing of what people wrote stays. The place in the log does."""
    if message.deleted_at is not None:
        return message
    return Message(
        id=message.id,
        room_id=message.room_id,
        seq=message.seq,
        sender_id=message.sender_id,
        sender_seq=message.sender_seq,
        content="",
        type="TEXT",
        sent_at=message.sent_at,
        client_message_id=message.client_message_id,
        notices=message.notices,
        rev=message.rev,
        deleted_at=at,
    )


def react(message: Message, emoji: str, user_id: str, *, remove: bool) -> Message:
    """Add or take away one person's emoji. Raises `Conflict` if there are too many different ones."""
    before = {reaction.emoji: reaction.user_ids for reaction in message.reactions}
    users = before.get(emoji, ())
    if (user_id in users) is not remove:
        return message
    if not users and len(before) >= MAX_REACTIONS:
        raise Conflict(f"A message has at most {MAX_REACTIONS} different reactions")
    others = tuple(other for other in users if other != user_id)
    before[emoji] = others if remove else (*others, user_id)
    reactions = tuple(Reaction(emoji, user_ids) for emoji, user_ids in before.items() if user_ids)
    return msgspec.structs.replace(message, reactions=reactions)


def pin(message: Message, user_id: str, at: datetime) -> Message:
    if message.pinned_at is not None:
        return message
    return msgspec.structs.replace(message, pinned_at=at, pinned_by=user_id)


def unpin(message: Message) -> Message:
    if message.pinned_at is None:
        return message
    return msgspec.structs.replace(message, pinned_at=None, pinned_by=None)
