"""People as stored: profile, password hash, and what the search index holds about them."""

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

# A hundred thousand people are read in some seconds.
SCAN_TIMEOUT: Final = 60.0
# Beside the email, which has a field for comparing and one for showing it.
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
}


class UserRecord(msgspec.Struct, frozen=True):
    """A user with what a change of their profile must know.

    `revision` grows with each change, `indexed` maps the keys in the search index to their stops,
    `pending` is the last change of the index while it is not surely finished.
    """

    user: User
    revision: int
    indexed: dict[str, str]
    pending: IndexChange | None


class Users:
    """The collection `users`; no two have emails that look alike."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._users: Any = database.collection("users")

    async def prepare(self) -> None:
        await self._database.run(self._users.create_index, "email", unique=True, name="email")
        await self._database.run(self._users.create_index, "pending.id", sparse=True, name="pending")
        # Of inactive people alone: to ask for them costs nothing for all the others.
        inactive = {"isActive": False}
        await self._database.run(
            self._users.create_index, "isActive", partialFilterExpression=inactive, name="inactive"
        )

    async def insert(self, user: User, password_hash: str | None, change: IndexChange) -> None:
        """Store a new user together with the change of the index that is due. Raises `Conflict` for a taken email."""
        try:
            await self._database.run(self._users.insert_one, user_document(user, password_hash, change))
        except DuplicateKeyError:
            raise Conflict("This email address is taken") from None

    async def find(self, user_id: str) -> User | None:
        document: dict[str, Any] | None = await self._database.run(self._users.find_one, {"_id": user_id})
        return None if document is None else _user(document)

    async def find_many(self, user_ids: Collection[str]) -> list[User]:
        """Those that exist, in no promised order."""
        # Whole: on the embedded store, leaving out fields costs more than it saves.
        documents = await self._database.find_by_keys(self._users, "_id", user_ids)
        return [_user(document) for document in documents]

    async def find_inactive(self) -> set[str]:
        """The ids of all who are inactive: their index alone is read, about 0.1 ms for each on the embedded store."""
        cursor = self._users.find({"isActive": False}, {"_id": 1})
        return {document["_id"] for document in await self._database.run(cursor.to_list, None)}

    async def find_by_emails(self, emails: Sequence[str]) -> tuple[User, str | None] | None:
        """The user whose email is stored as the first of these that is somebody's, and their password hash."""
        for email in emails:
            document: dict[str, Any] | None = await self._database.run(self._users.find_one, {"email": email})
            if document is not None:
                return _user(document), document.get("passwordHash")
        return None

    async def find_record(self, user_id: str) -> UserRecord | None:
        document: dict[str, Any] | None = await self._database.run(
            self._users.find_one, {"_id": user_id}, {"passwordHash": 0}
        )
        return None if document is None else _record(document)

    async def find_ids(self) -> list[str]:
        """Of everybody. The one read that looks at all people, for when no request waits for it."""
        documents = await self._database.run(self._users.find({}, {"_id": 1}).to_list, None, timeout=SCAN_TIMEOUT)
        return [document["_id"] for document in documents]

    async def find_records(self, user_ids: Collection[str]) -> list[UserRecord]:
        return [_record(document) for document in await self._database.find_by_keys(self._users, "_id", user_ids)]

    async def forget_older_index(self, user_ids: Collection[str]) -> None:
        """Those of these people that an index from before version 2 holds count as in none, with nothing pending."""
        await self._database.run(
            self._users.update_many,
            {"_id": {"$in": list(user_ids)}, "indexed": {"$not": {"$type": "string"}}},
            {"$set": {"indexed": ""}, "$unset": {"pending": ""}},
        )

    async def fold_emails(self, user_ids: Collection[str]) -> None:
        """Compare the emails of these people, whom an older server may have stored, by today's spelling.

        Of several who are alike now, the others keep their own spelling, and log in with that alone.
        """
        for document in await self._database.find_by_keys(self._users, "_id", user_ids):
            user = _user(document)
            if document["email"] == user.email_key:
                continue
            known = {"_id": user.id, "email": document["email"]}
            with contextlib.suppress(DuplicateKeyError):
                await self._database.run(self._users.update_one, known, {"$set": _email_fields(user)})

    async def find_pending(self, limit: int) -> list[UserRecord]:
        """At most `limit` users whose last change of the index was not finished, in the order of the changes."""
        cursor = self._users.find({"pending.id": {"$gt": ""}}, {"passwordHash": 0}).sort("pending.id", 1).limit(limit)
        documents: list[dict[str, Any]] = await self._database.run(cursor.to_list, None)
        return [_record(document) for document in documents]

    async def change(self, record: UserRecord, fields: Mapping[str, Any], change: IndexChange) -> bool:
        """Change fields (named as in `User`, the email aside) and the due index change at once.

        False when `record` is out of date.
        """
        values = {
            **{FIELDS[name]: value for name, value in fields.items()},
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
        """Note that these changes of the index are done."""
        await self._database.run(
            self._users.update_many, {"pending.id": {"$in": list(change_ids)}}, {"$unset": {"pending": ""}}
        )

    async def set_last_seen(self, seen: Mapping[str, datetime]) -> None:
        """A time only ever moves forward."""
        updates = [UpdateOne({"_id": user_id}, {"$max": {"lastSeenAt": at}}) for user_id, at in seen.items()]
        await self._database.run(self._users.bulk_write, updates, ordered=False)

    async def set_password_hash(self, user_id: str, old: str, new: str) -> None:
        await self._database.run(
            self._users.update_one, {"_id": user_id, "passwordHash": old}, {"$set": {"passwordHash": new}}
        )


def user_document(user: User, password_hash: str | None, change: IndexChange) -> dict[str, Any]:
    """A new user as stored, with the change of the index that is due."""
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
    return User(id=document["_id"], email=document.get("emailShown") or document["email"], **fields)


def _email_fields(user: User) -> dict[str, str]:
    """`email` is what makes it unique; how it is shown is stored only where that is something else."""
    key = user.email_key
    return {"email": key} if key == user.email else {"email": key, "emailShown": user.email}


def _record(document: dict[str, Any]) -> UserRecord:
    pending = document.get("pending")
    return UserRecord(
        user=_user(document),
        revision=document["revision"],
        indexed=_indexed(document["indexed"], document["_id"]),
        pending=None if pending is None else IndexChange.from_document(pending),
    )


def _index_text(indexed: Mapping[str, str]) -> str:
    """The keys and their stops as one short text, because every read of a profile brings it along."""
    return SEPARATOR.join(f"{len(stop)} {key.rpartition(SEPARATOR)[0]}" for key, stop in indexed.items())


def _indexed(text: str, user_id: str) -> dict[str, str]:
    indexed: dict[str, str] = {}
    for part in text.split(SEPARATOR) if text else ():
        length, _, term = part.partition(" ")
        key = f"{term}{SEPARATOR}{user_id}"
        indexed[key] = key[: int(length)]
    return indexed
