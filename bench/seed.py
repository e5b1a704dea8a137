"""People with sessions, rooms of two, and groups, written through the storage classes: as registrations leave them."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import jwt
import msgspec

from server.models import Member, Room, RoomDetails, User, now
from server.services.accounts.tokens import ALGORITHM, ISSUER
from server.services.rooms.direct import build_direct_room, members_of
from server.storage.mongo.database import Database
from server.storage.mongo.rooms import MemberStore, RoomStore
from server.storage.mongo.search_terms import IndexChange
from server.storage.mongo.sessions import Session, Sessions
from server.storage.mongo.users import Users, user_document

SECRET: Final = "a secret of the benches, of no use elsewhere"
DAY: Final = 86_400
AT_ONCE: Final = 200


class Pair(msgspec.Struct):
    """Two people who share a room, with a token for each."""

    room_id: str
    user_ids: tuple[str, str]
    tokens: tuple[str, str]


class Group(msgspec.Struct):
    """Members of one room, with a token for each; the first is its owner."""

    room_id: str
    user_ids: list[str]
    tokens: list[str]


async def seed_group(database: Database, size: int) -> Group:
    """Store a group of people who share nothing else. Its history is open to all of them."""
    sessions, rooms, members = Sessions(database), RoomStore(database), MemberStore(database)
    for store in (Users(database), sessions, rooms, members):
        await store.prepare()
    room_id, people, moment = uuid.uuid4().hex, await _insert_people(database, size), now()
    roles = ["OWNER", *["MEMBER"] * (size - 1)]
    await members.create(
        [Member(room_id, person.id, role=role, joined_at=moment) for person, role in zip(people, roles, strict=True)]
    )
    details = RoomDetails("Yard", history="ALL")
    await rooms.create(Room(room_id, people[0].id, None, moment, "GROUP", details))
    kept = await _begin_sessions(sessions, people)
    return Group(room_id, [person.id for person in people], [make_token(one.user_id, one.id, room_id) for one in kept])


async def seed_pairs(database: Database, count: int) -> list[Pair]:
    """Store `count` pairs of people who share nothing with others."""
    users, sessions = Users(database), Sessions(database)
    rooms, members = RoomStore(database), MemberStore(database)
    for store in (users, sessions, rooms, members):
        await store.prepare()
    pairs: list[Pair] = []
    while len(pairs) < count:
        pairs += await _seed_some(database, sessions, rooms, members, min(AT_ONCE, count - len(pairs)))
    return pairs


async def seed_people(database: Database, count: int) -> list[str]:
    """Store so many people without sessions; returns their ids."""
    return [person.id for person in await _insert_people(database, count)]


async def _insert_people(database: Database, count: int) -> list[User]:
    people = [_person() for _ in range(count)]
    nothing = IndexChange("seed", {}, {}, {}, {}, {})
    documents = [user_document(person, None, nothing) | {"pending": None} for person in people]
    await database.run(database.collection("users").insert_many, documents, timeout=60)
    return people


async def _seed_some(
    database: Database, sessions: Sessions, rooms: RoomStore, members: MemberStore, count: int
) -> list[Pair]:
    people = await _insert_people(database, 2 * count)
    couples = list(zip(people[::2], people[1::2], strict=True))
    made = [build_direct_room(one.id, other.id, None, b"").room for one, other in couples]
    couples_of = list(zip(made, couples, strict=True))
    await members.create([one for room, pair in couples_of for one in members_of(room.id, pair[0].id, pair[1].id)])
    await asyncio.gather(*(rooms.create(room) for room in made))
    # The servers that this one is compared with look up members in the room.
    for room, (one, other) in couples_of:
        await database.run(
            database.collection("rooms").update_one, {"_id": room.id}, {"$set": {"userIds": [one.id, other.id]}}
        )
    kept = await _begin_sessions(sessions, people)
    tokens = [make_token(session.user_id, session.id, made[number // 2].id) for number, session in enumerate(kept)]
    return [
        Pair(room.id, (one.id, other.id), (mine, yours))
        for room, (one, other), mine, yours in zip(made, couples, tokens[::2], tokens[1::2], strict=True)
    ]


async def _begin_sessions(sessions: Sessions, people: Sequence[User]) -> list[Session]:
    moment = now()
    end = moment + timedelta(days=1)
    kept = [Session(uuid.uuid4().hex, person.id, "", {}, end, moment, moment) for person in people]
    await asyncio.gather(*(sessions.insert(session) for session in kept))
    return kept


def make_token(user_id: str, session_id: str, room_id: str) -> str:
    """An access token for one day. It also names a room, for servers that have no store to look in."""
    moment = int(time.time())
    claims = {"iss": ISSUER, "sub": user_id, "sid": session_id, "iat": moment, "exp": moment + DAY, "room": room_id}
    return jwt.encode(claims, SECRET, algorithm=ALGORITHM)


def _person() -> User:
    user_id = uuid.uuid4().hex
    return User(id=user_id, email=f"{user_id}@example.com", first_name="Ada", last_name="Example", created_at=now())
