"""Planted: all changes of a room that are stored together get one number."""

from collections.abc import Sequence
from typing import Any

import msgspec

from server.services.room_log.change_writer import ChangeWriter, _Step
from tests.torture.planted import serve


async def number_alike(self: ChangeWriter, attempt: Any, room_id: str, steps: Sequence[_Step]) -> None:
    last = await self._rooms.take_revs(room_id, 0, 0) or 0
    for pending, after in steps:
        attempt.add(_Step(pending, msgspec.structs.replace(after, rev=last + 1)))


if __name__ == "__main__":
    ChangeWriter._number = number_alike  # type: ignore[method-assign]
    serve()
