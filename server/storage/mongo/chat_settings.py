"""What members want of their rooms for themselves alone."""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from server.models import MUTED_FOREVER, ChatSettings
from server.storage.mongo.database import Database


class ChatSettingsStore:
    """The collection `chatSettings`: an entry for each member and room where something differs from the defaults."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._settings: Any = database.collection("chatSettings")

    async def find(self, user_id: str, room_ids: Collection[str]) -> dict[str, ChatSettings]:
        """By room; rooms without an entry are left out."""
        keys = [_key(room_id, user_id) for room_id in room_ids]
        documents = await self._database.find_by_keys(self._settings, "_id", keys)
        return {document["roomId"]: _settings(document) for document in documents}

    async def change(self, user_id: str, room_id: str, fields: Mapping[str, Any]) -> None:
        """Set fields, named as in `ChatSettings`."""
        values = {_FIELDS[name]: value for name, value in fields.items()}
        update = {"$set": {**values, "roomId": room_id}}
        await self._database.run(self._settings.update_one, {"_id": _key(room_id, user_id)}, update, upsert=True)

    async def remove(self, user_id: str, room_id: str) -> None:
        await self._database.run(self._settings.delete_one, {"_id": _key(room_id, user_id)})

    async def remove_room(self, room_id: str) -> None:
        """Those of all members."""
        await self._database.run(self._settings.delete_many, {"_id": {"$regex": f"^{re.escape(room_id)}:"}})


_FIELDS = {"muted_until": "mutedUntil", "notify": "notify", "is_pinned": "isPinned", "is_archived": "isArchived"}


def _key(room_id: str, user_id: str) -> str:
    # Ids of rooms are made here and hold no colon.
    return f"{room_id}:{user_id}"


def _settings(document: Mapping[str, Any]) -> ChatSettings:
    muted = document.get("mutedUntil")
    return ChatSettings(
        muted_until=muted if isinstance(muted, datetime) or muted == MUTED_FOREVER else None,
        notify=document.get("notify", "ALL"),
        is_pinned=document.get("isPinned", False),
        is_archived=document.get("isArchived", False),
    )
