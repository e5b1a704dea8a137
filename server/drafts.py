"""Messages on their way into a room's log, and what comes of them."""

import hashlib
import json
import secrets
from typing import Final, NamedTuple

from server.models import Message, MessageType
from server.room_state import RoomState

ID_BYTES: Final = 16


class Sent(NamedTuple):
    """A stored message; `is_new` is False where an earlier send under the same id had stored it."""

    message: Message
    is_new: bool


class Draft(NamedTuple):
    """A message that has been checked and only needs its place."""

    room: RoomState
    sender_id: str
    content: str
    type: MessageType
    attachment_url: str | None
    client_message_id: str | None


def derive_message_id(draft: Draft) -> str:
    """Random, or made from room, sender and the client's own id, so that the primary key rules out a repeat."""
    if draft.client_message_id is None:
        return secrets.token_hex(ID_BYTES)
    key = json.dumps([draft.room.id, draft.sender_id, draft.client_message_id], ensure_ascii=False).encode()
    return hashlib.blake2b(key, digest_size=ID_BYTES).hexdigest()
