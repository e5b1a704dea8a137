"""Which servers live on this database: each says so again and again."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from server.models import now
from server.storage.mongo.database import Database

# Servers that have not been heard for so long are removed at a start.
FORGOTTEN: Final = timedelta(days=1)


class Servers:
    """The collection `servers`: one document for each process, with the time at which it last said that it lives.

    No clock is compared with another's: whoever says so anew between two looks lives, and nobody else.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._servers: Any = database.collection("servers")
        self._id = uuid4().hex
        self._heard: dict[str, datetime] | None = None

    async def find_others(self) -> set[str]:
        """Say that this server lives. Which others have said so since the last call; at the first call, none."""
        before = self._heard
        if before is None:
            await self._database.run(self._servers.delete_many, {"at": {"$lt": now() - FORGOTTEN}})
        await self._database.run(self._servers.update_one, {"_id": self._id}, {"$set": {"at": now()}}, upsert=True)
        documents = await self._database.run(self._servers.find({"_id": {"$ne": self._id}}).to_list, None)
        self._heard = {document["_id"]: document["at"] for document in documents}
        return set() if before is None else {other for other, at in self._heard.items() if before.get(other) != at}
