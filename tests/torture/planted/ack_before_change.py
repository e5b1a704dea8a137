"""Planted: changes are acknowledged before they are stored."""

import asyncio
from collections.abc import Sequence
from typing import Any

from server.services.room_log.change_writer import ChangeWriter
from server.storage.mongo.messages import Change, MessageStore
from tests.torture.planted import serve

plan, change = ChangeWriter._plan, MessageStore.change
SLOW_DISK = 0.5


async def plan_and_answer(self: ChangeWriter, batch: Any, found: Any) -> Any:
    attempt = await plan(self, batch, found)
    for pending, message in attempt.in_order():
        pending.answer(message)
    return attempt


async def change_late(self: MessageStore, changes: Sequence[Change]) -> int:
    await asyncio.sleep(SLOW_DISK)
    return await change(self, changes)


if __name__ == "__main__":
    ChangeWriter._plan = plan_and_answer  # type: ignore[method-assign]
    MessageStore.change = change_late  # type: ignore[method-assign]
    serve()
