"""Planted: changes after the first of a batch are told to nobody, and the next ones hide it."""

from collections.abc import Sequence

from server.room_state import StoredChange
from server.services.delivery.delivery import Delivery
from tests.torture.planted import serve

take_changes = Delivery.take_changes
last_told: dict[str, int] = {}


def take_some(self: Delivery, stored: Sequence[StoredChange]) -> None:
    for number, one in enumerate(stored):
        if one.message.rev % 5 == 0 or number > 0:
            continue
        take_changes(self, [one._replace(prev_rev=last_told.get(one.room.id, one.prev_rev))])
        last_told[one.room.id] = one.message.rev


if __name__ == "__main__":
    Delivery.take_changes = take_some  # type: ignore[method-assign]
    serve()
