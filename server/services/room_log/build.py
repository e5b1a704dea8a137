"""Wires the room log: sending, the writer behind it, its consumers, and recovery after a crash."""

from collections.abc import Sequence
from typing import NamedTuple

from server.config.settings import Settings
from server.failpoints import AFTER_ACK, Failpoints
from server.services.room_log.background_consumer import BackgroundConsumer, LogConsumer
from server.services.room_log.consumers import Consumers
from server.services.room_log.in_flight import InFlightRooms
from server.services.room_log.ports import Attachments, Consumer, Limits, People, Rooms
from server.services.room_log.recovery import Recovery
from server.services.room_log.send import Messages
from server.services.room_log.write_queue import WriteQueue
from server.services.room_log.writer import RoomLog
from server.storage.stores import Stores


class RoomLogServices(NamedTuple):
    messages: Messages
    writer: RoomLog
    consumers: Consumers
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
    delivery: Consumer,
    background: Sequence[LogConsumer],
    failpoints: Failpoints,
) -> RoomLogServices:
    """`delivery` and the `background` consumers get every stored message in log order."""
    in_flight = InFlightRooms(stores.in_flight_journal)
    consumers = Consumers(
        delivery,
        [BackgroundConsumer(one, stores.messages, people, rooms, in_flight, stores.backfills) for one in background],
    )
    return RoomLogServices(
        Messages(rooms, write_queue, people, limits, attachments, max_length=settings.messages.max_length),
        RoomLog(
            write_queue,
            stores.messages,
            rooms.read_tail,
            failpoints.end_before(AFTER_ACK, consumers.take),
            in_flight,
            failpoints,
            max_batch=settings.messages.max_batch,
        ),
        consumers,
        in_flight,
        Recovery(stores.in_flight_journal, in_flight, rooms, consumers),
    )
