"""Rooms of two: their ids, their members, and how a new one is built."""

import hashlib
import json

from server.models import Member, Room, now


def derive_room_id(user_id: str, other_id: str, booking_id: str | None, key: bytes = b"") -> str:
    """The id of this pair and booking, the same for either order of the two, so that the primary key allows one room.

    The secret `key` makes it unpredictable. Rooms made before there was a key have the id of the empty key.
    """
    pair = json.dumps([*sorted((user_id, other_id)), booking_id], ensure_ascii=False).encode()
    return hashlib.blake2b(pair, digest_size=16, key=key).hexdigest()


def build_room(user_id: str, other_id: str, booking_id: str | None, key: bytes) -> tuple[Room, str]:
    """A room of this pair, not stored yet, and the id that the pair's room has if it was made before ids had a key."""
    room = Room(
        id=derive_room_id(user_id, other_id, booking_id, key),
        user_ids=(user_id, other_id),
        booking_id=booking_id,
        created_at=now(),
    )
    return room, derive_room_id(user_id, other_id, booking_id)


def members_of(room: Room) -> list[Member]:
    """Both members, with marks at 0."""
    first, second = room.user_ids
    return [
        Member(room_id=room.id, user_id=first, peer_id=second),
        Member(room_id=room.id, user_id=second, peer_id=first),
    ]
