"""Reports: copies of messages that somebody found wrong, for the admins."""

import json
from typing import Any, Final

from pymongo.errors import DuplicateKeyError

from server.models import Message, now
from server.storage.mongo.database import Database

SCAN_TIMEOUT: Final = 120.0


class ReportStore:
    """The collection `reports`: one for each reporter and message, with the message as it was then."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reports: Any = database.collection("reports")

    async def prepare(self) -> None:
        await self._database.run(self._reports.create_index, "reportedAt", name="by time")
        await self._database.run(self._reports.create_index, "reporterId", name="by reporter")

    async def insert(self, reporter_id: str, message: Message, reason: str, text: str | None) -> bool:
        """False if this user has reported the message before."""
        document = {
            "_id": json.dumps([message.id, reporter_id], ensure_ascii=False),
            "reporterId": reporter_id,
            "reason": reason,
            "text": text,
            "reportedAt": now(),
            "messageId": message.id,
            "roomId": message.room_id,
            "seq": message.seq,
            "senderId": message.sender_id,
            "content": message.content,
            "type": message.type,
            "attachmentUrl": message.attachment_url,
            "sentAt": message.sent_at,
        }
        try:
            await self._database.run(self._reports.insert_one, document)
        except DuplicateKeyError:
            return False
        return True

    async def find(self, limit: int) -> list[dict[str, Any]]:
        """The latest reports, the latest first."""
        cursor = self._reports.find({}, {"_id": 0}).sort("reportedAt", -1).limit(limit)
        documents: list[dict[str, Any]] = await self._database.run(cursor.to_list, None, timeout=SCAN_TIMEOUT)
        return documents

    async def find_of(self, reporter_id: str) -> list[dict[str, Any]]:
        """What this user has reported: which messages, when and why."""
        fields = {"_id": 0, "messageId": 1, "roomId": 1, "reason": 1, "text": 1, "reportedAt": 1}
        cursor = self._reports.find({"reporterId": reporter_id}, fields)
        documents: list[dict[str, Any]] = await self._database.run(cursor.to_list, None, timeout=SCAN_TIMEOUT)
        return documents
