"""Wires delivery: live delivery, offline queues, and their refill after Redis lost them."""

from collections.abc import Callable
from typing import NamedTuple

from server.config.settings import Settings
from server.failpoints import Failpoints
from server.realtime.hub import Hub
from server.room_state import StoredMessage
from server.services.delivery.delivery import Delivery
from server.services.delivery.lost_queues import LostQueues
from server.services.delivery.offline_queue import OfflineQueue
from server.services.delivery.offline_queue_writer import OfflineQueueWriter
from server.services.delivery.ports import People, Quotes, Receipts, RoomLoader, Rooms, RoomSaver
from server.services.delivery.references import References
from server.services.delivery.unconfirmed import Unconfirmed
from server.storage.stores import Stores


class DeliveryServices(NamedTuple):
    delivery: Delivery
    offline_queue: OfflineQueue
    offline_writer: OfflineQueueWriter
    unconfirmed: Unconfirmed
    lost_queues: LostQueues


def build_delivery(
    settings: Settings,
    stores: Stores,
    hub: Hub,
    rooms: Rooms,
    loader: RoomLoader,
    saver: RoomSaver,
    people: People,
    quotes: Quotes,
    receipts: Receipts,
    end_typing: Callable[[str, str], None],
    announce: Callable[[StoredMessage], None],
    failpoints: Failpoints,
) -> DeliveryServices:
    """`end_typing` is called with the sender and the room of every message.

    `announce` is called with every notice before it is sent.
    """
    limits = settings.offline_queue
    writer = OfflineQueueWriter(stores.offline_queues, lambda user_ids: offline_queue.flush_to(user_ids), failpoints)
    lost_queues = LostQueues(
        stores.offline_queues,
        stores.rooms,
        loader,
        saver,
        stores.messages,
        hub,
        writer,
        stores.identity,
        retention=limits.retention,
        max_messages=limits.max_messages,
    )
    offline_queue = OfflineQueue(
        stores.offline_queues,
        writer,
        lost_queues,
        rooms,
        References(stores.messages, people, quotes),
        receipts,
        hub,
        failpoints,
        retention=limits.retention,
    )
    unconfirmed = Unconfirmed(hub, writer)
    return DeliveryServices(
        Delivery(hub, writer, unconfirmed, stores.messages, people, quotes, end_typing, announce),
        offline_queue,
        writer,
        unconfirmed,
        lost_queues,
    )
