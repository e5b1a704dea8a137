"""Stored uploads: who may use them, serving them, and removing those that nothing uses."""

import logging
import re
from collections.abc import AsyncIterator, Collection
from typing import Final

import msgspec

from server.errors import ChatError, NotFound, ValidationFailed
from server.file_types import PICTURES, picture_name
from server.storage.blobs import Blob, Blobs
from server.storage.mongo.upload_records import UploadRecord, UploadRecords
from server.storage.mongo.users import Users

__all__ = ["Blob", "ServedFile", "UploadAccess"]

log = logging.getLogger(__name__)

PATH: Final = re.compile(r"/uploads/([0-9a-f]{40})(-thumb)?\.[a-z0-9]{1,10}")
# Types that browsers show without running code. Such files were decoded completely before they were stored.
INLINE: Final = frozenset(kind.mime_type for kind in PICTURES.values())
THUMBNAIL_TYPES: Final = {"jpg": "image/jpeg", "webp": "image/webp"}
# In one sweep; the next one continues.
MAX_REMOVED: Final = 500
RECORDS_PER_READ: Final = 100


class ServedFile(msgspec.Struct, frozen=True):
    """A file to serve. `tag` identifies its content, which never changes; `file_name` is for display."""

    blob_name: str
    tag: str
    mime_type: str
    is_inline: bool
    file_name: str


class UploadAccess:
    def __init__(self, records: UploadRecords, blobs: Blobs, users: Users) -> None:
        self._records = records
        self._blobs = blobs
        self._users = users

    def is_upload(self, url: str) -> bool:
        """Whether `url` has the form of an upload's address; the upload need not exist."""
        return PATH.fullmatch(url) is not None

    async def link(self, user_id: str, url: str, peers: Collection[str], message_id: str) -> None:
        """Use an upload in a message: the user's own, or one that a peer has sent before.

        Raises `ValidationFailed` if it does not exist, is another user's, or is a peer's and in no message yet.
        """
        record = await self._find(url)
        may_use = record is not None and (
            record.owner_id == user_id or (record.in_message and record.owner_id in peers)
        )
        # The record may be claimed for removal in between; then `add_user` returns False.
        if record is None or not may_use or not await self._records.add_user(record.id, message_id):
            raise ValidationFailed.at("attachmentUrl", "must be the path of an upload that you made or were sent")

    async def link_profile(self, user_id: str, url: str) -> None:
        """Use an upload of the user as profile image. Raises `ValidationFailed` if there is none."""
        record = await self._find(url)
        if record is None or not await self._records.use(record.id, user_id):
            raise ValidationFailed.at("profileImage", "must be the path of an upload of yours that exists")

    async def link_copy(self, url: str, message_id: str) -> bool:
        """Use an upload in a copy of a message that uses it. Returns False if it is gone."""
        record = await self._find(url)
        return record is not None and record.in_message and await self._records.add_user(record.id, message_id)

    async def link_room_image(self, user_id: str, url: str, room_id: str) -> None:
        """Use an upload of the user as image of a room. Raises `ValidationFailed` if there is none."""
        record = await self._find(url)
        if record is None or record.owner_id != user_id or not await self._records.add_user(record.id, room_id):
            raise ValidationFailed.at("image", "must be the path of an upload of yours that exists")

    async def release_profile(self, user_id: str, url: str) -> None:
        """The profile shows this no longer: the sweep removes it later, unless a message uses it."""
        found = PATH.fullmatch(url)
        if found is not None:
            await self._records.release(found[1], user_id)

    async def release(self, url: str, user: str) -> None:
        """A message or room, given by its id, uses this no longer. What nothing uses expires; the sweep removes it."""
        found = PATH.fullmatch(url)
        if found is not None:
            await self._records.remove_user(found[1], user)

    async def find(self, path: str) -> ServedFile:
        """The file at an address. Raises `NotFound`."""
        record = await self._find(path)
        if record is None:
            raise NotFound("No such file")
        if path == record.url:
            is_inline = record.mime_type in INLINE
            name = picture_name(record.file_name, record.mime_type) if is_inline else record.file_name
            return ServedFile(record.id, record.id, record.mime_type, is_inline, name)
        stem = record.file_name.rpartition(".")[0] or record.file_name
        name = f"{stem}-thumb.{record.thumbnail}"
        mime_type = THUMBNAIL_TYPES[record.thumbnail or "jpg"]
        return ServedFile(record.thumbnail_blob, record.thumbnail_blob, mime_type, True, name)

    async def open(self, file: ServedFile) -> Blob:
        """Its bytes. Raises `NotFound` if it was just removed, or `Unavailable`."""
        blob = await self._blobs.open(file.blob_name)
        if blob is None:
            raise NotFound("No such file")
        return blob

    async def find_own(self, user_id: str) -> AsyncIterator[UploadRecord]:
        """All uploads of a user, a page at a time."""
        after = ""
        while page := await self._records.find_own(user_id, after, RECORDS_PER_READ):
            for record in page:
                yield record
            after = page[-1].id

    async def open_own(self, record: UploadRecord) -> Blob | None:
        """The bytes of a file; None if it was removed meanwhile."""
        return await self._blobs.open(record.id)

    async def sweep(self) -> None:
        """Remove uploads that nothing used in time, and those that were never stored completely."""
        for record in await self._records.find_expired(MAX_REMOVED):
            if record.state == "ready" and await self._is_profile_image(record):
                await self._records.use(record.id, record.owner_id)
            elif await self._records.claim(record):
                await self._remove(record)

    async def _remove(self, record: UploadRecord) -> None:
        try:
            for name in (record.thumbnail_blob, record.id):
                await self._blobs.remove(name)
            # Last, so that the next sweep retries after a failure.
            await self._records.delete(record.id)
        except ChatError as error:
            log.warning("upload removal deferred error=%s", error)

    async def _is_profile_image(self, record: UploadRecord) -> bool:
        """Whether its owner's profile shows it: concurrent changes of a profile may have released it too early."""
        owner = await self._users.find(record.owner_id)
        if owner is None or owner.profile_image is None:
            # A file without a thumbnail has None for it too.
            return False
        return owner.profile_image in (record.url, record.thumbnail_url)

    async def _find(self, url: str) -> UploadRecord | None:
        """The ready upload with exactly this address, or with this address of its thumbnail."""
        found = PATH.fullmatch(url)
        record = None if found is None else await self._records.find(found[1])
        return record if record is not None and url in (record.url, record.thumbnail_url) else None
