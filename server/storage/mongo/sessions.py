"""Login sessions: one document per family of refresh tokens."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from server.models import Client, now
from server.storage.mongo.database import Database

# Several tokens are good after a lost response, or if several tabs refresh at once. Beyond this number the oldest is
# invalidated.
MAX_GOOD: Final = 50
# Tokens that were exchanged within the grace; beyond this number the oldest counts as exchanged before it.
MAX_SPENT: Final = 100
# A mobile device changes networks.
MAX_NETWORKS: Final = 20


class Session(msgspec.Struct, frozen=True):
    """One login and its refresh tokens, each identified by its SHA-256 (hex).

    `good` maps unused tokens to their expiry, `spent` maps recently used ones to their first use. `networks` are those
    that the session was used from, the latest last. `address` and `user_agent` are those of its last use, a login or an
    exchange of its refresh token; they are empty in older sessions.

    `key` seals its refresh tokens, but is not enough to forge one. It is empty in sessions that 0.1.0 created.
    """

    id: str
    user_id: str
    key: str
    good: Mapping[str, datetime]
    expires_at: datetime
    created_at: datetime
    last_used_at: datetime
    address: str = ""
    user_agent: str = ""
    is_ended: bool = False
    spent: Mapping[str, datetime] = {}
    networks: Sequence[str] = ()


class Sessions:
    """The collection `sessions`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions: Any = database.collection("sessions")

    async def prepare(self) -> None:
        await self._database.run(self._sessions.create_index, "expiresAt", expireAfterSeconds=0, name="expiry")
        keys = [("userId", 1), ("networks", 1)]
        await self._database.run(self._sessions.create_index, keys, name="networks")

    async def insert(self, session: Session) -> None:
        document = {
            "_id": session.id,
            "userId": session.user_id,
            "key": session.key,
            "good": dict(session.good),
            "spent": dict(session.spent),
            "networks": list(session.networks),
            "createdAt": session.created_at,
            "usedAt": session.last_used_at,
            "address": session.address,
            "userAgent": session.user_agent,
            "expiresAt": session.expires_at,
            "endedAt": None,
        }
        await self._database.run(self._sessions.insert_one, document)

    async def find(self, session_id: str) -> Session | None:
        document: dict[str, Any] | None = await self._database.run(self._sessions.find_one, {"_id": session_id})
        if document is not None and "good" not in document:
            document = await self._convert(document)
        return None if document is None else _session(document)

    async def find_live(self, user_id: str) -> list[Session]:
        """The sessions of a user that have not ended, in no order."""
        query = {"userId": user_id, "endedAt": None, "expiresAt": {"$gt": now()}}
        documents = await self._database.run(self._sessions.find(query).to_list, None)
        return [_session(document) for document in documents if "good" in document]

    async def is_known_from(self, user_id: str, network: str) -> bool:
        """Whether a stored session of this user, ended or not, was used from this network."""
        found = await self._database.run(self._sessions.find_one, {"userId": user_id, "networks": network}, {"_id": 1})
        return found is not None

    async def rotate(
        self,
        session: Session,
        old: str,
        new: str,
        expires_at: datetime,
        *,
        grace: timedelta,
        network: str,
        client: Client,
    ) -> bool:
        """Add `new` as a good token in exchange for `old`, which must be good or first used less than `grace` ago.

        Returns False if it is neither, or the session has ended. `session` is the session as read before; its stale
        tokens are removed by the same write.
        """
        at = now()
        changes: dict[str, Any] = {f"good.{new}": expires_at, "expiresAt": expires_at}
        changes |= {"usedAt": at, "address": client.address, "userAgent": client.user_agent}
        if network not in session.networks:
            changes["networks"] = [*session.networks, network][-MAX_NETWORKS:]
        stale = _stale_tokens(session, old, at - grace)
        active = {"_id": session.id, "endedAt": None}
        is_first = await self._update(
            {**active, f"good.{old}": {"$exists": True}},
            {"$set": {**changes, f"spent.{old}": at}, "$unset": {**stale, f"good.{old}": ""}},
        )
        if is_first or not grace:
            return is_first
        again: dict[str, Any] = {"$set": changes, **({"$unset": stale} if stale else {})}
        return await self._update({**active, f"spent.{old}": {"$gt": at - grace}}, again)

    async def end(self, session_ids: Sequence[str]) -> None:
        known = {"_id": {"$in": list(session_ids)}, "endedAt": None}
        await self._database.run(self._sessions.update_many, known, {"$set": {"endedAt": now()}})

    async def _convert(self, document: Mapping[str, Any]) -> dict[str, Any] | None:
        """Convert a session of an earlier version, which has one good token, `current`."""
        known = {"_id": document["_id"], "current": document["current"]}
        good = {document["current"]: document["expiresAt"]}
        await self._update(known, {"$set": {"good": good, "spent": {}}, "$unset": {"current": ""}})
        found: dict[str, Any] | None = await self._database.run(self._sessions.find_one, {"_id": document["_id"]})
        return found

    async def _update(self, known: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
        result: Any = await self._database.run(self._sessions.update_one, known, changes)
        return bool(result.matched_count)


def _stale_tokens(session: Session, old: str, grace_start: datetime) -> dict[str, str]:
    """The `$unset` of stale tokens: those beyond the bounds, and those used before the grace began."""
    others = sorted((token for token in session.good if token != old), key=session.good.__getitem__)
    recent = sorted((token for token, at in session.spent.items() if at > grace_start), key=session.spent.__getitem__)
    removed = [f"good.{token}" for token in others[: max(0, len(others) + 1 - MAX_GOOD)]]
    kept = {old, *recent[-MAX_SPENT + 1 :]}
    return dict.fromkeys([*removed, *(f"spent.{token}" for token in session.spent if token not in kept)], "")


def _session(document: dict[str, Any]) -> Session:
    return Session(
        id=document["_id"],
        user_id=document["userId"],
        key=document.get("key", ""),
        good=document["good"],
        spent=document["spent"],
        networks=document.get("networks", ()),
        expires_at=document["expiresAt"],
        created_at=document["createdAt"],
        last_used_at=document.get("usedAt", document["createdAt"]),
        address=document.get("address", ""),
        user_agent=document.get("userAgent", ""),
        is_ended=document.get("endedAt") is not None,
    )
