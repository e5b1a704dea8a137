"""Planted: senders are answered before their messages are stored."""

import asyncio
from collections.abc import Sequence
from typing import Any

from server.models import Message
from server.services.room_log.pending import SendResult
from server.services.room_log.writer import RoomLog
from server.storage.mongo.messages import MessageStore
from tests.torture.planted import serve

number, insert = RoomLog._number, MessageStore.insert
SLOW_DISK = 0.02


def number_and_answer(self: RoomLog, batch: Sequence[Any]) -> list[Message]:
    messages = number(self, batch)
    for entry, message in zip(batch, messages, strict=True):
        if not entry.result.done():
            entry.result.set_result(SendResult(message, is_new=True))
    return messages


async def insert_late(self: MessageStore, messages: Sequence[Message]) -> int:
    await asyncio.sleep(SLOW_DISK)
    return await insert(self, messages)


if __name__ == "__main__":
    RoomLog._number = number_and_answer  # type: ignore[method-assign]
    MessageStore.insert = insert_late  # type: ignore[method-assign]
    serve()
