"""Login sessions: one document for each family of refresh tokens."""

from datetime import datetime
from typing import Any

import msgspec

from server.models import now
from server.storage.database import Database


class Session(msgspec.Struct, frozen=True):
    """One login. `current` is the SHA-256 (hex) of the only refresh token that is good now.

    `key` seals the refresh tokens of this session; it alone makes none. It is empty in sessions that 0.1.0 made.
    """

    id: str
    user_id: str
    key: str
    current: str
    expires_at: datetime
    is_ended: bool = False


class Sessions:
    """The collection `sessions`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions: Any = database.collection("sessions")

    async def prepare(self) -> None:
        await self._database.run(self._sessions.create_index, "expiresAt", expireAfterSeconds=0, name="expiry")

    async def insert(self, session: Session) -> None:
        document = {
            "_id": session.id,
            "userId": session.user_id,
            "key": session.key,
            "current": session.current,
            "createdAt": now(),
            "expiresAt": session.expires_at,
            "endedAt": None,
        }
        await self._database.run(self._sessions.insert_one, document)

    async def find(self, session_id: str) -> Session | None:
        document: dict[str, Any] | None = await self._database.run(self._sessions.find_one, {"_id": session_id})
        return None if document is None else _session(document)

    async def rotate(self, session_id: str, old: str, new: str, expires_at: datetime) -> bool:
        """Put `new` in the place of `old`. False when the session has ended or `old` is not its current token."""
        result: Any = await self._database.run(
            self._sessions.update_one,
            {"_id": session_id, "current": old, "endedAt": None},
            {"$set": {"current": new, "expiresAt": expires_at}},
        )
        return bool(result.matched_count)

    async def end(self, session_id: str) -> None:
        await self._database.run(
            self._sessions.update_one, {"_id": session_id, "endedAt": None}, {"$set": {"endedAt": now()}}
        )


def _session(document: dict[str, Any]) -> Session:
    return Session(
        id=document["_id"],
        user_id=document["userId"],
        key=document.get("key", ""),
        current=document["current"],
        expires_at=document["expiresAt"],
        is_ended=document.get("endedAt") is not None,
    )
