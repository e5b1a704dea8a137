"""Planted: now and then a message is delivered twice."""

from server.room_state import StoredMessage
from server.services.delivery.delivery import Delivery
from tests.torture.planted import serve

deliver_one = Delivery._deliver_one
EVERY = 3


def deliver_some_twice(self: Delivery, stored: StoredMessage) -> None:
    deliver_one(self, stored)
    if stored.message.seq % EVERY == 0:
        stored.room.pins += 1
        deliver_one(self, stored)


if __name__ == "__main__":
    Delivery._deliver_one = deliver_some_twice  # type: ignore[method-assign]
    serve()
