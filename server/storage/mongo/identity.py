"""What a database says of itself: the version of what it holds, the name of its history, and a secret of its own."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from pymongo.errors import DuplicateKeyError

from server.errors import Unusable
from server.storage.mongo.database import Database

# What this server writes. A change of what is stored that an older server would misread, or that older data needs to be
# moved forward to, takes the next number.
VERSION: Final = 2
# Databases from before there was a number.
FIRST_VERSION: Final = 1
DOCUMENT_ID: Final = "madang"
EPOCH_BYTES: Final = 8
ROOM_KEY_BYTES: Final = 32
# Every server since the first has made this collection at its start.
OLDEST_COLLECTION: Final = "users"


class Identity(msgspec.Struct, frozen=True):
    """`version` is that of the data. `epoch` names the history that the rooms' numbers belong to. `room_key` keys the
    ids of new rooms; it never changes, and no client ever gets it."""

    version: int
    epoch: str
    room_key: bytes


class IdentityStore:
    """The collection `database` with its one document."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._documents: Any = database.collection("database")
        self._known: Identity | None = None

    @property
    def known(self) -> Identity:
        """What `open` found."""
        if self._known is None:
            raise RuntimeError("not opened")
        return self._known

    async def open(self) -> Identity:
        """Read the document, made now if there is none; of several that make it at once, all get the same.

        To be called before anything is written. Raises `Unavailable`, and `Unusable` where a newer server has moved the
        database forward to what this one does not know.
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
        """The database has been moved forward to `version`. Raises `Unavailable`."""
        await self._change({"version": {"$lt": version}}, {"version": version})
        self._known = msgspec.structs.replace(self.known, version=version)

    async def begin_epoch(self) -> str:
        """Give the history another name, which is returned: what clients have numbers of is another one from now on."""
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
