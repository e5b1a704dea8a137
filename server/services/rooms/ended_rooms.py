"""Deletes rooms for everybody: at once for users, then part by part what they held."""

from server.room_state import RoomState
from server.services.rooms.memberships import Memberships
from server.services.rooms.ports import Attachments
from server.services.rooms.room_cache import RoomCache
from server.storage.mongo.changes import ChangeStore
from server.storage.mongo.chat_settings import ChatSettingsStore
from server.storage.mongo.mentions import MentionStore
from server.storage.mongo.messages import MessageStore
from server.storage.mongo.rooms import MemberStore, RoomStore


class EndedRooms:
    """A deleted room is written down first, so that `purge` goes on after a crash."""

    def __init__(
        self,
        rooms: RoomStore,
        members: MemberStore,
        messages: MessageStore,
        changes: ChangeStore,
        mentions: MentionStore,
        settings: ChatSettingsStore,
        attachments: Attachments,
        cache: RoomCache,
        memberships: Memberships,
    ) -> None:
        self._rooms = rooms
        self._members = members
        self._messages = messages
        self._changes = changes
        self._mentions = mentions
        self._settings = settings
        self._attachments = attachments
        self._cache = cache
        self._memberships = memberships

    async def end(self, state: RoomState) -> None:
        """Delete a room for everybody. Returns once it is gone for good; what it held is removed by `purge`."""
        # First, so that nothing more is stored in it.
        state.is_ended = True
        try:
            await self._rooms.end(state.id, state.details.image)
        except BaseException:
            state.is_ended = False
            raise
        state.is_changed = False
        self._cache.remove(state.id)
        self._memberships.forget(state.id, state.members)

    async def purge(self) -> None:
        """Remove messages and members of deleted rooms, a part at a time. Raises `Unavailable`."""
        for room_id, image in (await self._rooms.find_ended()).items():
            if image is not None:
                await self._attachments.release(image, room_id)
            while some := await self._messages.find_some(room_id):
                for message in some:
                    if message.attachment_url is not None:
                        await self._attachments.release(message.attachment_url, message.id)
                removed = [message.id for message in some]
                await self._changes.remove(removed)
                await self._mentions.remove(removed)
                await self._messages.remove(removed)
            await self._members.remove_all(room_id)
            await self._settings.remove_room(room_id)
            await self._rooms.forget_ended(room_id)
