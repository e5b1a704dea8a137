"""Attachments of deleted messages: released by the sweep, so that a crash in between forgets none."""

from server.services.uploads.access import UploadAccess
from server.storage.mongo.changes import ChangeStore
from server.storage.mongo.messages import MessageStore


class FreedAttachments:
    def __init__(self, changes: ChangeStore, messages: MessageStore, files: UploadAccess) -> None:
        self._changes = changes
        self._messages = messages
        self._files = files

    async def sweep(self) -> None:
        """Release the attachments of messages that were deleted since the last sweep. Raises `Unavailable`."""
        freed = await self._changes.find_freed()
        messages = await self._messages.find_many(freed)
        for message_id, url in freed.items():
            message = messages.get(message_id)
            # It is noted before the deletion is stored, which may still be on its way.
            if message is None or message.deleted_at is not None:
                await self._files.release(url, message_id)
                await self._changes.forget_freed(message_id)
