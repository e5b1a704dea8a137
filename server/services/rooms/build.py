"""Wires the room services: rooms, chat list, history and receipts."""

from collections.abc import Callable
from typing import Final, NamedTuple

from server.blocks import BlockIndex
from server.concurrency.batcher import Batcher
from server.config.settings import Settings
from server.models import Member
from server.realtime.fan_out import FanOut
from server.room_state import Bounds, RoomState
from server.services.rooms.chat_list import ChatList
from server.services.rooms.chat_settings import OwnChatSettings
from server.services.rooms.ended_rooms import EndedRooms
from server.services.rooms.group_creation import GroupCreation
from server.services.rooms.groups import Groups
from server.services.rooms.history import History
from server.services.rooms.log_reading import LogReader
from server.services.rooms.member_list import MemberList
from server.services.rooms.memberships import Memberships
from server.services.rooms.message_access import MessageAccess, Quotes
from server.services.rooms.open_rooms import OpenRooms
from server.services.rooms.ports import Attachments, Limits, Log, Notices, People, Presence
from server.services.rooms.receipts import Receipts
from server.services.rooms.room_cache import RoomCache
from server.services.rooms.room_events import RoomEvents
from server.services.rooms.room_loading import RoomLoader
from server.services.rooms.room_saving import RoomSaver
from server.services.rooms.rooms import Rooms
from server.services.rooms.sync import Sync
from server.storage.stores import Stores

# Messages wait while marks are written: 50 take about 40 ms on the embedded store.
MAX_MARKS: Final = 50


class RoomServices(NamedTuple):
    rooms: Rooms
    loader: RoomLoader
    saver: RoomSaver
    ended: EndedRooms
    chat_list: ChatList
    chat_settings: OwnChatSettings
    groups: Groups
    member_list: MemberList
    history: History
    sync: Sync
    receipts: Receipts
    marks: Batcher[Member]
    events: RoomEvents
    access: MessageAccess
    quotes: Quotes
    open_rooms: OpenRooms


def build_rooms(
    settings: Settings,
    stores: Stores,
    fan_out: FanOut,
    people: People,
    presence: Presence,
    log: Log,
    limits: Limits,
    notices: Notices,
    attachments: Attachments,
    on_loaded: Callable[[RoomState], None],
    blocks: BlockIndex,
) -> RoomServices:
    """`on_loaded` gets each room that was read to the end of its log."""
    events = RoomEvents(fan_out, stores.identity)

    def room_key() -> bytes:
        return stores.identity.known.room_key

    cache = RoomCache(settings.rooms.max_cached)
    memberships = Memberships(stores.members, max_cached=settings.rooms.max_cached_people)
    loader = RoomLoader(
        stores.rooms,
        stores.members,
        stores.messages,
        stores.changes,
        stores.mentions,
        cache,
        memberships,
        bounds=Bounds(settings.receipts.max_members, settings.presence.max_members, settings.offline_queue.max_members),
        blocks=blocks,
        on_loaded=on_loaded,
    )
    saver = RoomSaver(stores.rooms, stores.members, cache, memberships)
    ended = EndedRooms(
        stores.rooms,
        stores.members,
        stores.messages,
        stores.changes,
        stores.mentions,
        stores.chat_settings,
        attachments,
        cache,
        memberships,
    )
    rooms = Rooms(
        stores.rooms,
        stores.members,
        people,
        limits,
        loader,
        memberships,
        blocks,
        room_key=room_key,
    )
    groups = Groups(
        rooms,
        loader,
        saver,
        ended,
        notices,
        people,
        attachments,
        events,
        blocks,
        stores.chat_settings,
        max_members=settings.rooms.max_members,
    )
    creation = GroupCreation(
        rooms,
        notices,
        people,
        limits,
        attachments,
        blocks,
        max_members=settings.rooms.max_members,
        room_key=room_key,
    )
    marks: Batcher[Member] = Batcher(stores.members.save_marks, max_batch=MAX_MARKS)
    access, quotes = MessageAccess(rooms, log, stores.messages), Quotes(log, stores.messages, people)
    chat_settings = OwnChatSettings(rooms, stores.chat_settings, fan_out)
    log_reader = LogReader(people, stores.messages, quotes, limits)
    return RoomServices(
        rooms,
        loader,
        saver,
        ended,
        ChatList(
            rooms, creation, groups, people, presence, quotes, stores.mentions, fan_out, stores.identity, chat_settings
        ),
        chat_settings,
        groups,
        MemberList(rooms, people),
        History(rooms, log_reader, limits),
        Sync(rooms, log_reader, stores.messages, stores.changes, stores.identity, limits),
        Receipts(rooms, access, stores.messages, marks, fan_out),
        marks,
        events,
        access,
        quotes,
        OpenRooms(loader, stores.rooms),
    )
