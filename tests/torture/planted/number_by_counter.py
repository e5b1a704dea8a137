"""Planted: places are taken from a counter in the database (`$inc`) before the messages are stored."""

import asyncio
from collections.abc import Sequence

import msgspec

from server.models import Message
from server.storage.mongo.messages import MessageStore
from tests.torture.planted import serve

insert = MessageStore.insert
SLOW_DISK = 0.02


async def count_and_insert(self: MessageStore, messages: Sequence[Message]) -> int:
    counters = self._database.collection("planted_counters")
    numbered = []
    for message in messages:
        counter = await counters.find_one_and_update(
            {"_id": message.room_id}, {"$inc": {"seq": 1}}, upsert=True, return_document=True
        )
        numbered.append(msgspec.structs.replace(message, seq=counter["seq"]))
    await asyncio.sleep(SLOW_DISK)
    return await insert(self, numbered)


if __name__ == "__main__":
    MessageStore.insert = count_and_insert  # type: ignore[method-assign]
    serve()
