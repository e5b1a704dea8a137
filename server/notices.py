"""Notices: how the members and details of a room follow from what its log tells of them."""

from typing import Protocol

from server.member_state import MemberState
from server.models import Member, Message, Notice, Position, RoomDetails


class Followed(Protocol):
    """The state of a room that notices change."""

    id: str
    details: RoomDetails
    has_new_details: bool
    members: dict[str, MemberState]
    former: dict[str, Member]
    left: dict[str, MemberState]
    newest_join: int


def follow(room: Followed, notice: Notice, message: Message) -> tuple[list[str], list[str]]:
    """Change the room as the notice in `message` says. Returns the users who joined and those who left.

    What was stored of a member may be of a later notice already, and then stays: after a crash the log is followed from
    an older end. It is followed to its end, so that the result is the same.
    """
    joined: list[str] = []
    left: list[str] = []
    if notice.kind in ("JOINED", "ADDED"):
        joined = [user_id for user_id in notice.user_ids if user_id not in room.members]
        for user_id in joined:
            _add(room, user_id, message)
    elif notice.kind in ("LEFT", "REMOVED"):
        left = [user_id for user_id in notice.user_ids if _is_older(room, user_id, message)]
        for user_id in left:
            gone = room.left[user_id] = room.members.pop(user_id)
            gone.changed_seq = message.seq
    roles = [(user_id, notice.role) for user_id in notice.user_ids if notice.role is not None]
    if notice.heir is not None:
        roles.append((notice.heir, "OWNER"))
    for user_id, role in roles:
        if _is_older(room, user_id, message):
            member = room.members[user_id]
            member.role, member.changed_seq, member.is_new = role, message.seq, True
    if notice.details is not None:
        room.details = notice.details
        room.has_new_details = True
    return joined, left


def _add(room: Followed, user_id: str, message: Message) -> None:
    """One who comes back goes on with the number of their messages, and, if they see all history, with their marks."""
    stored = room.former.pop(user_id, None)
    gone = room.left.pop(user_id, None)
    former = stored if gone is None else gone.to_member(room.id)
    joined = Position(message.seq - 1, 0 if former is None else former.sent, message.notices - 1)
    read = Position() if former is None else former.read
    if room.details.history == "JOINED":
        # Marks of their own time there are higher, if the room is followed again after a crash.
        read = max(joined, read)
    member = MemberState(
        Member(
            room_id=room.id,
            user_id=user_id,
            joined_at=message.sent_at,
            joined=joined,
            changed_seq=message.seq,
            sent=joined.own,
            last_delivered_seq=joined.seq,
            read=read,
        )
    )
    member.is_new = True
    room.members[user_id] = member
    room.newest_join = joined.seq


def _is_older(room: Followed, user_id: str, message: Message) -> bool:
    """Whether the user is a member by a notice before this one."""
    member = room.members.get(user_id)
    return member is not None and member.changed_seq < message.seq
