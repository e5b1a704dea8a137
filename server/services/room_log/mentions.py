"""Mentions: who may be mentioned in a room."""

from collections.abc import Collection

from server.errors import FieldError, ValidationFailed
from server.room_state import RoomState


def check_mentions(room: RoomState, user_ids: Collection[str]) -> None:
    """Raise `ValidationFailed` naming those who are no members of the room."""
    wrong = [
        FieldError(f"mentions.{place}", "is no member of the room")
        for place, user_id in enumerate(user_ids)
        if user_id not in room.members
    ]
    if wrong:
        raise ValidationFailed.all(wrong)
