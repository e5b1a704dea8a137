"""Converts models to the shapes that clients see."""

from datetime import datetime

from server.models import Message, User
from server.protocol import ChatView, MemberView, MessageView, PresenceView, RoomView, UserView, wire_time
from server.room_state import RoomState


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


def view_room(room: RoomState, user_id: str, pair: tuple[str, str], sender: User | None, epoch: str) -> RoomView:
    """The room as its member sees it; `sender` is that of its last message."""
    last = room.last_message
    return RoomView(
        id=room.id,
        user1_id=pair[0],
        user2_id=pair[1],
        booking_id=room.booking_id,
        created_at=wire_time(room.created_at),
        last_seq=room.last_seq,
        last_message=None if last is None else view_message(last, name_of(sender), room.is_read(last, user_id)),
        members=[
            MemberView(user_id=member.user_id, last_delivered_seq=member.delivered, last_read_seq=member.read)
            for member in room.members.values()
        ],
        epoch=epoch,
    )


def view_chat(room: RoomState, user_id: str, peer_id: str, peer: User | None, is_online: bool) -> ChatView:
    """The row of a room in the list of chats of its member."""
    last = room.last_message
    return ChatView(
        chat_id=room.id,
        participant_id=peer_id,
        participant_name=name_of(peer),
        participant_image=None if peer is None else peer.profile_image,
        last_message=None if last is None else last.content,
        last_message_type=None if last is None else last.type,
        last_message_time=None if last is None else wire_time(last.sent_at),
        unread_count=room.unread(user_id),
        is_online=is_online,
        transaction_id=room.booking_id,
    )


def _wire_time_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else wire_time(moment)
