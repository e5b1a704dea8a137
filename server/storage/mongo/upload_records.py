"""Upload metadata: owner, type, state, and whether the upload is in use."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from server.models import now
from server.storage.mongo.database import Database

State = Literal["pending", "ready", "removing"]
# Upload timeout: an upload that is pending for longer has failed and is removed.
PENDING: Final = timedelta(minutes=30)


class UploadRecord(msgspec.Struct, frozen=True):
    """`expires_at` is when it may be removed; None while a message or a profile uses it.

    `in_message` is whether messages or rooms use it; the collection holds their ids.
    `extension` and `thumbnail` (the extension of the thumbnail, if there is one) have no dot.
    """

    id: str
    owner_id: str
    file_name: str
    mime_type: str
    size: int
    type: Literal["IMAGE", "FILE"]
    extension: str
    purpose: str | None = None
    width: int | None = None
    height: int | None = None
    thumbnail: str | None = None
    state: State = "pending"
    in_message: bool = False
    expires_at: datetime | None = None

    @property
    def url(self) -> str:
        return f"/uploads/{self.id}.{self.extension}"

    @property
    def thumbnail_url(self) -> str | None:
        return None if self.thumbnail is None else f"/uploads/{self.thumbnail_blob}.{self.thumbnail}"

    @property
    def thumbnail_blob(self) -> str:
        """The blob name of the thumbnail; that of the file is its id."""
        return f"{self.id}-thumb"


FIELDS: Final = {
    "owner_id": "ownerId",
    "file_name": "fileName",
    "mime_type": "mimeType",
    "size": "size",
    "type": "type",
    "extension": "extension",
    "purpose": "purpose",
    "width": "width",
    "height": "height",
    "thumbnail": "thumbnail",
    "state": "state",
    "in_message": "inMessage",
}


class UploadRecords:
    """The collection `uploads`. A record is written before its blob, so that no blob is without a record.

    It is `pending` until the blob is stored, then `ready`, and `removing` during its removal.
    """

    def __init__(self, database: Database, orphan_ttl: float) -> None:
        self._database = database
        self._uploads: Any = database.collection("uploads")
        self._orphan_ttl = timedelta(milliseconds=round(orphan_ttl * 1000))

    async def prepare(self) -> None:
        await self._database.run(self._uploads.create_index, "ownerId", name="owner")
        await self._database.run(self._uploads.create_index, "expiresAt", sparse=True, name="expiry")

    async def insert(self, record: UploadRecord) -> None:
        """Store a record as pending."""
        document = {"_id": record.id, **{stored: getattr(record, name) for name, stored in FIELDS.items()}}
        document |= {"createdAt": now(), "expiresAt": now() + PENDING}
        await self._database.run(self._uploads.insert_one, document)

    async def set_ready(self, upload_id: str) -> bool:
        """Mark an upload as ready. Returns False if it is no longer pending, after the upload timeout."""
        changes = {"$set": {"state": "ready", "expiresAt": now() + self._orphan_ttl}}
        return await self._update({"_id": upload_id, "state": "pending"}, changes)

    async def find(self, upload_id: str) -> UploadRecord | None:
        """The record, if it is ready."""
        found = await self._database.run(self._uploads.find_one, {"_id": upload_id, "state": "ready"})
        return None if found is None else _record(found)

    async def use(self, upload_id: str, owner_id: str) -> bool:
        """Mark it as in use by its owner's profile, so that it does not expire.

        Returns False if it is missing, not ready or not owned.
        """
        known = {"_id": upload_id, "ownerId": owner_id, "state": "ready"}
        return await self._update(known, {"$unset": {"expiresAt": ""}})

    async def release(self, upload_id: str, owner_id: str) -> None:
        """The profile of its owner uses it no longer: it expires, unless a message uses it."""
        known = {"_id": upload_id, "ownerId": owner_id, "state": "ready", "inMessage": False}
        await self._update(known, {"$set": {"expiresAt": now() + self._orphan_ttl}})

    async def add_user(self, upload_id: str, user: str) -> bool:
        """A message or a room, given by its id, uses it: it does not expire. Returns False if it is not there."""
        changes = {"$addToSet": {"users": user}, "$set": {"inMessage": True}, "$unset": {"expiresAt": ""}}
        return await self._update({"_id": upload_id, "state": "ready"}, changes)

    async def remove_user(self, upload_id: str, user: str) -> None:
        """A message or a room uses it no longer. It expires if none does. Repeated, it changes nothing."""
        known = {"_id": upload_id, "state": "ready", "inMessage": True}
        await self._update({**known, "users": user}, {"$pull": {"users": user}})
        await self._update(
            {**known, "users": []}, {"$set": {"inMessage": False, "expiresAt": now() + self._orphan_ttl}}
        )

    async def find_expired(self, limit: int) -> list[UploadRecord]:
        """At most `limit` expired records, of any state."""
        cursor = self._uploads.find({"expiresAt": {"$lt": now()}}).limit(limit)
        return [_record(document) for document in await self._database.run(cursor.to_list, None)]

    async def claim(self, record: UploadRecord) -> bool:
        """Mark an expired record as `removing`: it cannot be used then. Returns False if it came into use meanwhile."""
        return await self._update({"_id": record.id, "expiresAt": record.expires_at}, {"$set": {"state": "removing"}})

    async def delete(self, upload_id: str) -> None:
        await self._database.run(self._uploads.delete_one, {"_id": upload_id})

    async def find_own(self, owner_id: str, after: str, limit: int) -> list[UploadRecord]:
        """The next ready uploads of a user, in the order of their ids. An empty `after` begins."""
        query = {"ownerId": owner_id, "state": "ready", "_id": {"$gt": after}}
        documents = await self._database.run(self._uploads.find(query).sort("_id", 1).limit(limit).to_list, None)
        return [_record(document) for document in documents]

    async def usage(self, owner_id: str) -> int:
        """Total bytes of all uploads of one user."""
        pipeline = [{"$match": {"ownerId": owner_id}}, {"$group": {"_id": None, "bytes": {"$sum": "$size"}}}]
        sums = await self._database.run(self._uploads.aggregate(pipeline).to_list, None)
        return int(sums[0]["bytes"]) if sums else 0

    async def _update(self, known: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
        result = await self._database.run(self._uploads.update_one, known, changes)
        return bool(result.matched_count)


def _record(document: dict[str, Any]) -> UploadRecord:
    fields: dict[str, Any] = {name: document.get(stored) for name, stored in FIELDS.items()}
    return UploadRecord(id=document["_id"], expires_at=document.get("expiresAt"), **fields)
