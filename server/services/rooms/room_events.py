"""Tells members what a notice changed: who came and went, and how the room is now."""

from collections.abc import Iterable

from server.events import MEMBER_CHANGED, ROOM_CHANGED, ROOM_NEW, ROOM_REMOVED, MemberChanged, RoomChanged, RoomRemoved
from server.models import Message, Notice
from server.realtime.fan_out import FanOut
from server.realtime.frames import Frame, event_frame
from server.room_state import RoomState, StoredMessage
from server.storage.mongo.identity import IdentityStore
from server.views import view_room


class RoomEvents:
    """Events go out in the order of the log, each notice's before the notice itself."""

    def __init__(self, fan_out: FanOut, identities: IdentityStore) -> None:
        self._fan_out = fan_out
        self._identities = identities

    def announce(self, stored: StoredMessage) -> None:
        """Tell of a notice that was stored. The room has followed it already."""
        room, message, sender_name, _ = stored
        notice = message.notice
        if notice is None:
            return
        if notice.kind == "CREATED":
            self._tell_room(room, ROOM_NEW, set(room.members) - {message.sender_id}, sender_name)
        elif notice.kind in ("JOINED", "ADDED"):
            joined = [user_id for user_id in notice.user_ids if user_id in room.members]
            self._tell_room(room, ROOM_NEW, joined, sender_name)
        elif notice.kind in ("LEFT", "REMOVED"):
            gone = [user_id for user_id in notice.user_ids if user_id not in room.members]
            self._fan_out.emit(gone, ROOM_REMOVED, RoomRemoved(room.id, notice.kind))
        if notice.details is not None:
            self._tell_room(room, ROOM_CHANGED, room.members, sender_name)
        self._tell_members(room, message, notice)

    def end(self, room: RoomState) -> None:
        """Tell the members that the room is deleted."""
        self._fan_out.emit(room.members, ROOM_REMOVED, RoomRemoved(room.id, "DELETED"))

    def _tell_members(self, room: RoomState, message: Message, notice: Notice) -> None:
        changed = [] if notice.kind == "CREATED" else list(notice.user_ids)
        if notice.heir is not None:
            changed.append(notice.heir)
        for user_id in changed:
            member = room.members.get(user_id)
            role = None if member is None else member.role
            told = room.members if member is None or message.seq != member.joined.seq + 1 else room.others(user_id)
            self._fan_out.emit(told, MEMBER_CHANGED, MemberChanged(room.id, user_id, role))

    def _tell_room(self, room: RoomState, event: str, user_ids: Iterable[str], sender_name: str) -> None:
        """Send the room as each of these members sees it: one frame for all who see the same."""
        last, epoch = room.last_message, self._identities.known.epoch
        frames: dict[tuple[str, bool], Frame] = {}
        for user_id in user_ids:
            if not self._fan_out.is_connected(user_id):
                continue
            seen = room.role_of(user_id), last is not None and room.is_read(last, user_id)
            if seen not in frames:
                view = view_room(room, user_id, None, sender_name, epoch)
                frames[seen] = event_frame(event, view if event == ROOM_NEW else RoomChanged(view))
            self._fan_out.send((user_id,), frames[seen])
