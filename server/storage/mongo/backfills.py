"""Backfills: how far each background consumer of the log has looked at all rooms."""

from server.storage.mongo.database import Database


class BackfillStore:
    """The collection `consumers`: one document per consumer, with the id of the last room that it looked at."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._consumers = database.collection("consumers")

    async def read(self, consumer: str) -> str | None:
        """The position from which the backfill goes on, "" for the beginning; None if it is finished."""
        found = await self._database.run(self._consumers.find_one, {"_id": consumer})
        if found is None:
            return ""
        return None if found["isFinished"] else str(found["position"])

    async def save(self, consumer: str, position: str) -> None:
        await self._replace(consumer, position, is_finished=False)

    async def restart(self, consumer: str) -> None:
        await self._replace(consumer, "", is_finished=False)

    async def finish(self, consumer: str) -> None:
        await self._replace(consumer, "", is_finished=True)

    async def _replace(self, consumer: str, position: str, *, is_finished: bool) -> None:
        document = {"position": position, "isFinished": is_finished}
        await self._database.run(self._consumers.update_one, {"_id": consumer}, {"$set": document}, upsert=True)
