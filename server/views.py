"""Converts models to the shapes that clients see."""

import heapq
from datetime import datetime
from typing import Final

import msgspec

from server.member_state import MemberState
from server.models import Message, Notice, User
from server.protocol import (
    ChatView,
    MemberView,
    MessageView,
    NoticeView,
    PresenceView,
    RoomView,
    UserView,
    wire_time,
)
from server.room_state import RoomState

# Members in the view of a room; others come by pages.
MAX_MEMBERS: Final = 100
_RANKS: Final = {"OWNER": 0, "ADMIN": 1, "MEMBER": 2}


def name_of(user: User | None) -> str:
    return "" if user is None else user.full_name


def view_message(message: Message, sender_name: str, is_read: bool) -> MessageView:
    return MessageView(
        message_id=message.id,
        room_id=message.room_id,
        seq=message.seq,
        client_message_id=message.client_message_id,
        sender_id=message.sender_id,
        sender_name=sender_name,
        content=message.content,
        type=message.type,
        message_type=message.type,
        attachment_url=message.attachment_url,
        timestamp=wire_time(message.sent_at),
        is_read=is_read,
        notice=msgspec.UNSET if message.notice is None else _view_notice(message.notice),
    )


def _view_notice(notice: Notice) -> NoticeView:
    return NoticeView(
        kind=notice.kind,
        user_ids=list(notice.user_ids) or None,
        name=notice.details.name if notice.details is not None and notice.kind == "RENAMED" else None,
        role=notice.role,
    )


def view_user(user: User, is_online: bool) -> UserView:
    return UserView(
        id=user.id,
        email=user.email,
        first_name=user.first_name,
        last_name=user.last_name,
        phone=user.phone,
        profile_image=user.profile_image,
        user_type=user.user_type,
        trust_score=user.trust_score,
        full_name=user.full_name,
        is_online=is_online,
        last_seen_at=_wire_time_or_none(user.last_seen_at),
    )


def view_presence(user_id: str, user: User | None, is_online: bool) -> PresenceView:
    last_seen = None if user is None else user.last_seen_at
    return PresenceView(user_id=user_id, is_online=is_online, last_seen_at=_wire_time_or_none(last_seen))


def rank_of(member: MemberState) -> tuple[int, int, str]:
    """Sorts the members of a room: owners, admins, then by time."""
    return _RANKS[member.role], member.joined.seq, member.user_id


def view_room(room: RoomState, user_id: str, pair: tuple[str, str] | None, sender_name: str, epoch: str) -> RoomView:
    """The room as its member sees it; `pair` are the two of a direct room. The sender is that of its last message."""
    last = room.last_message
    members = room.members.values() if pair else heapq.nsmallest(MAX_MEMBERS, room.members.values(), key=rank_of)
    details = room.details
    return RoomView(
        id=room.id,
        type=room.type,
        user1_id=pair[0] if pair else None,
        user2_id=pair[1] if pair else None,
        booking_id=room.booking_id,
        name=details.name,
        description=details.description,
        image=details.image,
        visibility=details.visibility,
        history=details.history,
        member_count=len(room.members),
        my_role=room.role_of(user_id),
        created_by=room.created_by,
        created_at=wire_time(room.created_at),
        last_seq=room.last_seq,
        last_message=None if last is None else view_message(last, sender_name, room.is_read(last, user_id)),
        members=[
            MemberView(
                user_id=member.user_id,
                last_delivered_seq=member.delivered,
                last_read_seq=member.read.seq,
                role=member.role,
                joined_at=wire_time(member.joined_at or room.created_at),
            )
            for member in members
        ],
        epoch=epoch,
    )


def view_chat(
    room: RoomState, user_id: str, peer_id: str | None, peer: User | None, sender: User | None, is_online: bool
) -> ChatView:
    """The row of a room in the list of chats of its member. `peer` is the other one of a direct room."""
    last = room.last_message
    return ChatView(
        chat_id=room.id,
        type=room.type,
        participant_id=peer_id,
        participant_name=name_of(peer) if room.type == "DIRECT" else room.details.name or "",
        participant_image=room.details.image if peer is None else peer.profile_image,
        last_seq=room.last_seq,
        last_message=None if last is None else last.content,
        last_message_type=None if last is None else last.type,
        last_message_time=None if last is None else wire_time(last.sent_at),
        last_sender_name=None if last is None else name_of(sender),
        unread_count=room.unread(user_id),
        is_online=is_online,
        transaction_id=room.booking_id,
    )


def _wire_time_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else wire_time(moment)
