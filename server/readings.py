"""What is read of the server's parts when its metrics are asked for."""

from collections.abc import Callable, Sequence

from server import metrics
from server.metrics import Declared, Values
from server.realtime.hub import Hub
from server.services.delivery.offline_queue_writer import OfflineQueueWriter
from server.services.room_log.in_flight import InFlightRooms
from server.services.room_log.write_queue import WriteQueue
from server.services.rooms.room_loading import RoomLoader
from server.storage.stores import Stores


def readings_of(
    hub: Hub,
    loader: RoomLoader,
    in_flight: InFlightRooms,
    consumers: Sequence[str],
    write_queue: WriteQueue,
    offline_writer: OfflineQueueWriter,
    stores: Stores,
) -> dict[Declared, Callable[[], Values]]:
    """One for each metric of `metrics.READ`. `consumers` are the names of those of the log."""
    database, redis = stores.database, stores.redis
    return {
        metrics.SOCKETS: hub.count_by_transport,
        metrics.ONLINE: lambda: {"": len(hub.user_ids())},
        metrics.ROOMS_CACHED: lambda: {"": loader.cached_rooms},
        metrics.ROOMS_IN_FLIGHT: lambda: {"": len(in_flight)},
        metrics.MESSAGES_WAITING: lambda: {"": write_queue.waiting},
        metrics.OFFLINE_BYTES: lambda: {"": offline_writer.waiting_bytes},
        metrics.UNSENT_BYTES: lambda: {"": hub.unsent.size},
        metrics.STORE_CALLS: lambda: {"mongodb": database.calls, "redis": redis.calls},
        metrics.STORE_FAILURES: lambda: {"mongodb": database.failures, "redis": redis.failures},
        metrics.CONSUMER_LAG: lambda: {consumer: in_flight.count_behind(consumer) for consumer in consumers},
        metrics.STORE_UP: lambda: {"mongodb": database.is_available, "redis": redis.is_available},
    }
