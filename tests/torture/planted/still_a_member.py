"""Planted: who has left goes on hearing what is said, until the server starts anew."""

from server.models import Message
from server.room_state import RoomState
from server.services.delivery.delivery import Delivery
from tests.torture.planted import serve

append, receivers = RoomState.append, RoomState.receivers
is_undelivered = Delivery._is_undelivered
gone: dict[str, set[str]] = {}


def append_and_remember(self: RoomState, message: Message) -> None:
    before = set(self.members)
    append(self, message)
    gone[self.id] = (gone.get(self.id, set()) | before) - self.members.keys()


def receivers_and_former(self: RoomState, message: Message) -> list[str]:
    return [*receivers(self, message), *gone.get(self.id, ())]


def is_undelivered_member(self: Delivery, room: RoomState, message: Message, user_id: str) -> bool:
    return user_id in room.members and is_undelivered(self, room, message, user_id)


if __name__ == "__main__":
    RoomState.append = append_and_remember  # type: ignore[method-assign]
    RoomState.receivers = receivers_and_former  # type: ignore[method-assign]
    Delivery._is_undelivered = is_undelivered_member  # type: ignore[method-assign]
    serve()
