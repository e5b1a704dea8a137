"""Sessions: valid and invalid access tokens, rotation of refresh tokens, and the end of a token family."""

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pymongo
import pytest

from handlers.socket.engine.websocket import WebSocket
from server.config.load import load
from server.config.settings import Settings
from server.context import open_context
from server.errors import Unauthorized
from server.models import Client, Principal
from server.operations.executor import execute
from server.operations.operation import Caller
from server.operations.people import RENEW_CONNECTION
from server.realtime.connection import Connection
from server.requests import Registration, TokenRef
from server.services.accounts.accounts import Accounts
from server.storage.mongo.sessions import MAX_GOOD, MAX_SPENT
from tests.conftest import StartServer
from tests.support.inactive import deactivate, users_database
from tests.support.own_stores import stores_in
from tests.support.people import PASSWORD, Person, Town, unique
from tests.support.raw_socket import RawSocket
from tests.support.rest import API, Answer
from tests.support.server_process import ROOT
from tests.support.shapes import check_problem
from tests.support.tokens import SECRET, ending_in, expired, forged, resigned, unsigned

ME = f"{API}/users/me"
REFRESH = f"{API}/auth/refresh"
DEADLINE = 30.0
TABS = 20
SLIPPING_ROUNDS = 4
SLIPPING_SOCKETS = 60


async def refresh(town: Town, token: str) -> Answer:
    return await town.rest.call("POST", REFRESH, {"refreshToken": token})


async def status_of(town: Town, token: str) -> int:
    return (await town.rest.call("GET", ME, token=token)).status


def other_algorithm(token: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, SECRET.ljust(64, "."), algorithm="HS512")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (expired, "TOKEN_EXPIRED"),
        (forged, "UNAUTHORIZED"),
        (unsigned, "UNAUTHORIZED"),
        (other_algorithm, "UNAUTHORIZED"),
        (lambda token: resigned(token, exp=None), "UNAUTHORIZED"),
        (lambda token: resigned(token, exp="never"), "UNAUTHORIZED"),
        (lambda token: resigned(token, sub=None), "UNAUTHORIZED"),
        (lambda token: resigned(token, sub=unique()), "UNAUTHORIZED"),
        (lambda token: resigned(token, sid=None), "UNAUTHORIZED"),
        (lambda token: resigned(token, sid=unique()), "UNAUTHORIZED"),
        (lambda token: resigned(token, sid=["x"]), "UNAUTHORIZED"),
        (lambda token: resigned(token, iss="somebody else"), "UNAUTHORIZED"),
        (lambda token: resigned(token, nbf=int(time.time()) + 3600), "UNAUTHORIZED"),
        (lambda token: token[:-4], "UNAUTHORIZED"),
        (lambda token: token.rpartition(".")[0] + ".", "UNAUTHORIZED"),
        (lambda _token: "x", "UNAUTHORIZED"),
    ],
)
async def test_a_changed_token_is_refused(town: Town, change: Any, code: str) -> None:
    person = await town.person()
    token = change(person.access_token)
    check_problem(await town.rest.call("GET", ME, token=token), code)
    device = town.device()
    refused = await device.refused(token)
    assert refused["data"]["code"] in ("UNAUTHORIZED", "TOKEN_EXPIRED")
    assert await status_of(town, person.access_token) == 200


async def test_anothers_session_is_no_session(town: Town) -> None:
    one, other = await town.people(2)
    session_id = jwt.decode(other.access_token, options={"verify_signature": False})["sid"]
    assert await status_of(town, resigned(one.access_token, sid=session_id)) == 401


async def test_a_token_is_good_until_its_time(town: Town) -> None:
    person = await town.person()
    token = ending_in(person.access_token, 1.0)
    assert await status_of(town, token) == 200
    ends = time.time() + DEADLINE
    while (answer := await town.rest.call("GET", ME, token=token)).status == 200:
        assert time.time() < ends
    check_problem(answer, "TOKEN_EXPIRED")


async def test_the_lifetimes_are_configured(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"auth.access_ttl": "120s", "auth.refresh_ttl": "1s"}))
    person = await town.person()
    made_at = time.time()
    claims = jwt.decode(person.access_token, SECRET, algorithms=["HS256"], issuer="madang")
    assert claims["sub"] == person.id
    assert claims["exp"] - made_at <= 120
    assert claims["exp"] - claims["iat"] == pytest.approx(120, abs=1.5)
    answer = await town.rest.call("POST", f"{API}/auth/login", {"email": person.user["email"], "password": PASSWORD})
    assert answer.body["expiresIn"] == 120
    while time.time() <= made_at + 1:
        assert (await town.rest.call("GET", "/healthz")).status == 200
    check_problem(await refresh(town, person.refresh_token), "UNAUTHORIZED")


async def test_a_refresh_gives_a_new_pair_of_the_same_session(town: Town) -> None:
    person = await town.person()
    answer = await refresh(town, person.refresh_token)
    assert answer.status == 200, answer
    assert answer.body["user"] == person.user
    assert answer.body["refreshToken"] != person.refresh_token
    assert await status_of(town, answer.body["accessToken"]) == 200
    assert (await refresh(town, answer.body["refreshToken"])).status == 200


@pytest.mark.parametrize("grace", ["0s", "1s"])
async def test_an_old_refresh_token_ends_its_family_and_no_other(
    start_server: StartServer, town_at: Any, grace: str
) -> None:
    town: Town = town_at(start_server({"auth.refresh_grace": grace}))
    person = await town.person()
    other_login = await town.rest.call(
        "POST", f"{API}/auth/login", {"email": person.user["email"], "password": PASSWORD}
    )
    device = await person.connect()
    renewed = (await refresh(town, person.refresh_token)).body
    ends = time.time() + DEADLINE
    while (answer := await refresh(town, person.refresh_token)).status == 200:
        assert grace != "0s" and time.time() < ends, "using it again does not prolong the grace"
    check_problem(answer, "UNAUTHORIZED")
    check_problem(await refresh(town, renewed["refreshToken"]), "UNAUTHORIZED")
    assert await status_of(town, renewed["accessToken"]) == 401
    assert await status_of(town, person.access_token) == 401
    await device.disconnected()
    assert await status_of(town, other_login.body["accessToken"]) == 200
    assert (await refresh(town, other_login.body["refreshToken"])).status == 200


async def test_a_lost_answer_logs_nobody_out(town: Town) -> None:
    person = await town.person()
    device = await person.connect()
    token = person.refresh_token
    for _ in range(3):
        lost, again = await refresh(town, token), await refresh(town, token)
        assert (lost.status, again.status) == (200, 200)
        assert len({token, lost.body["refreshToken"], again.body["refreshToken"]}) == 3
        token = again.body["refreshToken"]
    assert await status_of(town, again.body["accessToken"]) == 200
    await device.round_trip()


async def test_tabs_that_refresh_at_once_all_go_on(town: Town) -> None:
    person = await town.person()
    tokens = [person.refresh_token] * TABS
    for _ in range(3):
        answers = await asyncio.gather(*(refresh(town, token) for token in tokens))
        assert [answer.status for answer in answers] == [200] * TABS
        tokens = [answer.body["refreshToken"] for answer in answers]
        assert len(set(tokens)) == TABS, "each has one of its own"
    assert await status_of(town, answers[0].body["accessToken"]) == 200


@pytest.mark.embedded_stores
async def test_of_many_lost_answers_the_latest_are_good(start_server: StartServer, town_at: Any) -> None:
    process = start_server()
    town: Town = town_at(process)
    person = await town.person()
    answers = [await refresh(town, person.refresh_token) for _ in range(2 * MAX_GOOD)]
    assert {answer.status for answer in answers} == {200}
    await asyncio.gather(*(refresh(town, answer.body["refreshToken"]) for answer in answers[-MAX_GOOD:]))
    last = await refresh(town, answers[-1].body["refreshToken"])
    assert last.status == 200
    process.stop()
    async with users_database(process.data_dir) as database:
        session = database.sessions.find_one({"userId": person.id})
    assert len(session["good"]) == MAX_GOOD
    assert len(session["spent"]) <= MAX_SPENT


async def test_with_no_grace_one_of_many_refreshes_is_answered(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"auth.refresh_grace": "0s"}))
    person = await town.person()
    answers = await asyncio.gather(*(refresh(town, person.refresh_token) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200] + [401] * 9
    winner = next(answer for answer in answers if answer.status == 200)
    assert (await refresh(town, winner.body["refreshToken"])).status == 401


@pytest.mark.embedded_stores
async def test_a_session_of_an_earlier_version_goes_on(start_server: StartServer, town_at: Any) -> None:
    process = start_server()
    person = await town_at(process).person()
    process.stop()
    async with users_database(process.data_dir) as database:
        session = database.sessions.find_one({"userId": person.id})
        (current,) = session["good"]
        change = {"$set": {"current": current}, "$unset": {"good": "", "spent": ""}}
        database.sessions.update_one({"_id": session["_id"]}, change)
    process.restart()
    town: Town = town_at(process)
    assert await status_of(town, person.access_token) == 200
    answers = await asyncio.gather(*(refresh(town, person.refresh_token) for _ in range(3)))
    assert [answer.status for answer in answers] == [200] * 3
    assert (await refresh(town, answers[0].body["refreshToken"])).status == 200


@pytest.mark.parametrize("made_up", ["", "x", ".", "x.y", "{}.", ".{}", "{}.{}", "{}.x.y"])
async def test_a_made_up_refresh_token(town: Town, made_up: str) -> None:
    check_problem(await refresh(town, made_up.replace("{}", unique())), "UNAUTHORIZED")


async def test_a_token_that_was_never_issued_ends_nothing(town: Town) -> None:
    """The session's id stands in every access token, so that anybody who has seen one could guess at the rest."""
    person = await town.person()
    device = await person.connect()
    token = person.refresh_token
    session_id, random, seal = token.split(".")
    other = (await town.person()).refresh_token.split(".", 1)[1]
    flipped = ("A" if random[0] != "A" else "B") + random[1:]
    for guess in (f"{session_id}.{unique()}", f"{session_id}.{unique()}.{seal}", f"{session_id}.{flipped}.{seal}"):
        check_problem(await refresh(town, guess), "UNAUTHORIZED")
    for guess in (token + "x", token[:-1], token + ".", f"{session_id}.{random}", f"{session_id}.{other}", "é" + token):
        check_problem(await refresh(town, guess), "UNAUTHORIZED")
    assert await status_of(town, person.access_token) == 200
    await device.round_trip()
    assert (await refresh(town, token)).status == 200


async def test_a_logout_ends_one_session_only(town: Town) -> None:
    person = await town.person()
    answer = await town.rest.call("POST", f"{API}/auth/login", {"email": person.user["email"], "password": PASSWORD})
    second = Person(town, person.user, answer.body["accessToken"], answer.body["refreshToken"])
    staying, leaving = await second.connect(), await person.connect()
    assert (await person.call("POST", f"{API}/auth/logout")).status == 204
    await leaving.disconnected()
    assert await status_of(town, person.access_token) == 401
    check_problem(await refresh(town, person.refresh_token), "UNAUTHORIZED")
    assert await status_of(town, second.access_token) == 200
    await staying.round_trip()


async def test_sessions_outlive_the_server(start_server: StartServer, town_at: Any) -> None:
    process = start_server({})
    town: Town = town_at(process)
    staying, leaving = await town.people(2)
    await leaving.call("POST", f"{API}/auth/logout")
    process.kill()
    process.restart()
    town = town_at(process)
    assert await status_of(town, staying.access_token) == 200
    assert await status_of(town, leaving.access_token) == 401
    assert (await refresh(town, staying.refresh_token)).status == 200


@pytest.mark.embedded_stores
async def test_an_inactive_user_is_let_in_nowhere(start_server: StartServer, town_at: Any) -> None:
    process = start_server()
    gone, staying = await town_at(process).people(2)
    process.stop()
    await deactivate(process.data_dir, gone.id)
    process.restart()
    town: Town = town_at(process)
    staying = town.resident(staying)
    check_problem(await town.rest.call("GET", ME, token=gone.access_token), "UNAUTHORIZED")
    assert (await town.device().refused(gone.access_token))["data"]["code"] == "UNAUTHORIZED"
    check_problem(await refresh(town, gone.refresh_token), "UNAUTHORIZED")
    fields = {"email": gone.user["email"], "password": PASSWORD}
    check_problem(await town.rest.call("POST", f"{API}/auth/login", fields), "UNAUTHORIZED")
    check_problem(await staying.get(f"{API}/users/{gone.id}"), "NOT_FOUND")
    assert await status_of(town, staying.access_token) == 200


@pytest.mark.embedded_stores
async def test_whoever_is_deactivated_loses_their_sockets(
    tmp_path: Path, start_server: StartServer, town_at: Any
) -> None:
    async with stores_in(tmp_path) as addresses:
        stores = {"mongodb.uri": addresses.mongodb_uri, "redis.url": addresses.redis_url}
        server = await asyncio.to_thread(start_server, stores)
        town: Town = town_at(server)
        gone, staying, _room_id = await town.pair()
        devices = [await gone.connect(), await gone.connect(["polling"])]
        remaining = await staying.connect()
        with pymongo.MongoClient[dict[str, Any]](addresses.mongodb_uri) as client:
            client[Settings().mongodb.database].users.update_one({"_id": gone.id}, {"$set": {"isActive": False}})
        for device in devices:
            assert (await device.next("exception"))["code"] == "UNAUTHORIZED"
            await device.disconnected()
        assert await status_of(town, gone.access_token) == 401
        assert (await town.device().refused(gone.access_token))["data"]["code"] == "UNAUTHORIZED"
        await remaining.round_trip()
        await asyncio.to_thread(server.stop)


async def lives_until_ended(raw: RawSocket) -> None:
    """Answer pings until the server ends the connection; fails where it does not."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await raw.text()


async def test_no_socket_goes_on_under_a_session_that_ends_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticate = Accounts.authenticate

    async def authenticate_just_before_the_logout(self: Accounts, token: str) -> Principal | None:
        principal = await authenticate(self, token)
        assert principal is not None
        await self.logout(principal)
        return principal

    settings = load(ROOT / "config.yaml", [f"data_dir={tmp_path / 'data'}"], {})
    async with open_context(settings) as context:
        payload = Registration(email=f"{unique()}@example.com", password=PASSWORD, first_name="A", last_name="B")
        pair = await context.accounts.register(payload, Client("127.0.0.1"))
        before = await context.authenticators.authenticate(pair.access_token)
        connection = Connection("sid", "engine sid", WebSocket(max_size=1, max_unsent=1), before)
        monkeypatch.setattr(Accounts, "authenticate", authenticate_just_before_the_logout)
        caller = Caller(before, connection=connection)
        with pytest.raises(Unauthorized):
            await execute(context, caller, RENEW_CONNECTION, lambda: TokenRef(token=pair.access_token))
        assert connection.principal is before


async def test_no_socket_slips_in_while_its_session_ends(quick_town: Town) -> None:
    for _ in range(SLIPPING_ROUNDS):
        person = await quick_town.person()
        raws = [await quick_town.raw_session() for _ in range(SLIPPING_SOCKETS)]

        async def enter(number: int, raws: list[RawSocket] = raws, token: str = person.access_token) -> None:
            # Spread over the time that a logout takes.
            await asyncio.sleep(number * 0.0003)
            await raws[number].send(f"40/chat,{json.dumps({'token': token})}")

        await asyncio.gather(
            person.call("POST", f"{API}/auth/logout"), *(enter(number) for number in range(SLIPPING_SOCKETS))
        )
        await asyncio.gather(*(lives_until_ended(raw) for raw in raws))
