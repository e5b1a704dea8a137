"""Blocks: who does not want to hear from whom."""

import json
from datetime import datetime
from typing import Any, Final, NamedTuple

from server.models import now
from server.storage.mongo.database import Database

SCAN_TIMEOUT: Final = 120.0


class Block(NamedTuple):
    blocker_id: str
    blocked_id: str
    is_on: bool
    changed_at: datetime


class BlockStore:
    """The collection `blocks`. One that was lifted stays, switched off, so that other servers see the change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._blocks: Any = database.collection("blocks")

    async def prepare(self) -> None:
        await self._database.run(self._blocks.create_index, "changedAt", name="changes")

    async def put(self, blocker_id: str, blocked_id: str, *, is_on: bool) -> None:
        known = {"_id": json.dumps([blocker_id, blocked_id], ensure_ascii=False)}
        fields = {"blockerId": blocker_id, "blockedId": blocked_id, "isOn": is_on, "changedAt": now()}
        await self._database.run(self._blocks.update_one, known, {"$set": fields}, upsert=True)

    async def find_on(self) -> list[Block]:
        """All that are in force. A full scan: not for requests."""
        return await self._find({"isOn": True})

    async def find_changed(self, since: datetime) -> list[Block]:
        """Those that came or went since then, in the order of the changes."""
        return await self._find({"changedAt": {"$gte": since}})

    async def _find(self, query: dict[str, Any]) -> list[Block]:
        cursor = self._blocks.find(query).sort("changedAt", 1)
        documents = await self._database.run(cursor.to_list, None, timeout=SCAN_TIMEOUT)
        return [Block(one["blockerId"], one["blockedId"], one["isOn"], one["changedAt"]) for one in documents]
