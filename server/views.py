"""Converts models to the shapes that clients see."""

from server.models import Message, User
from server.protocol import MessageView, wire_time


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
