"""Identity of a database: schema version, epoch, and the key for room ids."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from pymongo.errors import DuplicateKeyError

from server.errors import Unusable
from server.storage.mongo.database import Database

# The schema version that this server writes. It is raised by a change that an older server would misread, or that needs
# an upgrade of stored data.
VERSION: Final = 5
# Of databases without a version number.
FIRST_VERSION: Final = 1
DOCUMENT_ID: Final = "madang"
EPOCH_BYTES: Final = 8
ROOM_KEY_BYTES: Final = 32
# Every server version creates this collection at its start.
OLDEST_COLLECTION: Final = "users"


class Identity(msgspec.Struct, frozen=True):
    """`version` is the schema version. `epoch` names the history that sequence numbers belong to. `room_key` keys the
    ids of new rooms; it never changes and is secret."""

    version: int
    epoch: str
    room_key: bytes


class IdentityStore:
    """The collection `database`, which holds one document."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._documents: Any = database.collection("database")
        self._known: Identity | None = None

    @property
    def known(self) -> Identity:
        """The identity that `open` read. Raises `RuntimeError` before that."""
        if self._known is None:
            raise RuntimeError("not opened")
        return self._known

    async def open(self) -> Identity:
        """Read the identity, or create it. Concurrent callers get the same one.

        Call it before anything is written. Raises `Unavailable`, or `Unusable` if the schema version is newer than
        this server.
        """
        document = await self._find()
        if document is None:
            await self._make()
            document = await self._find()
        if document is None:
            raise RuntimeError("the document of the database has gone")
        found = Identity(document["version"], document["epoch"], bytes.fromhex(document["roomKey"]))
        if found.version > VERSION:
            raise Unusable(
                f"the database has version {found.version}, and this server knows versions up to {VERSION}: start the "
                "newer server that it comes from, or restore a backup from before the upgrade"
            )
        self._known = found
        return found

    async def set_version(self, version: int) -> None:
        """Record that the database was upgraded to `version`. Raises `Unavailable`."""
        await self._change({"version": {"$lt": version}}, {"version": version})
        self._known = msgspec.structs.replace(self.known, version=version)

    async def begin_epoch(self) -> str:
        """Replace the epoch and return the new one: sequence numbers that clients hold become invalid."""
        epoch = secrets.token_hex(EPOCH_BYTES)
        await self._change({}, {"epoch": epoch})
        self._known = msgspec.structs.replace(self.known, epoch=epoch)
        return epoch

    async def _change(self, condition: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        await self._database.run(self._documents.update_one, {"_id": DOCUMENT_ID, **condition}, {"$set": values})

    async def _find(self) -> dict[str, Any] | None:
        document: dict[str, Any] | None = await self._database.run(self._documents.find_one, {"_id": DOCUMENT_ID})
        return document

    async def _make(self) -> None:
        is_older = OLDEST_COLLECTION in await self._database.run(self._database.list_collection_names)
        document = {
            "_id": DOCUMENT_ID,
            "version": FIRST_VERSION if is_older else VERSION,
            "epoch": secrets.token_hex(EPOCH_BYTES),
            "roomKey": secrets.token_hex(ROOM_KEY_BYTES),
        }
        try:
            await self._database.run(self._documents.insert_one, document)
        except DuplicateKeyError:
            return
