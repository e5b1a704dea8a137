"""Who may do what in a group: every route and event on it, for every role and for outsiders, here and elsewhere."""

import json
from typing import Any, NamedTuple

import pytest

from handlers.socket.events import EVENTS as HANDLED
from tests.conftest import StartServer
from tests.support.groups import ROOMS, make, people, remove
from tests.support.inactive import deactivate
from tests.support.people import Person, Town
from tests.support.rest import MESSAGES, NOTHING, Answer
from tests.support.routes import UNKNOWN
from tests.support.shapes import check_problem

OK, CREATED, DONE, NO, HIDDEN, CONFLICT = 200, 201, 204, 403, 404, 409
NAMES = ("owner", "admin", "second", "member", "other", "removed", "stranger", "new")
INSIDE = ("owner", "admin", "member")
OUTSIDE = ("removed", "stranger")
THUMB = "%F0%9F%91%8D"


class Row(NamedTuple):
    """A call on a group, and its status for owner, admin and member. `{message}` is of `{other}`, a plain member."""

    method: str
    path: str
    body: Any
    owner: int
    admin: int
    member: int

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


GROUP = f"{ROOMS}/{{room}}"
CHAT = f"{MESSAGES}/chats/{{room}}"
MESSAGE = f"{MESSAGES}/{{message}}"
TABLE = (
    Row("GET", GROUP, NOTHING, OK, OK, OK),
    Row("PATCH", GROUP, {"name": "Barn"}, OK, OK, NO),
    Row("DELETE", GROUP, NOTHING, DONE, NO, NO),
    Row("POST", f"{GROUP}/join", {}, OK, OK, OK),
    Row("GET", f"{GROUP}/members", NOTHING, OK, OK, OK),
    Row("POST", f"{GROUP}/members", {"userIds": ["{new}"]}, OK, OK, NO),
    Row("PATCH", f"{GROUP}/members/{{other}}", {"role": "ADMIN"}, OK, OK, NO),
    Row("PATCH", f"{GROUP}/members/{{other}}", {"role": "OWNER"}, OK, NO, NO),
    Row("PATCH", f"{GROUP}/members/{{admin}}", {"role": "MEMBER"}, OK, NO, NO),
    Row("DELETE", f"{GROUP}/members/{{other}}", NOTHING, DONE, DONE, NO),
    Row("DELETE", f"{GROUP}/members/{{second}}", NOTHING, DONE, NO, NO),
    Row("DELETE", f"{GROUP}/members/me", NOTHING, DONE, DONE, DONE),
    Row("GET", f"{CHAT}/messages", NOTHING, OK, OK, OK),
    Row("POST", f"{CHAT}/messages", {"content": "x"}, CREATED, CREATED, CREATED),
    Row("POST", f"{CHAT}/read", {"messageId": "{message}"}, OK, OK, OK),
    Row("GET", f"{CHAT}/pins", NOTHING, OK, OK, OK),
    Row("PATCH", MESSAGE, {"content": "y"}, NO, NO, NO),
    Row("DELETE", MESSAGE, NOTHING, OK, OK, NO),
    Row("PUT", f"{MESSAGE}/reactions/{THUMB}", NOTHING, OK, OK, OK),
    Row("DELETE", f"{MESSAGE}/reactions/{THUMB}", NOTHING, OK, OK, OK),
    Row("PUT", f"{MESSAGE}/pin", NOTHING, OK, OK, NO),
    Row("DELETE", f"{MESSAGE}/pin", NOTHING, OK, OK, NO),
    Row("GET", f"{MESSAGE}/receipts", NOTHING, OK, OK, OK),
    Row("PATCH", f"{CHAT}/settings", {"pinned": True}, OK, OK, OK),
    Row("POST", f"{MESSAGE}/report", {"reason": "SPAM"}, DONE, DONE, DONE),
)


class EventRow(NamedTuple):
    """An event on a group, and whether owner, admin and member may. `{message}` is of `{other}`, a plain member."""

    event: str
    payload: dict[str, Any]
    owner: bool
    admin: bool
    member: bool


AT, OF = {"roomId": "{room}"}, {"messageId": "{message}"}
EVENTS = (
    EventRow("message:send", {**AT, "content": "x"}, True, True, True),
    EventRow("message:read", OF, True, True, True),
    EventRow("message:delivered", OF, True, True, True),
    EventRow("typing:start", AT, True, True, True),
    EventRow("typing:stop", AT, True, True, True),
    EventRow("room:join", AT, True, True, True),
    EventRow("room:leave", AT, True, True, True),
    EventRow("sync", {"rooms": {"{room}": 0}}, True, True, True),
    EventRow("message:edit", {**OF, "content": "y"}, False, False, False),
    EventRow("message:delete", OF, True, True, False),
    EventRow("message:react", {**OF, "emoji": "\N{THUMBS UP SIGN}"}, True, True, True),
    EventRow("message:pin", OF, True, True, False),
    EventRow("message:report", {**OF, "reason": "SPAM"}, True, True, True),
    EventRow("chat:settings", {**AT, "pinned": True}, True, True, True),
)
# What is about no room.
ELSEWHERE = {"presence:get", "auth:refresh", "blocked:get", "user:block", "user:unblock", "sessions:get", "session:end"}
MALFORMED = ("x", "%00", "..%2F..", "%F0%9F%91%8D", "0" * 2_000, "%FF")


class Yard:
    """A group with an owner, two admins and two plain members; somebody who was removed, and a stranger."""

    def __init__(self, room_id: str, people: dict[str, Person], message_id: str) -> None:
        self.room_id = room_id
        self.people = people
        self.ids = {name: person.id for name, person in people.items()} | {"room": room_id, "message": message_id}

    @classmethod
    async def make(cls, everybody: list[Person]) -> "Yard":
        """A new group of the same people."""
        by_name = dict(zip(NAMES, everybody, strict=True))
        owner = by_name["owner"]
        room_id = await make(owner, *everybody[1:6])
        for name in ("admin", "second"):
            path = f"{ROOMS}/{room_id}/members/{by_name[name].id}"
            assert (await owner.call("PATCH", path, {"role": "ADMIN"})).status == OK
        message = await by_name["other"].send(room_id, "of a plain member")
        assert (await remove(owner, room_id, by_name["removed"].id)).status == DONE
        return cls(room_id, by_name, message["messageId"])

    def fill(self, payload: Any, **other: Any) -> Any:
        """The payload with the ids of this group, or with others."""
        if isinstance(payload, dict):
            return {str(self.fill(key, **other)): self.fill(value, **other) for key, value in payload.items()}
        ids = {f"{{{name}}}": value for name, value in (self.ids | other).items()}
        return ids.get(payload, payload) if isinstance(payload, str) else payload

    async def call(self, town: Town, row: Row, who: str, **other: str) -> Answer:
        """As `who`, who has no token if there is nobody of that name."""
        ids = self.ids | other
        path, body = row.path, row.body
        for name, value in ids.items():
            path = path.replace(f"{{{name}}}", value)
            body = body if body is NOTHING else json.loads(json.dumps(body).replace(f"{{{name}}}", value))
        token = self.people[who].access_token if who in self.people else None
        return await town.rest.call(row.method, path, body, token=token)


async def test_members_may_what_their_role_allows(town: Town) -> None:
    everybody = await people(town, len(NAMES))
    for row in TABLE:
        for who in INSIDE:
            yard = await Yard.make(everybody)
            answer = await yard.call(town, row, who)
            assert answer.status == getattr(row, who), (str(row), who, answer)
            if answer.status == NO:
                check_problem(answer, "FORBIDDEN")


async def test_outsiders_see_nothing(town: Town) -> None:
    everybody = await people(town, len(NAMES))
    yard, foreign = await Yard.make(everybody), await Yard.make(await people(town, len(NAMES)))
    there = {name: foreign.ids[name] for name in ("room", "message")}
    for row in TABLE:
        for who in OUTSIDE:
            own = await yard.call(town, row, who)
            missing = await yard.call(town, row, who, room=UNKNOWN, message=UNKNOWN)
            check_problem(own, "NOT_FOUND")
            assert own.body == missing.body, (str(row), who)
        check_problem(await yard.call(town, row, "nobody"), "UNAUTHORIZED")
        # For those who may do most, too, another group is like none.
        check_problem(await yard.call(town, row, "owner", **there), "NOT_FOUND")
        for malformed in MALFORMED:
            answer = await yard.call(town, row, "owner", room=malformed, message=malformed)
            assert answer.status in (400, HIDDEN), (str(row), malformed, answer)
            check_problem(answer, "VALIDATION_FAILED" if answer.status == 400 else "NOT_FOUND")


async def test_members_may_by_socket_what_their_role_allows(town: Town) -> None:
    assert {row.event for row in EVENTS} | ELSEWHERE == HANDLED.keys()
    everybody = await people(town, len(NAMES))
    devices = {who: await everybody[NAMES.index(who)].connect() for who in (*INSIDE, *OUTSIDE)}
    foreign = (await Yard.make(await people(town, len(NAMES)))).ids
    for row in EVENTS:
        yard = await Yard.make(everybody)
        # Who may least goes first, as it cannot be deleted twice.
        for who in reversed(INSIDE):
            ack = await devices[who].call(row.event, yard.fill(row.payload))
            assert ack["ok"] == getattr(row, who), (row.event, who, ack)
            assert ack["ok"] or ack["error"]["code"] == "FORBIDDEN", (row.event, who, ack)
        for who in OUTSIDE:
            own = await devices[who].call(row.event, yard.fill(row.payload))
            missing = await devices[who].call(row.event, yard.fill(row.payload, room=UNKNOWN, message=UNKNOWN))
            assert is_hidden(own) and json.dumps(own).replace(yard.ids["room"], UNKNOWN) == json.dumps(missing), row
        there = await devices["owner"].call(row.event, yard.fill(row.payload, **foreign))
        assert is_hidden(there), (row.event, there)
        for malformed in (*MALFORMED, 7, None, {"$ne": ""}):
            payload = yard.fill(row.payload, room=malformed, message=malformed)
            ack = await devices["owner"].call(row.event, payload)
            assert is_hidden(ack) or ack["error"]["code"] == "VALIDATION_FAILED", (row.event, malformed, ack)


def is_hidden(ack: dict[str, Any]) -> bool:
    """As for a room that does not exist."""
    return not ack["ok"] and bool(ack["error"]["code"] == "NOT_FOUND")


@pytest.mark.embedded_stores
async def test_who_is_deactivated_may_nothing(start_server: StartServer, town_at: Any) -> None:
    server = start_server()
    yard = await Yard.make(await people(town_at(server), len(NAMES)))
    server.stop()
    await deactivate(server.data_dir, yard.ids["owner"])
    server.restart()
    town: Town = town_at(server)
    for row in TABLE:
        check_problem(await yard.call(town, row, "owner"), "UNAUTHORIZED")
