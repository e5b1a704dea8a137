"""Wires the room log: sending, the writer behind it, its consumers, and recovery after a crash."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from server.config.settings import Settings
from server.failpoints import AFTER_ACK, Failpoints
from server.services.room_log.background_consumer import BackgroundConsumer, LogConsumer
from server.services.room_log.change_writer import ChangeWriter
from server.services.room_log.changes import Changes
from server.services.room_log.consumers import Consumers
from server.services.room_log.erasure import Erasure
from server.services.room_log.in_flight import InFlightRooms
from server.services.room_log.ports import (
    Attachments,
    Consumer,
    Limits,
    MessageAccess,
    People,
    Quotes,
    RoomLoader,
    Rooms,
    RoomSaver,
)
from server.services.room_log.recovery import Recovery
from server.services.room_log.send import Messages
from server.services.room_log.write_queue import WriteQueue
from server.services.room_log.writer import RoomLog
from server.storage.stores import Stores


class RoomLogServices(NamedTuple):
    messages: Messages
    changes: Changes
    erasure: Erasure
    writer: RoomLog
    change_writer: ChangeWriter
    consumers: Consumers
    in_flight: InFlightRooms
    recovery: Recovery


def build_room_log(
    settings: Settings,
    stores: Stores,
    write_queue: WriteQueue,
    rooms: Rooms,
    loader: RoomLoader,
    saver: RoomSaver,
    people: People,
    access: MessageAccess,
    quotes: Quotes,
    attachments: Attachments,
    limits: Limits,
    delivery: Consumer,
    background: Sequence[LogConsumer],
    failpoints: Failpoints,
    note_batch: Callable[[int, float], None],
) -> RoomLogServices:
    """`delivery` and the `background` consumers get every stored message in log order. `note_batch` is called
    with the number of messages of each write.
    """
    in_flight = InFlightRooms(stores.in_flight_journal)
    consumers = Consumers(
        delivery,
        [
            BackgroundConsumer(one, stores.messages, stores.changes, people, loader, in_flight, stores.backfills)
            for one in background
        ],
    )
    change_writer = ChangeWriter(
        stores.messages,
        stores.changes,
        stores.mentions,
        stores.rooms,
        saver.save_room,
        write_queue,
        in_flight,
        consumers.take_changes,
        failpoints,
        max_batch=settings.messages.max_batch,
    )
    changes = Changes(
        access,
        rooms,
        change_writer,
        stores.messages,
        stores.changes,
        people,
        quotes,
        limits,
        max_length=settings.messages.max_length,
        edit_window=settings.messages.edit_window,
    )
    return RoomLogServices(
        Messages(
            rooms, write_queue, people, limits, attachments, access, quotes, max_length=settings.messages.max_length
        ),
        changes,
        Erasure(rooms, stores.messages, changes),
        RoomLog(
            write_queue,
            stores.messages,
            stores.mentions,
            loader.read_tail,
            failpoints.end_before(AFTER_ACK, consumers.take),
            in_flight,
            failpoints,
            note_batch,
            max_batch=settings.messages.max_batch,
        ),
        change_writer,
        consumers,
        in_flight,
        Recovery(stores.in_flight_journal, in_flight, loader, consumers),
    )
