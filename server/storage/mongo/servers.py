"""Detects other servers on the same database by heartbeats."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from server.models import now
from server.storage.mongo.database import Database

# Servers without a heartbeat for so long are removed at a start.
STALE_AFTER: Final = timedelta(days=1)


class Servers:
    """The collection `servers`: one document per process, with the time of its last heartbeat.

    Clocks of different machines are not compared: a server is alive if its heartbeat changed between two calls.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._servers: Any = database.collection("servers")
        self._id = uuid4().hex
        self._heartbeats: dict[str, datetime] | None = None

    async def find_others(self) -> set[str]:
        """Write a heartbeat. Returns the ids of servers with a new one since the last call; none at the first call."""
        before = self._heartbeats
        if before is None:
            await self._database.run(self._servers.delete_many, {"at": {"$lt": now() - STALE_AFTER}})
        await self._database.run(self._servers.update_one, {"_id": self._id}, {"$set": {"at": now()}}, upsert=True)
        documents = await self._database.run(self._servers.find({"_id": {"$ne": self._id}}).to_list, None)
        self._heartbeats = {document["_id"]: document["at"] for document in documents}
        return set() if before is None else {other for other, at in self._heartbeats.items() if before.get(other) != at}
