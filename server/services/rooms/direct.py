"""Rooms of two: their ids, their members, and who is the other one."""

import hashlib
import json
from typing import NamedTuple

from server.models import Member, Room, now
from server.room_state import RoomState


class DirectRoom(NamedTuple):
    """A room of a pair, not stored yet. `older_id` is the id that their room has if it is from before ids had a key."""

    room: Room
    members: list[Member]
    older_id: str


def derive_room_id(user_id: str, other_id: str, booking_id: str | None, key: bytes = b"") -> str:
    """The id of this pair and booking, the same for either order of the two, so that the primary key allows one room.

    The secret `key` makes it unpredictable. Rooms made before there was a key have the id of the empty key.
    """
    pair = json.dumps([*sorted((user_id, other_id)), booking_id], ensure_ascii=False).encode()
    return hashlib.blake2b(pair, digest_size=16, key=key).hexdigest()


def build_direct_room(user_id: str, other_id: str, booking_id: str | None, key: bytes) -> DirectRoom:
    """A room that the first user creates for both."""
    room = Room(
        id=derive_room_id(user_id, other_id, booking_id, key),
        created_by=user_id,
        booking_id=booking_id,
        created_at=now(),
    )
    return DirectRoom(room, members_of(room.id, user_id, other_id), derive_room_id(user_id, other_id, booking_id))


def members_of(room_id: str, one: str, other: str) -> list[Member]:
    """Both members, with marks at 0."""
    return [
        Member(room_id=room_id, user_id=one, peer_id=other),
        Member(room_id=room_id, user_id=other, peer_id=one),
    ]


def peer_of(room: RoomState, user_id: str) -> str:
    """The other one of the pair, also if that one is no member any more."""
    return room.members[user_id].peer_id or ""


def pair_of(room: RoomState, user_id: str) -> tuple[str, str]:
    """The pair of a member, the one who created the room first."""
    peer_id = peer_of(room, user_id)
    return (peer_id, user_id) if room.created_by == peer_id else (user_id, peer_id)
