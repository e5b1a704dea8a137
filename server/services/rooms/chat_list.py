"""The list of chats, latest first, and single rooms as their members see them."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from server.errors import NotFound
from server.events import ROOM_NEW
from server.models import Role
from server.protocol import ChatPage, ChatView, RoomView, UnreadSum
from server.realtime.fan_out import FanOut
from server.requests import ChatsQuery, GroupRequest, RoomPatch, RoomRequest
from server.room_state import RoomState
from server.services.rooms.chat_settings import DEFAULT, OwnChatSettings
from server.services.rooms.cursor import read_cursor, write_cursor
from server.services.rooms.direct import pair_of, peer_of
from server.services.rooms.group_creation import GroupCreation
from server.services.rooms.groups import Groups
from server.services.rooms.message_access import Quotes
from server.services.rooms.ports import People, Presence
from server.services.rooms.rooms import Rooms
from server.storage.mongo.identity import IdentityStore
from server.storage.mongo.mentions import MentionStore
from server.views import name_of, view_chat, view_room

# A page of the list that would be larger ends early.
PAGE_BYTES: Final = 2 * 1024 * 1024
# An upper bound for JSON.
MAX_BYTES_PER_CHARACTER: Final = 12


class SortKey(NamedTuple):
    """Rooms with a message come before those without; then by time; then by id, so that the order is total."""

    has_message: bool
    milliseconds: int
    room_id: str


class ChatList:
    def __init__(
        self,
        rooms: Rooms,
        creation: GroupCreation,
        groups: Groups,
        people: People,
        presence: Presence,
        quotes: Quotes,
        mentions: MentionStore,
        fan_out: FanOut,
        identities: IdentityStore,
        settings: OwnChatSettings,
    ) -> None:
        self._rooms = rooms
        self._creation = creation
        self._groups = groups
        self._people = people
        self._presence = presence
        self._quotes = quotes
        self._mentions = mentions
        self._fan_out = fan_out
        self._identities = identities
        self._settings = settings

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
        room, is_new = await self._creation.create(user_id, request)
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
        after = None if query.cursor is None else read_cursor(query.cursor, SortKey)
        rooms = sorted(await self._rooms.of_user(user_id), key=_sort_key, reverse=True)
        if query.booking_id is not None:
            rooms = [room for room in rooms if room.booking_id == query.booking_id]
        if after is not None:
            rooms = [room for room in rooms if _sort_key(room) < after]
        page = rooms[: query.limit]
        shown = await self._view_chats(user_id, page)
        chats = _within_bytes([chat for _, chat in shown])
        last = shown[len(chats) - 1][0] if len(chats) < len(shown) else page[-1] if len(rooms) > len(page) else None
        return ChatPage(chats=chats, next_cursor=None if last is None else write_cursor(_sort_key(last)))

    async def get_chat(self, user_id: str, room_id: str) -> ChatView:
        """One line of the list. Raises `NotFound` for rooms of others."""
        shown = await self._view_chats(user_id, [await self._rooms.access_room(user_id, room_id)])
        if not shown:
            raise NotFound("No such room")
        return shown[0][1]

    async def sum_unread(self, user_id: str) -> UnreadSum:
        """What is unread in all rooms together."""
        rooms = await self._rooms.of_user(user_id)
        mentions = await self._count_mentions(user_id, rooms)
        unread = [count for room in rooms if (count := room.unread(user_id))]
        return UnreadSum(sum(unread), sum(mentions.values()), len(unread))

    async def _view_chats(self, user_id: str, page: Sequence[RoomState]) -> list[tuple[RoomState, ChatView]]:
        peers = {room.id: peer_of(room, user_id) for room in page if room.type == "DIRECT"}
        senders = {room.id: room.last_message.sender_id for room in page if room.last_message is not None}
        people = await self._people.get_many({*peers.values(), *senders.values()})
        apart = page[0].apart_from(user_id) if page else frozenset[str]()
        online = await self._presence.online(set(peers.values()) - apart)
        settings = await self._settings.find(user_id, [room.id for room in page])
        mentions = await self._count_mentions(user_id, page)
        return [
            (
                room,
                view_chat(
                    room,
                    user_id,
                    peers.get(room.id),
                    people.get(peers.get(room.id, "")),
                    people.get(senders.get(room.id, "")),
                    peers.get(room.id) in online,
                    mentions.get(room.id, 0),
                    settings.get(room.id, DEFAULT),
                ),
            )
            for room in page
            # A room that was left meanwhile is no longer in the list.
            if user_id in room.members
        ]

    async def _view_room(self, user_id: str, room: RoomState) -> RoomView:
        last = room.last_message
        people = await self._people.get_many([last.sender_id] if last is not None else [])
        quotes = await self._quotes.find([last] if last is not None else [])
        if user_id not in room.members:
            raise NotFound("No such room")
        sender_name = "" if last is None else name_of(people.get(last.sender_id))
        pair = pair_of(room, user_id) if room.type == "DIRECT" else None
        quote = None if last is None else room.show_quote(user_id, quotes.get(last.reply_to or ""))
        return view_room(room, user_id, pair, sender_name, self._identities.known.epoch, quote)

    async def _count_mentions(self, user_id: str, rooms: Sequence[RoomState]) -> dict[str, int]:
        """The number of unread messages that mention the user, by room. Rooms without any cost nothing."""
        after = {room.id: room.read_upto(user_id) for room in rooms if user_id in room.members}
        wanted = {room.id: after[room.id] for room in rooms if room.last_mention > after.get(room.id, room.last_seq)}
        return await self._mentions.count(user_id, wanted) if wanted else {}


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
    return SortKey(room.last_message is not None, round(moment.timestamp() * 1000), room.id)
