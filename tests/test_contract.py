"""The contract for machines: it is valid, complete, and what the server does; what differs is found."""

import asyncio
import copy
import gzip
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from openapi_spec_validator import validate

from handlers.routes import ROUTES
from handlers.socket.events import EVENTS
from server.events import SERVER_EVENTS
from server.operations.table import OPERATIONS
from tests.conftest import NO_LIMITS, StartServer, serve
from tests.support import groups, raw_http
from tests.support.contract import Contract, documents
from tests.support.issuer import ALSO_EXTERNAL, granted_person
from tests.support.people import PASSWORD, Person, Town
from tests.support.raw_http import RawAnswer
from tests.support.rest import API
from tests.support.server_process import ServerProcess

REST, SOCKETS = documents()
JSON_BODY = "application/json"
# Values of required fields that are right.
SAMPLES = {
    "email": "a@example.com",
    "password": PASSWORD,
    "firstName": "A",
    "lastName": "B",
    "name": "A",
    "role": "ADMIN",
}
SAMPLES |= {"content": "x", "type": "GROUP", "emoji": "\N{THUMBS UP SIGN}", "q": "x", "ids": "x"}
# Their longest values are not any text.
FORMATS = ("email", "uri-reference")
OF_SOME_FORM = {"cursor", "emoji", "attachmentUrl", "image", "userType", "forward", "replyTo", "mentions", "userIds"}


class Place(NamedTuple):
    """A field of a body, a query or an event that has bounds."""

    call: str
    name: str
    schema: dict[str, Any]
    good: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.call} {self.name}"


def bare(schema: dict[str, Any]) -> dict[str, Any]:
    """Without null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    return options[0] if len(options) == 1 else schema


def is_bound(schema: dict[str, Any]) -> bool:
    return any(name in bare(schema) for name in ("maxLength", "minLength", "maximum", "minimum", "maxItems", "enum"))


def find_places(document: dict[str, Any], call: str, schema: dict[str, Any]) -> Iterator[Place]:
    if "oneOf" in schema:
        for option in schema["oneOf"]:
            yield from find_places(document, call, option)
        return
    whole = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    good = {name: SAMPLES.get(name, "x") for name in whole.get("required", ())}
    good |= {name: [] for name in ("userIds",) if name in good} | {name: {} for name in ("rooms",) if name in good}
    for name, field in whole["properties"].items():
        if is_bound(field) and not (name == "type" and len(bare(field)["enum"]) == 1):
            yield Place(call, name, bare(field), good)


def rest_places() -> Iterator[Place]:
    for path, methods in REST["paths"].items():
        for method, operation in methods.items():
            call = f"{method.upper()} {path}"
            content = operation.get("requestBody", {}).get("content", {})
            if JSON_BODY in content:
                yield from find_places(REST, call, content[JSON_BODY]["schema"])
            query = {named["name"]: named for named in operation.get("parameters", ()) if named["in"] == "query"}
            good = {name: SAMPLES.get(name, "x") for name, named in query.items() if named["required"]}
            for name, named in query.items():
                if is_bound(named["schema"]):
                    yield Place(f"{call}?", name, named["schema"], good)


def event_places() -> Iterator[Place]:
    for operation in SOCKETS["operations"].values():
        if operation["action"] == "receive":
            key = operation["messages"][0]["$ref"].rpartition("/")[2]
            message = SOCKETS["channels"]["chat"]["messages"][key]
            yield from find_places(SOCKETS, message["name"], message["payload"])


REST_PLACES = list(rest_places())
EVENT_PLACES = list(event_places())


def beyond(schema: dict[str, Any]) -> Iterator[Any]:
    """Values just outside of each bound."""
    if "maxLength" in schema:
        yield "1" * (schema["maxLength"] + 1)
    if "minLength" in schema:
        yield "1" * (schema["minLength"] - 1)
    if "maximum" in schema:
        yield schema["maximum"] + 1
    if "minimum" in schema:
        yield schema["minimum"] - 1
    if "maxItems" in schema:
        yield [str(number) for number in range(schema["maxItems"] + 1)]
    if "enum" in schema:
        yield "NOTHING LIKE IT"


def within(schema: dict[str, Any], name: str) -> Iterator[Any]:
    """Values just inside."""
    if name in OF_SOME_FORM or schema.get("format") in FORMATS:
        return
    if "maxLength" in schema:
        yield "1" * schema["maxLength"]
    if "minLength" in schema:
        yield "1" * schema["minLength"]
    yield from (schema[bound] for bound in ("minimum", "maximum") if bound in schema)
    yield from schema.get("enum", ())


class Group(NamedTuple):
    owner: Person
    room_id: str
    message_id: str
    member_id: str


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that also trusts tokens which grant scopes."""
    yield from serve(tmp_path_factory.mktemp("open_server"), {**NO_LIMITS, **ALSO_EXTERNAL})


@pytest.fixture(scope="module")
def settled(open_server: ServerProcess) -> Group:
    """Made once: a group with a message, which tests leave as it is. Its owner may do everything."""

    async def settle() -> Group:
        town = Town(open_server.url)
        owner = await granted_person(town)
        member = await town.person()
        room_id = await groups.make(owner, member)
        message = await owner.send(room_id)
        await town.close()
        return Group(owner, room_id, message["messageId"], member.id)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, settle()).result()


@pytest.fixture
def group(town_at: Callable[[ServerProcess], Town], open_server: ServerProcess, settled: Group) -> Group:
    return settled._replace(owner=town_at(open_server).resident(settled.owner))


def named(errors: list[dict[str, str]], name: str) -> list[str]:
    return [error["message"] for error in errors if error["path"].partition(".")[0] == name]


async def ask(group: Group, place: Place, value: Any) -> list[dict[str, str]]:
    """The errors of the field that the server names for this value."""
    if " " not in place.call:
        device = await group.owner.connect()
        ids = {"roomId": group.room_id, "messageId": group.message_id}
        ack = await device.call(place.call, {**{k: ids.get(k, v) for k, v in place.good.items()}, place.name: value})
        return list(ack.get("error", {}).get("errors", ()))
    method, _, path = place.call.partition(" ")
    path = path.format(roomId=group.room_id, messageId=group.message_id, userId=group.member_id, emoji="x", name="x")
    fields = {**place.good, place.name: value}
    if path.endswith("?"):
        answer = await group.owner.call(method, path[:-1], query=fields)
    else:
        answer = await group.owner.call(method, path, fields)
    return list((answer.body or {}).get("errors", ()))


@pytest.mark.parametrize("place", [*REST_PLACES, *EVENT_PLACES], ids=str)
async def test_each_bound_is_the_servers(group: Group, place: Place) -> None:
    """Values just outside are refused by name, those just inside are not refused for their size."""
    await check_bounds(group, place)


async def check_bounds(group: Group, place: Place) -> None:
    for value in beyond(place.schema):
        errors = await ask(group, place, value)
        assert named(errors, place.name), (str(value)[:50], errors)
    for value in within(place.schema, place.name):
        errors = await ask(group, place, value)
        words = " ".join(named(errors, place.name))
        assert not any(word in words for word in ("at most", "at least", "one of", "blank")), (str(value)[:50], errors)


def test_the_rest_document_is_valid() -> None:
    validate(REST)
    assert REST["openapi"] == "3.1.0"


def test_the_socket_document_is_valid(validators_folder: Path) -> None:
    """By the parser of those who write the standard."""
    node = shutil.which("node")
    assert node is not None
    printed = subprocess.run(
        [node, "asyncapi.cjs"],
        cwd=validators_folder,
        input=json.dumps(SOCKETS),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(printed.stdout) == {"isDocument": True, "found": []}
    assert SOCKETS["asyncapi"] == "3.0.0"


def test_they_name_everything_that_the_server_does() -> None:
    served = {(route.path, method.lower()) for route in ROUTES if route.is_described for method in route.endpoints}
    assert {(path, method) for path, methods in REST["paths"].items() for method in methods} == served
    left_out = {route.path for route in ROUTES if not route.is_described}
    assert left_out == {"/", "/docs", "/web/settings.json", "/web/{path*}"}, "only the pages"
    by_action: dict[str, set[str]] = {"receive": set(), "send": set()}
    for operation in SOCKETS["operations"].values():
        key = operation["messages"][0]["$ref"].rpartition("/")[2]
        by_action[operation["action"]].add(SOCKETS["channels"]["chat"]["messages"][key]["name"])
    assert by_action == {"receive": set(EVENTS), "send": set(SERVER_EVENTS)}
    described = {endpoint.operation.name for route in ROUTES for endpoint in route.endpoints.values()}
    assert described | {event.operation.name for event in EVENTS.values()} == OPERATIONS.keys()


async def test_they_are_served_for_the_settings_of_this_server(start_server: StartServer, town_at: Any) -> None:
    town = town_at(start_server({"messages.max_length": 77}))
    answer = await town.rest.call("GET", f"{API}/openapi.json")
    path = answer.body["paths"]["/api/v1/messages/chats/{roomId}/messages"]["post"]
    fields = path["requestBody"]["content"][JSON_BODY]["schema"]["properties"]
    assert "roomId" not in fields, "it is in the path"
    assert fields["content"]["anyOf"][0]["maxLength"] == 77
    again = await town.rest.call("GET", f"{API}/openapi.json", headers={"If-None-Match": answer.headers["Etag"]})
    assert (again.status, again.raw) == (304, b"")
    sockets = (await town.rest.call("GET", f"{API}/asyncapi.json")).body
    assert sockets["components"]["schemas"]["SendMessage"]["properties"]["content"]["anyOf"][0]["maxLength"] == 77


MESSAGES_PATH = "/api/v1/messages/chats/{roomId}/messages"


def without_status(rest: Any, _sockets: Any) -> None:
    del rest["paths"][MESSAGES_PATH]["get"]["responses"]["404"]


def without_code(rest: Any, _sockets: Any) -> None:
    schema = rest["paths"][MESSAGES_PATH]["get"]["responses"]["404"]["content"]["application/problem+json"]["schema"]
    schema["allOf"][1]["properties"]["code"]["enum"] = ["CONFLICT"]


def without_field(rest: Any, _sockets: Any) -> None:
    del rest["components"]["schemas"]["Pagination"]["properties"]["totalItems"]


def with_another_type(rest: Any, _sockets: Any) -> None:
    rest["components"]["schemas"]["Pagination"]["properties"]["totalItems"] = {"type": "string"}


def with_a_field_too_many(_rest: Any, sockets: Any) -> None:
    sockets["components"]["schemas"]["Message"]["required"].append("colour")


def without_event(_rest: Any, sockets: Any) -> None:
    del sockets["operations"]["sendMessageNew"]


def without_event_code(_rest: Any, sockets: Any) -> None:
    schema = sockets["channels"]["chat"]["messages"]["roomJoinRefusal"]["payload"]
    schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"] = ["CONFLICT"]


DRIFTS = (without_status, without_code, without_field, with_another_type)
DRIFTS += (with_a_field_too_many, without_event, without_event_code)


async def find_differences(town: Town, contract: Contract) -> list[str]:
    """What a few calls show."""
    one, other, room_id = await town.pair()
    device = await other.connect()
    found = []
    for path in (f"{API}/messages/chats/{room_id}/messages", f"{API}/messages/chats/unknown/messages"):
        answer = await one.get(path)
        found.append(contract.find_in_answer("GET", path, answer.status, answer.headers["Content-Type"], answer.raw))
    await one.send(room_id)
    found.append(contract.find_in_event("message:new", await device.next("message:new")))
    found.append(contract.find_in_ack("room:join", await device.call("room:join", {"roomId": "unknown"})))
    return [difference for difference in found if difference is not None]


@pytest.mark.parametrize("drift", DRIFTS)
async def test_a_drift_is_found(town: Town, drift: Callable[[Any, Any], None]) -> None:
    rest, sockets = copy.deepcopy((REST, SOCKETS))
    assert await find_differences(town, Contract(rest, sockets)) == []
    drift(rest, sockets)
    assert len(await find_differences(town, Contract(rest, sockets))) == 1


async def test_a_bound_that_drifts_is_found(group: Group) -> None:
    """The documents say one more than the server takes, then one less."""
    place = next(place for place in REST_PLACES if place.name == "limit" and place.call.endswith("/messages?"))
    most = place.schema["maximum"]
    assert named(await ask(group, place, most + 1), "limit") and not named(await ask(group, place, most), "limit")
    for drifted in (most + 1, most - 1):
        planted = place._replace(schema={**place.schema, "maximum": drifted})
        with pytest.raises(AssertionError):
            await check_bounds(group, planted)


async def get_raw(person: Person, path: str, encoding: str) -> RawAnswer:
    """As it comes, which the other client would unpack."""
    headers = {"Authorization": f"Bearer {person.access_token}", "Accept-Encoding": encoding}
    return await raw_http.ask(person.town.rest.url, raw_http.request("GET", path, headers))


async def test_compressed_for_those_who_ask(town: Town) -> None:
    one, other, room_id = await town.pair()
    for _ in range(30):
        await one.send(room_id, "the same again and again")
    path = f"{API}/messages/chats/{room_id}/messages"
    plain, packed = [await get_raw(other, path, encoding) for encoding in ("identity", "gzip")]
    assert gzip.decompress(packed.body) == plain.body and len(packed.body) < len(plain.body) / 3
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    refused = await get_raw(other, path, "gzip;q=0, br")
    assert refused.body == plain.body and "content-encoding" not in refused.headers
    small = await get_raw(other, f"{path}?limit=1", "gzip")
    assert "content-encoding" not in small.headers, "below 1 KB"
    for secret in (f"{API}/messages/chats", f"{API}/users/me"):
        assert "content-encoding" not in (await get_raw(other, secret, "gzip")).headers
