"""Converts models to the shapes that clients see."""

import heapq
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from server.member_state import MemberState
from server.models import ChatSettings, Message, Notice, Quote, User, now
from server.protocol import (
    ChatSettingsView,
    ChatView,
    Forwarded,
    MemberView,
    MessageView,
    NoticeView,
    OpenRoomView,
    PresenceView,
    QuoteView,
    ReactionView,
    RoomView,
    UserView,
    wire_time,
)
from server.room_state import RoomState

# Members in the view of a room; others come by pages.
MAX_MEMBERS: Final = 100
# Users named for each reaction, and characters of the message that a reply answers.
MAX_REACTING: Final = 20
MAX_QUOTED: Final = 200
_RANKS: Final = {"OWNER": 0, "ADMIN": 1, "MEMBER": 2}


def name_of(user: User | None) -> str:
    return "" if user is None else user.full_name


def view_message(
    message: Message, sender_name: str, is_read: bool, viewer_id: str = "", quote: Quote | None = None
) -> MessageView:
    """The message for one user; `quote` is of the message that it replies to."""
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
        # Most messages have none of these.
        **(_view_extras(message, viewer_id, quote) if message.has_extras else {}),
    )


def _view_extras(message: Message, viewer_id: str, quote: Quote | None) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if message.notice is not None:
        extras["notice"] = _view_notice(message.notice)
    if quote is not None:
        extras["reply_to"] = _view_quote(quote)
    if message.mentions:
        extras["mentions"] = list(message.mentions)
    if message.mentions_room:
        extras["mentions_room"] = True
    if message.forwarded_from is not None:
        extras["forwarded_from"] = Forwarded(message.forwarded_from)
    if message.rev:
        extras["rev"] = message.rev
    for name in ("edited_at", "deleted_at", "pinned_at"):
        moment = getattr(message, name)
        if moment is not None:
            extras[name] = wire_time(moment)
    if message.pinned_by is not None:
        extras["pinned_by"] = message.pinned_by
    if message.reactions:
        extras["reactions"] = [
            ReactionView(
                emoji=reaction.emoji,
                count=len(reaction.user_ids),
                user_ids=list(reaction.user_ids[:MAX_REACTING]),
                mine=viewer_id in reaction.user_ids,
            )
            for reaction in message.reactions
        ]
    return extras


def _view_quote(quote: Quote) -> QuoteView:
    message = quote.message
    return QuoteView(
        message_id=message.id,
        seq=message.seq,
        sender_id=message.sender_id,
        sender_name=quote.sender_name,
        content=message.content[:MAX_QUOTED],
        type=message.type,
        deleted_at=msgspec.UNSET if message.deleted_at is None else wire_time(message.deleted_at),
    )


def _view_notice(notice: Notice) -> NoticeView:
    return NoticeView(
        kind=notice.kind,
        user_ids=list(notice.user_ids) or None,
        name=notice.details.name if notice.details is not None and notice.kind == "RENAMED" else None,
        role=notice.role,
    )


def view_user(user: User, is_online: bool, *, is_apart: bool, shows_contact: bool) -> UserView:
    """A profile; with `is_apart` for somebody who sees nothing of the user's presence."""
    return UserView(
        id=user.id,
        email=user.email if shows_contact else "",
        first_name=user.first_name,
        last_name=user.last_name,
        phone=user.phone if shows_contact else None,
        profile_image=user.profile_image,
        user_type=user.user_type,
        trust_score=user.trust_score,
        full_name=user.full_name,
        is_online=is_online and not is_apart,
        last_seen_at=None if is_apart else _wire_time_or_none(user.last_seen_at),
    )


def view_presence(user_id: str, user: User | None, is_online: bool) -> PresenceView:
    """Without a user nothing is known of when they were last seen."""
    last_seen = None if user is None else user.last_seen_at
    return PresenceView(user_id=user_id, is_online=is_online, last_seen_at=_wire_time_or_none(last_seen))


class Rank(NamedTuple):
    """Sorts the members of a room: owners, admins, then by time."""

    role: int
    joined_seq: int
    user_id: str


def rank_of(member: MemberState) -> Rank:
    return Rank(_RANKS[member.role], member.joined.seq, member.user_id)


def view_room(
    room: RoomState,
    user_id: str,
    pair: tuple[str, str] | None,
    sender_name: str,
    epoch: str,
    quote: Quote | None = None,
) -> RoomView:
    """The room as its member sees it; `pair` are the two of a direct room. Sender and quote are of its last message."""
    last = room.last_message
    members = room.members.values() if pair else heapq.nsmallest(MAX_MEMBERS, room.members.values(), key=rank_of)
    details = room.details
    apart = room.apart_from(user_id)
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
        last_rev=room.last_rev,
        last_message=None
        if last is None
        else view_message(last, sender_name, room.is_read(last, user_id), user_id, quote),
        members=[
            MemberView(
                user_id=member.user_id,
                last_delivered_seq=0 if member.user_id in apart else member.delivered,
                last_read_seq=0 if member.user_id in apart else member.read.seq,
                role=member.role,
                joined_at=wire_time(member.joined_at or room.created_at),
            )
            for member in members
        ],
        epoch=epoch,
    )


def view_open_room(room: RoomState, user_id: str) -> OpenRoomView:
    """A room that anybody may join, as one sees it who may not be in it."""
    details = room.details
    return OpenRoomView(
        id=room.id,
        type=room.type,
        name=details.name,
        description=details.description,
        image=details.image,
        visibility=details.visibility,
        history=details.history,
        member_count=len(room.members),
        created_by=room.created_by,
        created_at=wire_time(room.created_at),
        is_member=user_id in room.members,
    )


def view_chat(
    room: RoomState,
    user_id: str,
    peer_id: str | None,
    peer: User | None,
    sender: User | None,
    is_online: bool,
    mentions: int,
    settings: ChatSettings,
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
        last_rev=room.last_rev,
        last_message=None if last is None else last.content,
        last_message_type=None if last is None else last.type,
        last_message_time=None if last is None else wire_time(last.sent_at),
        last_sender_name=None if last is None else name_of(sender),
        unread_count=room.unread(user_id),
        mention_count=mentions,
        is_online=is_online,
        transaction_id=room.booking_id,
        settings=view_chat_settings(settings),
    )


def view_chat_settings(settings: ChatSettings) -> ChatSettingsView:
    muted = settings.muted_until
    if isinstance(muted, datetime):
        muted = wire_time(muted) if muted > now() else None
    return ChatSettingsView(muted, settings.notify, settings.is_pinned, settings.is_archived)


def _wire_time_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else wire_time(moment)
