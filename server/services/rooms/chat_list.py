"""The list of chats, latest first, and single rooms as their members see them."""

import base64
import binascii
from typing import Final

import msgspec

from server.errors import NotFound, ValidationFailed
from server.models import Role
from server.protocol import ROOM_NEW, ChatPage, ChatsQuery, ChatView, GroupRequest, RoomPatch, RoomRequest, RoomView
from server.realtime.fan_out import FanOut
from server.room_state import RoomState
from server.services.rooms.direct import pair_of, peer_of
from server.services.rooms.groups import Groups
from server.services.rooms.ports import People, Presence
from server.services.rooms.rooms import Rooms
from server.storage.mongo.identity import IdentityStore
from server.views import name_of, view_chat, view_room

# A page of the list that would be larger ends early.
PAGE_BYTES: Final = 2 * 1024 * 1024
# An upper bound for JSON.
MAX_BYTES_PER_CHARACTER: Final = 12
# Rooms with a message come before those without; then by time in milliseconds; then by id, so that the order is total.
SortKey = tuple[bool, int, str]


class ChatList:
    def __init__(
        self,
        rooms: Rooms,
        groups: Groups,
        people: People,
        presence: Presence,
        fan_out: FanOut,
        identities: IdentityStore,
    ) -> None:
        self._rooms = rooms
        self._groups = groups
        self._people = people
        self._presence = presence
        self._fan_out = fan_out
        self._identities = identities

    async def open_room(self, user_id: str, request: RoomRequest) -> tuple[RoomView, bool]:
        """The room of this pair and booking, created and announced to the other if needed; and whether it is new.

        Raises `ValidationFailed` for a room with oneself, `NotFound` if the other user is unknown or inactive, and
        `RateLimited` if the user has created too many rooms.
        """
        room, is_new = await self._rooms.open(user_id, request)
        if is_new:
            for other in room.others(user_id):
                self._fan_out.emit([other], ROOM_NEW, await self._view_room(other, room))
        return await self._view_room(user_id, room), is_new

    async def create_group(self, user_id: str, request: GroupRequest) -> tuple[RoomView, bool]:
        """As `Groups.create`."""
        room, is_new = await self._groups.create(user_id, request)
        return await self._view_room(user_id, room), is_new

    async def change_room(self, user_id: str, room_id: str, patch: RoomPatch) -> RoomView:
        """As `Groups.change`; the room as it is then."""
        return await self._view_room(user_id, await self._groups.change(user_id, room_id, patch))

    async def change_role(self, user_id: str, room_id: str, member_id: str, role: Role) -> RoomView:
        """As `Groups.change_role`; the room as it is then."""
        return await self._view_room(user_id, await self._groups.change_role(user_id, room_id, member_id, role))

    async def join(self, user_id: str, room_id: str) -> RoomView:
        """As `Groups.join`; the room as it is then."""
        return await self._view_room(user_id, await self._groups.join(user_id, room_id))

    async def get_room(self, user_id: str, room_id: str) -> RoomView:
        """A room as one of its members sees it. Raises `NotFound` for other users."""
        return await self._view_room(user_id, await self._rooms.access_room(user_id, room_id))

    async def list_chats(self, user_id: str, query: ChatsQuery) -> ChatPage:
        """One page of the list. The cursor is a sort key: rooms that move up later are on an earlier page."""
        after = None if query.cursor is None else _read_cursor(query.cursor)
        rooms = sorted(await self._rooms.of_user(user_id), key=_sort_key, reverse=True)
        if after is not None:
            rooms = [room for room in rooms if _sort_key(room) < after]
        page = rooms[: query.limit]
        peers = {room.id: peer_of(room, user_id) for room in page if room.type == "DIRECT"}
        senders = {room.id: room.last_message.sender_id for room in page if room.last_message is not None}
        people = await self._people.get_many({*peers.values(), *senders.values()})
        online = await self._presence.online(set(peers.values()))
        # A room that was left meanwhile is no longer in the list.
        shown = [room for room in page if user_id in room.members]
        chats = _within_bytes(
            [
                view_chat(
                    room,
                    user_id,
                    peers.get(room.id),
                    people.get(peers.get(room.id, "")),
                    people.get(senders.get(room.id, "")),
                    peers.get(room.id) in online,
                )
                for room in shown
            ]
        )
        last = shown[len(chats) - 1] if len(chats) < len(shown) else page[-1] if len(rooms) > len(page) else None
        return ChatPage(chats=chats, next_cursor=None if last is None else _write_cursor(_sort_key(last)))

    async def _view_room(self, user_id: str, room: RoomState) -> RoomView:
        last = room.last_message
        people = await self._people.get_many([last.sender_id] if last is not None else [])
        if user_id not in room.members:
            raise NotFound("No such room")
        sender_name = "" if last is None else name_of(people.get(last.sender_id))
        pair = pair_of(room, user_id) if room.type == "DIRECT" else None
        return view_room(room, user_id, pair, sender_name, self._identities.known.epoch)


def _within_bytes(chats: list[ChatView]) -> list[ChatView]:
    """The first chats that fit in one page, at least one. Each carries its last message, so sizes vary."""
    if sum(len(chat.last_message or "") for chat in chats) * MAX_BYTES_PER_CHARACTER <= PAGE_BYTES:
        return chats
    left = PAGE_BYTES
    for position, chat in enumerate(chats):
        left -= len(msgspec.json.encode(chat))
        if left < 0 and position > 0:
            return chats[:position]
    return chats


def _sort_key(room: RoomState) -> SortKey:
    moment = room.created_at if room.last_message is None else room.last_message.sent_at
    return room.last_message is not None, round(moment.timestamp() * 1000), room.id


def _write_cursor(sort_key: SortKey) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(sort_key)).decode()


def _read_cursor(cursor: str) -> SortKey:
    try:
        sort_key: SortKey = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=SortKey)
        return sort_key
    except (binascii.Error, ValueError):
        raise ValidationFailed.at("cursor", "is not one that this list gave out") from None
