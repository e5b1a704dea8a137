"""Every answer has a request id, the client's own if it is valid, and so has every log line about a request."""

import re

import pytest

from tests.conftest import Residents, StartServer
from tests.support.people import Town, unique
from tests.support.raw_http import ask, request
from tests.support.rest import API
from tests.support.routes import ROUTES
from tests.support.uploads import FORM, form
from tests.support.waiting import eventually

HEADER = "X-Request-Id"
MADE_HERE = re.compile(r"[0-9a-f]{16}")
POLLING = "/socket.io/?EIO=4&transport=polling"


async def test_every_answer_has_an_id(town: Town, residents: Residents) -> None:
    alice = town.resident(residents.alice)
    seen = set()
    paths = [
        (route.method, route.path.format(user=alice.id, room=residents.room_id, message=residents.message_id, file="x"))
        for route in ROUTES
    ]
    others = [("GET", "/nothing"), ("DELETE", "/healthz"), ("OPTIONS", f"{API}/users/me"), ("HEAD", "/healthz")]
    sockets = [("GET", POLLING), ("GET", "/socket.io/?EIO=2"), ("POST", POLLING), ("DELETE", POLLING)]
    for method, path in (*paths, *others, *sockets):
        # Not by Alice's own hand: she would be logged out.
        answer = await town.rest.call(method, path, {} if method in ("POST", "PATCH") else b"")
        assert MADE_HERE.fullmatch(answer.headers[HEADER]), (method, path, answer)
        seen.add(answer.headers[HEADER])
    assert len(seen) == len(paths) + len(others) + len(sockets)
    for method, path in (("GET", f"{API}/users/me"), ("PATCH", f"{API}/users/me"), ("GET", f"{API}/users/{alice.id}")):
        answer = await alice.call(method, path, *([{}] if method == "PATCH" else []))
        assert answer.status == 200 and MADE_HERE.fullmatch(answer.headers[HEADER]), answer
    raw = await town.raw()
    assert raw.status == 101 and re.search(r"x-request-id: [0-9a-f]{16}\r\n", raw.response_head, re.IGNORECASE)


@pytest.mark.parametrize("path", ["/healthz", f"{API}/users/me", "/nothing", POLLING])
async def test_the_clients_own_id_is_kept(town: Town, path: str) -> None:
    for given in ("a", unique(), "Root=1-67891233-abcdef012345678912345678", "x" * 128):
        answer = await town.rest.call("GET", path, headers={HEADER: given})
        assert answer.headers[HEADER] == given


@pytest.mark.parametrize("given", ["x" * 129, "a b", "a,b", '"a"', "<b>", "한", "a\tb", "{}", "%0a", "a;b"])
async def test_one_that_is_not_sane_is_replaced(town: Town, given: str) -> None:
    head = {HEADER: given.encode().decode("latin-1")}
    answer = await ask(town.url, request("GET", "/healthz", head))
    assert MADE_HERE.fullmatch(answer.headers[HEADER.lower()]), answer


async def test_requests_on_one_connection_have_ids_of_their_own(town: Town) -> None:
    twice = request("GET", "/healthz", {HEADER: "first"}) + request("GET", "/nothing", {"Connection": "close"})
    answer = await ask(town.url, twice)
    assert answer.headers[HEADER.lower()] == "first"


async def test_pages_of_other_origins_may_send_and_read_it(start_server: StartServer, town_at) -> None:
    origin = {"Origin": "https://chat.example.com"}
    town = town_at(start_server({"cors.origins": [origin["Origin"]]}))
    answer = await town.rest.call("OPTIONS", f"{API}/users/me", headers=origin)
    assert HEADER in answer.headers["Access-Control-Allow-Headers"].split(", ")
    answer = await town.rest.call("GET", "/healthz", headers=origin)
    assert HEADER in answer.headers["Access-Control-Expose-Headers"].split(", ")


async def test_lines_about_a_request_name_it(start_server: StartServer, town_at) -> None:
    server = start_server()
    town = town_at(server)
    person = await town.person()
    # Something that nobody foresees: the folder of uploads is no folder.
    uploads = server.data_dir / "uploads"
    uploads.rename(server.data_dir / "elsewhere")
    uploads.write_text("")
    headers = {**FORM, HEADER: "find-me"}
    answer = await person.call("POST", f"{API}/upload", form(b"hello", "secret-name.txt"), headers=headers)
    assert (answer.status, answer.headers[HEADER]) == (500, "find-me"), answer

    async def is_logged() -> bool:
        failed = "request failed method=POST handler=UploadHandler\nTraceback"
        return f"ERROR handlers.base [find-me user={person.id}]: {failed}" in server.log()

    await eventually(is_logged, "a line with the id of the request")
    assert "secret-name" not in server.log()
    uploads.unlink()
    (server.data_dir / "elsewhere").rename(uploads)
    # What the server does by itself later is not about that request.
    server.stop()
    assert server.log().count("find-me") == 1, server.log_tail()
