"""Wires the room log: sending, the writer behind it, and recovery after a crash."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from server.config.settings import Settings
from server.failpoints import AFTER_ACK, Failpoints
from server.room_state import StoredMessage
from server.services.room_log.in_flight import InFlightRooms
from server.services.room_log.ports import Attachments, Limits, People, Rooms
from server.services.room_log.recovery import Recovery
from server.services.room_log.send import Messages
from server.services.room_log.write_queue import WriteQueue
from server.services.room_log.writer import RoomLog
from server.storage.stores import Stores


class RoomLogServices(NamedTuple):
    messages: Messages
    writer: RoomLog
    in_flight: InFlightRooms
    recovery: Recovery


def build_room_log(
    settings: Settings,
    stores: Stores,
    write_queue: WriteQueue,
    rooms: Rooms,
    people: People,
    attachments: Attachments,
    limits: Limits,
    deliver: Callable[[Sequence[StoredMessage]], None],
    wait_enqueued: Callable[[], Awaitable[None]],
    failpoints: Failpoints,
) -> RoomLogServices:
    """`deliver` gets every stored message in log order. `wait_enqueued` waits until what it enqueued is written."""
    in_flight = InFlightRooms(stores.in_flight_journal)
    return RoomLogServices(
        Messages(rooms, write_queue, people, limits, attachments, max_length=settings.messages.max_length),
        RoomLog(
            write_queue,
            stores.messages,
            rooms.read_tail,
            failpoints.end_before(AFTER_ACK, deliver),
            in_flight,
            failpoints,
            max_batch=settings.messages.max_batch,
        ),
        in_flight,
        Recovery(stores.in_flight_journal, in_flight, rooms, people, deliver, wait_enqueued),
    )
