"""Resolves references on offline queues: reads the messages from the log."""

from collections.abc import Mapping, Sequence

import msgspec

from server.room_state import RoomState
from server.services.delivery.entries import Queued, WaitingEntry, consecutive_runs
from server.services.delivery.ports import People, Quotes
from server.storage.mongo.messages import MessageStore, Range
from server.storage.redis.offline_queues import Entry
from server.views import name_of, view_message


class References:
    def __init__(self, messages: MessageStore, people: People, quotes: Quotes) -> None:
        self._messages = messages
        self._people = people
        self._quotes = quotes

    async def resolve(
        self, user_id: str, rooms: Mapping[str, RoomState], waiting: Sequence[WaitingEntry]
    ) -> dict[tuple[str, int], WaitingEntry]:
        """The entries by place, with references replaced by messages. References that the log lacks are omitted.

        One query for all rooms. Raises `Unavailable`.
        """
        found = {item.head.place: item for item in waiting if not item.is_reference}
        names: dict[str, dict[int, bytes]] = {}
        for item in waiting:
            if item.is_reference:
                names.setdefault(item.head.room_id, {})[item.head.seq] = item.entry.name
        ranges = [
            Range(room_id, first - 1, last) for room_id, seqs in names.items() for first, last in consecutive_runs(seqs)
        ]
        messages = await self._messages.read_ranges(ranges)
        senders = await self._people.get_many({message.sender_id for message in messages})
        quotes = await self._quotes.find(messages)
        for message in messages:
            room, quote = rooms.get(message.room_id), quotes.get(message.reply_to or "")
            if room is None or user_id not in room.members:
                continue
            view = view_message(
                message, name_of(senders.get(message.sender_id)), False, user_id, room.show_quote(user_id, quote)
            )
            head = Queued(message.room_id, message.seq, message.id)
            name = names[message.room_id][message.seq]
            found[head.place] = WaitingEntry(Entry(name, msgspec.json.encode(view)), head)
        return found
