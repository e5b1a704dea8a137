"""Receives uploads in chunks within their limits, detects their type, and stores them."""

import asyncio
import secrets
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from server.bounds import PURPOSE_LENGTH
from server.config.settings import Uploads as UploadSettings
from server.errors import PayloadTooLarge, Unavailable, UnsupportedMediaType, ValidationFailed
from server.file_types import BINARY, HEAD_BYTES, PICTURES, FileKind, choose_extension, clean_name, detect_kind
from server.protocol import UploadView
from server.services.uploads.images import Image, ImageWorkers
from server.services.uploads.ports import Limits
from server.services.uploads.quota import Quota
from server.storage.blobs import Blobs
from server.storage.disk.spool import Spool, SpoolFile
from server.storage.mongo.upload_records import UploadRecord, UploadRecords

ID_BYTES: Final = 20  # 160 bits: an address cannot be guessed
FileType = Literal["IMAGE", "FILE"]


class Arrived(msgspec.Struct, frozen=True):
    """The detected type of a complete file."""

    kind: FileKind
    type: FileType
    picture: Image | None


class Uploads:
    """`begin` returns an `Upload` for `write` and `finish`; `abandon` drops it."""

    def __init__(
        self,
        settings: UploadSettings,
        spool: Spool,
        blobs: Blobs,
        records: UploadRecords,
        images: ImageWorkers,
        limits: Limits,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._blobs = blobs
        self._records = records
        self._images = images
        self._limits = limits
        self.quota = Quota(records, settings.quota)
        self._abandoned: set[asyncio.Task[None]] = set()

    async def begin(self, user_id: str) -> "Upload":
        """Start an upload of this user.

        Raises `RateLimited` after too many uploads, `PayloadTooLarge` if the quota is used up, or `Unavailable`.
        """
        await self._limits.check_upload(user_id)
        await self.quota.enter(user_id)
        try:
            return Upload(self, user_id, await self._spool.create())
        except BaseException:
            self.quota.leave(user_id, 0)
            raise

    def check_size(self, head: bytes, size: int) -> None:
        """Raises `PayloadTooLarge` if `size` is over the limit for files that begin with `head`."""
        is_picture = detect_kind(head).is_picture
        limit = self._settings.max_image if is_picture else self._settings.max_file
        if size > limit:
            raise PayloadTooLarge.over("A picture" if is_picture else "A file", limit)

    async def examine(self, user_id: str, file: SpoolFile, head: bytes, asked: str | None, thumbnail: Path) -> Arrived:
        """What the file is. Raises `ValidationFailed` at `type`, `UnsupportedMediaType` for a damaged picture, and
        `RateLimited` or `Unavailable` if too many pictures wait, of this user or in all."""
        kind = detect_kind(head)
        if not kind.is_picture:
            if asked == "IMAGE":
                raise ValidationFailed.at("type", "the file is no PNG, JPEG, WebP or GIF picture")
            return Arrived(kind, "FILE", None)
        try:
            picture = await self._images.examine(user_id, file.path, thumbnail)
        except UnsupportedMediaType:
            # As a FILE even a damaged picture is accepted; it is never shown as a picture.
            if asked != "FILE":
                raise
            return Arrived(BINARY, "FILE", None)
        return Arrived(PICTURES[picture.format], "FILE" if asked == "FILE" else "IMAGE", picture)

    async def store(self, record: UploadRecord, file: SpoolFile, thumbnail: Path) -> None:
        """Store record and bytes. When this returns, they survive a crash of every process."""
        await self._records.insert(record)
        await self._blobs.put(record.id, file.path)
        if record.thumbnail is not None:
            await self._blobs.put(record.thumbnail_blob, thumbnail)
        if not await self._records.set_ready(record.id):
            raise Unavailable("Storing the file took too long")
        self.quota.add_stored(record.owner_id, record.size)

    def new_thumbnail_path(self) -> Path:
        return self._spool.new_path()

    async def remove_spooled(self, path: Path) -> None:
        await self._spool.remove(path)

    def abandon(self, upload: "Upload") -> None:
        """Discard an unfinished upload in the background; a finished one is left alone."""
        task = asyncio.get_running_loop().create_task(upload.discard())
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def wait_empty(self) -> None:
        """Wait until all abandoned uploads are discarded."""
        await asyncio.gather(*self._abandoned, return_exceptions=True)


class Upload:
    """One arriving file. Concurrent calls are serialized."""

    def __init__(self, uploads: Uploads, user_id: str, file: SpoolFile) -> None:
        self._uploads = uploads
        self._user_id = user_id
        self._file = file
        self._thumbnail = uploads.new_thumbnail_path()
        self._head = b""
        self._size = 0
        self._is_over = False
        self._lock = asyncio.Lock()

    async def write(self, data: bytes) -> None:
        """Add bytes. Raises `PayloadTooLarge` as soon as they exceed a limit, `Unavailable` for a full disk."""
        async with self._lock:
            if self._is_over:
                return
            if len(self._head) < HEAD_BYTES:
                self._head += data[: HEAD_BYTES - len(self._head)]
            self._uploads.check_size(self._head, self._size + len(data))
            self._uploads.quota.reserve(self._user_id, len(data))
            self._size += len(data)
            await self._file.write(data)

    async def finish(self, file_name: bytes, asked_type: str | None, purpose: str | None) -> UploadView:
        """Store the complete file.

        Raises `ValidationFailed`, `UnsupportedMediaType`, `RateLimited` or `Unavailable`.
        """
        _check_fields(asked_type, purpose)
        if self._size == 0:
            raise ValidationFailed.at("file", "must not be empty")
        async with self._lock:
            if self._is_over:
                raise ValidationFailed.at("file", "is cut short")
            await self._file.finish()
            arrived = await self._uploads.examine(self._user_id, self._file, self._head, asked_type, self._thumbnail)
            record = self._describe(arrived, file_name, purpose)
            await self._uploads.store(record, self._file, self._thumbnail)
        await self.discard()
        return view_upload(record)

    async def discard(self) -> None:
        """Remove its temporary files; stored files stay."""
        async with self._lock:
            if self._is_over:
                return
            self._is_over = True
            self._uploads.quota.leave(self._user_id, self._size)
            await self._file.discard()
            await self._uploads.remove_spooled(self._thumbnail)

    def _describe(self, arrived: Arrived, file_name: bytes, purpose: str | None) -> UploadRecord:
        kind, picture = arrived.kind, arrived.picture
        name = clean_name(file_name, kind.extension)
        return UploadRecord(
            id=secrets.token_hex(ID_BYTES),
            owner_id=self._user_id,
            file_name=name,
            mime_type=kind.mime_type,
            size=self._size,
            type=arrived.type,
            extension=choose_extension(kind, name),
            purpose=purpose,
            width=None if picture is None else picture.width,
            height=None if picture is None else picture.height,
            thumbnail=None if picture is None else picture.thumbnail,
        )


def view_upload(record: UploadRecord) -> UploadView:
    """The upload as its owner sees it."""
    extra: dict[str, Any] = {}
    if record.thumbnail is not None:
        extra = {"width": record.width, "height": record.height, "thumbnail_url": record.thumbnail_url}
    return UploadView(
        file_id=record.id,
        file_url=record.url,
        file_name=record.file_name,
        mime_type=record.mime_type,
        size=record.size,
        type=record.type,
        purpose=record.purpose,
        **extra,
    )


def _check_fields(asked_type: str | None, purpose: str | None) -> None:
    if asked_type not in (None, "IMAGE", "FILE"):
        raise ValidationFailed.at("type", "must be IMAGE or FILE")
    if purpose is not None and len(purpose) > PURPOSE_LENGTH:
        raise ValidationFailed.at("purpose", f"must hold at most {PURPOSE_LENGTH} characters")
