"""Deletes everything that a user has written, if that is to go with the account."""

from typing import Final

from server.errors import NotFound
from server.services.room_log.changes import Changes
from server.services.room_log.ports import Rooms
from server.storage.mongo.messages import MessageStore

SEQS_PER_READ: Final = 500


class Erasure:
    def __init__(self, rooms: Rooms, messages: MessageStore, changes: Changes) -> None:
        self._rooms = rooms
        self._messages = messages
        self._changes = changes

    async def erase(self, user_id: str) -> None:
        """Delete the user's messages in the rooms where they are a member. Can be repeated. Raises `Unavailable`."""
        for room in await self._rooms.of_user(user_id):
            after = room.first_visible(user_id).seq
            while after < room.last_seq:
                for message in await self._messages.read_range(room.id, after, after + SEQS_PER_READ):
                    if message.sender_id == user_id and message.notice is None and message.deleted_at is None:
                        await self._delete(user_id, message.id)
                after += SEQS_PER_READ

    async def _delete(self, user_id: str, message_id: str) -> None:
        try:
            await self._changes.delete(user_id, message_id)
        except NotFound:
            # The room was deleted, or they were removed from it meanwhile.
            return
