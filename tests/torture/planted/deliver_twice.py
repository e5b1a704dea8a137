"""Planted: now and then a message is delivered twice."""

from server.models import Message
from server.room_state import RoomState
from server.services.delivery import Delivery
from tests.torture.planted import serve

deliver_one = Delivery._deliver_one
EVERY = 3


def deliver_some_twice(self: Delivery, room: RoomState, message: Message, sender_name: str) -> None:
    deliver_one(self, room, message, sender_name)
    if message.seq % EVERY == 0:
        room.holds += 1
        deliver_one(self, room, message, sender_name)


if __name__ == "__main__":
    Delivery._deliver_one = deliver_some_twice  # type: ignore[method-assign]
    serve()
