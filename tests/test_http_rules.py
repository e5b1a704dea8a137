"""Rules for every path: unknown paths, wrong methods, the order of errors, health and CORS."""

import asyncio
import json

import pytest

from tests.conftest import Residents, StartServer
from tests.support.people import Town, unique
from tests.support.raw_http import ask, request
from tests.support.rest import API, MESSAGES
from tests.support.routes import ROUTES
from tests.support.shapes import check_problem
from tests.support.uploads import upload

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
ALLOWED: dict[str, set[str]] = {}
for route in ROUTES:
    methods = ALLOWED.setdefault(route.path.split("?")[0].replace("{", "").replace("}", ""), set())
    methods |= route.methods


@pytest.mark.parametrize("path", ALLOWED)
async def test_a_wrong_method_is_told_the_right_ones(town: Town, path: str) -> None:
    for method in METHODS:
        if method in ALLOWED[path]:
            continue
        answer = await town.rest.call(method, path)
        assert answer.status == 405, (method, answer)
        if method != "HEAD":
            check_problem(answer, "METHOD_NOT_ALLOWED")
        assert {name.strip() for name in answer.headers["Allow"].split(",")} - {"OPTIONS"} == ALLOWED[path]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/v1",
        "/api/v2/users/me",
        f"{API}/users",
        f"{API}/users/me/",
        f"{API}/users/a/b",
        f"{MESSAGES}/chats/x/y",
        f"{API}//users/me",
        "/api/v1/%00",
        "/%ff",
        f"{API}/users/a/%ff",
        "/..%2f..%2fetc/passwd",
        "/socket.io/../etc/passwd",
        "/config.yaml",
        "/" + "x" * 5000,
    ],
    ids=lambda path: path[:24],
)
async def test_an_unknown_path(town: Town, residents: Residents, path: str) -> None:
    for method in METHODS[2:]:
        check_problem(await town.rest.call(method, path), "NOT_FOUND")
    check_problem(await town.rest.call("GET", path), "NOT_FOUND")
    check_problem(await town.resident(residents.alice).get(path), "NOT_FOUND")


async def test_the_order_of_errors(town: Town, residents: Residents) -> None:
    """An unknown path first, then the method, then who asks, then the size, then what it says."""
    large, wrong = b"x" * 200_000, b"{"
    token = residents.alice.access_token
    messages = f"{MESSAGES}/chats/{residents.room_id}/messages"
    check_problem(await town.rest.call("POST", "/nothing", large), "NOT_FOUND")
    check_problem(await town.rest.call("PUT", messages, large), "METHOD_NOT_ALLOWED")
    check_problem(await town.rest.call("POST", messages, large), "UNAUTHORIZED")
    check_problem(await town.rest.call("POST", messages, large, token=token), "PAYLOAD_TOO_LARGE")
    check_problem(await town.rest.call("POST", messages, wrong, token=token), "VALIDATION_FAILED")


async def test_a_chunked_body_over_the_limit(town: Town, residents: Residents) -> None:
    reader, writer = await asyncio.open_connection(*town.url.removeprefix("http://").split(":"))
    head = f"POST {MESSAGES}/chats/{residents.room_id}/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    writer.write(f"{head}Authorization: Bearer {residents.alice.access_token}\r\n\r\n".encode())
    for _ in range(5):
        writer.write(b"%x\r\n%s\r\n" % (40_000, b"x" * 40_000))
    writer.write(b"0\r\n\r\n")
    async with asyncio.timeout(30):
        status = await reader.readline()
    writer.close()
    assert status.split()[1] == b"413", status


@pytest.mark.parametrize("length", ["9" * 19, "9" * 20, "9" * 4300, "9" * 4301, "9" * 40_000], ids=len)
async def test_a_length_beyond_all_numbers(town: Town, residents: Residents, length: str) -> None:
    head = {"Authorization": f"Bearer {residents.alice.access_token}", "Content-Length": length}
    for path in (f"{MESSAGES}/chats/{residents.room_id}/messages", f"{API}/upload"):
        answer = await ask(town.url, request("POST", path, head, b"{}"))
        assert (answer.status, json.loads(answer.body)["code"]) == (413, "PAYLOAD_TOO_LARGE"), answer


@pytest.mark.parametrize("size", [132_000, 140_000, 400_000])
async def test_a_head_without_an_end_is_answered(town: Town, size: int) -> None:
    assert (await ask(town.url, b"GET / HTTP/1.1\r\nX: " + b"x" * size)).status == 400
    assert (await ask(town.url, b"x" * size)).status == 400


async def test_a_chunk_without_an_end_of_its_line_is_answered(town: Town) -> None:
    for path in ("/nothing", f"{API}/auth/login", "/socket.io/?EIO=4&transport=polling"):
        answer = await ask(town.url, request("POST", path, {"Transfer-Encoding": "chunked"}, b"x" * 99))
        assert answer.status == 400, answer


async def test_head_is_answered_wherever_get_is(town: Town, residents: Residents) -> None:
    paths = [
        route.path.format(user=residents.alice.id, room=residents.room_id, message=residents.message_id, file="x")
        for route in ROUTES
    ]
    for path in (path for path, route in zip(paths, ROUTES, strict=True) if route.method == "GET"):
        get, head = [await town.resident(residents.alice).call(method, path) for method in ("GET", "HEAD")]
        assert (head.status, head.raw) == (get.status, b""), path
        assert head.headers["Content-Type"] == get.headers["Content-Type"], path


async def test_health_is_public(town: Town) -> None:
    for path in ("/healthz", "/readyz"):
        answer, head = [await town.rest.call(method, path) for method in ("GET", "HEAD")]
        assert answer.status == 200, answer
        assert (head.status, head.raw) == (200, b"")
        assert head.headers["Content-Length"] == answer.headers["Content-Length"]


async def test_foreign_pages_are_let_in_only_where_configured(start_server: StartServer, town_at, town: Town) -> None:
    mine = {"Origin": "https://chat.example.com"}
    other = {"Origin": "https://evil.example.com"}
    open_town = town_at(start_server({"cors.origins": [mine["Origin"]]}))
    answer = await open_town.rest.call("OPTIONS", f"{API}/users/me", headers=mine)
    assert answer.status in (200, 204)
    assert answer.headers["Access-Control-Allow-Origin"] == mine["Origin"]
    for closed, headers in ((open_town, other), (town, mine)):
        answer = await closed.rest.call("GET", f"{API}/users/me", headers=headers)
        assert "Access-Control-Allow-Origin" not in answer.headers
    person = await open_town.person()
    file = await upload(person, b"hello", "hello.txt")
    for headers in {}, mine, other:
        for path, status in ((file["fileUrl"], 200), ("/healthz", 200), (f"{API}/users/me", 401), ("/nothing", 404)):
            answer = await open_town.rest.call("GET", path, headers=headers)
            assert (answer.status, answer.headers["Vary"]) == (status, "Origin"), path
        seen = {"If-None-Match": (await open_town.rest.call("GET", file["fileUrl"])).headers["ETag"]}
        answer = await open_town.rest.call("GET", file["fileUrl"], headers={**headers, **seen})
        assert (answer.status, answer.headers["Vary"]) == (304, "Origin")
    assert "Vary" not in (await town.rest.call("GET", "/healthz", headers=mine)).headers
    polling = "/socket.io/?EIO=4&transport=polling"
    assert (await open_town.rest.call("GET", polling, headers=mine)).status == 200
    assert (await open_town.rest.call("GET", polling, headers=other)).status in (400, 403)
    assert (await town.rest.call("GET", polling, headers=other)).status in (400, 403)
    assert (await open_town.raw(headers=mine)).status == 101
    assert (await open_town.raw(headers=other)).status == 403
    assert (await town.raw(headers=mine)).status == 403


async def test_a_request_that_asks_for_nothing_special_leaks_nothing(town: Town) -> None:
    answer = await town.rest.call("GET", f"/{unique()}")
    assert "ornado" not in answer.headers.get("Server", "")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_refusal_leaves_the_connection_usable(town: Town, residents: Residents) -> None:
    """A client with a dead token asks for something, gets 401, refreshes and goes on over the same connection."""
    messages = f"{MESSAGES}/chats/{residents.room_id}/messages"
    for method, path, size, status in (
        ("GET", messages, 0, b"401"),
        ("POST", messages, 0, b"401"),
        ("GET", "/nothing", 0, b"404"),
        ("DELETE", messages, 0, b"405"),
        ("GET", f"{API}/upload", 0, b"405"),
        ("PUT", f"{API}/upload", 2, b"405"),
        ("POST", messages, 2, b"401"),
        ("PUT", messages, 2, b"405"),
        ("POST", "/nothing", 2, b"404"),
        ("POST", messages, 1_000_000, b"401"),
        ("POST", "/nothing", 1_000_000, b"404"),
    ):
        reader, writer = await asyncio.open_connection(*town.url.removeprefix("http://").split(":"))
        async with asyncio.timeout(30):
            for expected in (status, status):
                length = f"Content-Length: {size}\r\n" if size else ""
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode() + b" " * size)
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.split()[1] == expected, (method, path, size, head)
                await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).split()[1] == b"200", (method, path, size)
        writer.close()


@pytest.mark.parametrize(
    "path", [f"{API}/users/%ff", f"{MESSAGES}/chats/%ff/messages", f"{MESSAGES}/chat-rooms/%ed%a0"]
)
async def test_an_id_that_is_no_text(town: Town, residents: Residents, path: str) -> None:
    check_problem(await town.rest.call("GET", path), "UNAUTHORIZED")
    check_problem(await town.resident(residents.alice).get(path), "NOT_FOUND")
