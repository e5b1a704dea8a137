"""Wires the room services: rooms, chat list, history and receipts."""

from collections.abc import Callable
from typing import Final, NamedTuple

from server.concurrency.batcher import Batcher
from server.config.settings import Settings
from server.models import Member
from server.realtime.fan_out import FanOut
from server.room_state import RoomState
from server.services.rooms.chat_list import ChatList
from server.services.rooms.history import History
from server.services.rooms.memberships import Memberships
from server.services.rooms.ports import Limits, Log, People, Presence
from server.services.rooms.receipts import Receipts
from server.services.rooms.rooms import Rooms
from server.storage.stores import Stores

# Messages wait while marks are written: 50 take about 40 ms on the embedded store.
MAX_MARKS: Final = 50


class RoomServices(NamedTuple):
    rooms: Rooms
    chat_list: ChatList
    history: History
    receipts: Receipts
    marks: Batcher[Member]


def build_rooms(
    settings: Settings,
    stores: Stores,
    fan_out: FanOut,
    people: People,
    presence: Presence,
    log: Log,
    limits: Limits,
    on_loaded: Callable[[RoomState], None],
) -> RoomServices:
    """`on_loaded` gets each room that was read to the end of its log."""
    rooms = Rooms(
        stores.rooms,
        stores.members,
        stores.messages,
        people,
        limits,
        Memberships(stores.members, max_cached=settings.rooms.max_cached_people),
        max_cached=settings.rooms.max_cached,
        room_key=lambda: stores.identity.known.room_key,
        on_loaded=on_loaded,
    )
    marks: Batcher[Member] = Batcher(stores.members.save_marks, max_batch=MAX_MARKS)
    return RoomServices(
        rooms,
        ChatList(rooms, people, presence, fan_out, stores.identity),
        History(rooms, people, stores.messages, stores.identity, limits),
        Receipts(rooms, log, stores.messages, marks, fan_out),
        marks,
    )
