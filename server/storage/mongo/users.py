"""Users as stored: profile, password hash, and their search index content."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from server.errors import Conflict
from server.models import User
from server.storage.mongo.database import Database
from server.storage.mongo.search_terms import SEPARATOR, IndexChange

# In seconds; a scan of 100,000 users takes a few.
SCAN_TIMEOUT: Final = 60.0
# Without the email, which has one field for comparison and one for display.
FIELDS: Final = {
    "first_name": "firstName",
    "last_name": "lastName",
    "phone": "phone",
    "profile_image": "profileImage",
    "user_type": "userType",
    "trust_score": "trustScore",
    "is_active": "isActive",
    "last_seen_at": "lastSeenAt",
    "created_at": "createdAt",
    "is_external": "isExternal",
}


SHOWN_EMAIL: Final = "emailShown"


class UserRecord(msgspec.Struct, frozen=True):
    """A user with the state that a profile change needs.

    `revision` grows with each change, `indexed` maps the keys in the search index to the nodes that hold them,
    `pending` is the last index change until it is known to be applied.
    """

    user: User
    revision: int
    indexed: dict[str, str]
    pending: IndexChange | None


class Users:
    """The collection `users`, unique by folded email."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._users: Any = database.collection("users")

    async def prepare(self) -> None:
        await self._database.run(self._users.create_index, "email", unique=True, name="email")
        await self._database.run(self._users.create_index, "pending.id", sparse=True, name="pending")
        await self._database.run(self._users.create_index, "isLeaving", sparse=True, name="leaving")
        # A partial index of inactive users, so that active ones cost nothing.
        inactive = {"isActive": False}
        await self._database.run(
            self._users.create_index, "isActive", partialFilterExpression=inactive, name="inactive"
        )

    async def insert(self, user: User, password_hash: str | None, change: IndexChange) -> None:
        """Store a new user together with the pending index change. Raises `Conflict` if the email is taken."""
        try:
            await self._database.run(self._users.insert_one, user_document(user, password_hash, change))
        except DuplicateKeyError:
            raise Conflict("This email address is taken") from None

    async def find(self, user_id: str) -> User | None:
        document: dict[str, Any] | None = await self._database.run(self._users.find_one, {"_id": user_id})
        return None if document is None else _user(document)

    async def find_many(self, user_ids: Collection[str]) -> list[User]:
        """The users that exist, in any order."""
        # No projection: on the embedded store it costs more than it saves.
        documents = await self._database.find_by_keys(self._users, "_id", user_ids)
        return [_user(document) for document in documents]

    async def find_inactive(self) -> set[str]:
        """The ids of all inactive users. An index read, about 0.1 ms per user on the embedded store."""
        cursor = self._users.find({"isActive": False}, {"_id": 1})
        return {document["_id"] for document in await self._database.run(cursor.to_list, None)}

    async def find_by_emails(self, emails: Sequence[str]) -> tuple[User, str | None] | None:
        """The user with the first of these stored emails that exists, and their password hash."""
        for email in emails:
            document: dict[str, Any] | None = await self._database.run(self._users.find_one, {"email": email})
            if document is not None:
                return _user(document), document.get("passwordHash")
        return None

    async def find_with_password(self, user_id: str) -> tuple[User, str | None] | None:
        """A user and their password hash, which is None if another service has the account."""
        document: dict[str, Any] | None = await self._database.run(self._users.find_one, {"_id": user_id})
        return None if document is None else (_user(document), document.get("passwordHash"))

    async def begin_deletion(self, user_id: str) -> None:
        """Free the email, forget the password, and note that the account goes."""
        gone = {"email": User(user_id, "", "", "").email_key, SHOWN_EMAIL: "", "passwordHash": None, "isLeaving": True}
        await self._database.run(self._users.update_one, {"_id": user_id}, {"$set": gone, "$inc": {"revision": 1}})

    async def find_deleted(self, limit: int) -> list[str]:
        """The ids of some users whose deletion is not finished."""
        cursor = self._users.find({"isLeaving": True}, {"_id": 1}).limit(limit)
        return [document["_id"] for document in await self._database.run(cursor.to_list, None)]

    async def end_deletion(self, user_id: str) -> None:
        await self._database.run(self._users.update_one, {"_id": user_id}, {"$unset": {"isLeaving": ""}})

    async def find_record(self, user_id: str) -> UserRecord | None:
        document: dict[str, Any] | None = await self._database.run(
            self._users.find_one, {"_id": user_id}, {"passwordHash": 0}
        )
        return None if document is None else _record(document)

    async def find_ids(self) -> list[str]:
        """The ids of all users. A full scan: not for requests."""
        documents = await self._database.run(self._users.find({}, {"_id": 1}).to_list, None, timeout=SCAN_TIMEOUT)
        return [document["_id"] for document in documents]

    async def find_records(self, user_ids: Collection[str]) -> list[UserRecord]:
        return [_record(document) for document in await self._database.find_by_keys(self._users, "_id", user_ids)]

    async def forget_older_index(self, user_ids: Collection[str]) -> None:
        """Reset `indexed` and `pending` of those of these users that have the index format before version 2."""
        await self._database.run(
            self._users.update_many,
            {"_id": {"$in": list(user_ids)}, "indexed": {"$not": {"$type": "string"}}},
            {"$set": {"indexed": ""}, "$unset": {"pending": ""}},
        )

    async def fold_emails(self, user_ids: Collection[str]) -> None:
        """Store the emails of these users folded by the current rules.

        If several users have the same folded email, all but one keep their stored spelling, and log in with that
        alone.
        """
        for document in await self._database.find_by_keys(self._users, "_id", user_ids):
            user = _user(document)
            if document["email"] == user.email_key:
                continue
            known = {"_id": user.id, "email": document["email"]}
            with contextlib.suppress(DuplicateKeyError):
                await self._database.run(self._users.update_one, known, {"$set": _email_fields(user)})

    async def find_pending(self, limit: int) -> list[UserRecord]:
        """At most `limit` users with a pending index change, in the order of the changes."""
        cursor = self._users.find({"pending.id": {"$gt": ""}}, {"passwordHash": 0}).sort("pending.id", 1).limit(limit)
        documents: list[dict[str, Any]] = await self._database.run(cursor.to_list, None)
        return [_record(document) for document in documents]

    async def change(self, record: UserRecord, fields: Mapping[str, Any], change: IndexChange) -> bool:
        """Write fields (named as in `User`) and the pending index change atomically. The email is only that shown.

        Returns False if `record` is out of date.
        """
        values = {
            **{FIELDS.get(name, SHOWN_EMAIL): value for name, value in fields.items()},
            "indexed": _index_text(change.indexed),
            "pending": change.to_document(),
        }
        result: Any = await self._database.run(
            self._users.update_one,
            {"_id": record.user.id, "revision": record.revision, "pending": None},
            {"$set": values, "$inc": {"revision": 1}},
        )
        return bool(result.matched_count)

    async def finish(self, change_ids: Collection[str]) -> None:
        """Record that these index changes are applied."""
        await self._database.run(
            self._users.update_many, {"pending.id": {"$in": list(change_ids)}}, {"$unset": {"pending": ""}}
        )

    async def set_last_seen(self, seen: Mapping[str, datetime]) -> None:
        """Raise `last_seen_at` of users; it is never lowered."""
        updates = [UpdateOne({"_id": user_id}, {"$max": {"lastSeenAt": at}}) for user_id, at in seen.items()]
        await self._database.run(self._users.bulk_write, updates, ordered=False)

    async def set_password_hash(self, user_id: str, old: str, new: str) -> bool:
        """False if the hash is not `old` any more."""
        known = {"_id": user_id, "passwordHash": old}
        result: Any = await self._database.run(self._users.update_one, known, {"$set": {"passwordHash": new}})
        return bool(result.matched_count)


def user_document(user: User, password_hash: str | None, change: IndexChange) -> dict[str, Any]:
    """A new user as stored, with the pending index change."""
    return {
        "_id": user.id,
        **_email_fields(user),
        **{stored: getattr(user, name) for name, stored in FIELDS.items()},
        "passwordHash": password_hash,
        "revision": 1,
        "indexed": _index_text(change.indexed),
        "pending": change.to_document(),
    }


def _user(document: dict[str, Any]) -> User:
    fields: dict[str, Any] = {name: document.get(stored) for name, stored in FIELDS.items()}
    fields["is_external"] = bool(fields["is_external"])
    return User(id=document["_id"], email=document.get(SHOWN_EMAIL, document["email"]), **fields)


def _email_fields(user: User) -> dict[str, str]:
    """`email` is the unique, folded form; the displayed form is stored only if it differs."""
    key = user.email_key
    return {"email": key} if key == user.email else {"email": key, SHOWN_EMAIL: user.email}


def _record(document: dict[str, Any]) -> UserRecord:
    pending = document.get("pending")
    return UserRecord(
        user=_user(document),
        revision=document["revision"],
        indexed=_indexed(document["indexed"], document["_id"]),
        pending=None if pending is None else IndexChange.from_document(pending),
    )


def _index_text(indexed: Mapping[str, str]) -> str:
    """The keys and the lengths of their nodes as one short text, because every profile read includes it."""
    return SEPARATOR.join(f"{len(stop)} {key.rpartition(SEPARATOR)[0]}" for key, stop in indexed.items())


def _indexed(text: str, user_id: str) -> dict[str, str]:
    indexed: dict[str, str] = {}
    for part in text.split(SEPARATOR) if text else ():
        length, _, term = part.partition(" ")
        key = f"{term}{SEPARATOR}{user_id}"
        indexed[key] = key[: int(length)]
    return indexed
