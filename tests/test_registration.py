"""Who may make an account: anybody, whoever has an invitation, or nobody."""

import re
import time
from typing import Any

import jwt
import pytest

from tests.conftest import StartServer
from tests.support.browser import Browser
from tests.support.people import PASSWORD, Town, unique
from tests.support.rest import API, NOTHING, Answer
from tests.support.server_process import ServerProcess
from tests.support.shapes import check_problem
from tests.support.tokens import SECRET

REGISTER = f"{API}/auth/register"


def body(**fields: Any) -> dict[str, Any]:
    return {"email": f"{unique()}@example.com", "password": PASSWORD, "firstName": "A", "lastName": "B", **fields}


async def register(town: Town, **fields: Any) -> Answer:
    return await town.rest.call("POST", REGISTER, body(**fields))


def invite(server: ServerProcess, *options: str) -> str:
    """The token in the link that the command prints."""
    link = server.run("invite", "--url", server.url, *options).strip()
    found = re.fullmatch(rf"{re.escape(server.url)}/#invite=(\S+)", link)
    assert found is not None, link
    return found[1]


@pytest.fixture
def inviting(start_server: StartServer) -> ServerProcess:
    return start_server({"auth.registration": "invite"})


async def test_nobody_may(start_server: StartServer, town_at: Any) -> None:
    town = town_at(start_server({"auth.registration": "closed"}))
    check_problem(await register(town), "FORBIDDEN")
    check_problem(await register(town, invite="x"), "FORBIDDEN")
    assert (await town.rest.call("GET", "/web/settings.json")).body["registration"] == "closed"


async def test_who_is_invited_may(inviting: ServerProcess, town_at: Any) -> None:
    town, token = town_at(inviting), invite(inviting)
    for _ in range(2):
        assert (await register(town, invite=token)).status == 201, "whoever has the link"
    assert (await town.rest.call("GET", "/web/settings.json")).body["registration"] == "invite"


async def test_an_invitation_may_be_for_one_address(inviting: ServerProcess, town_at: Any) -> None:
    town, email = town_at(inviting), f"{unique()}@Example.com"
    token = invite(inviting, "--email", email)
    check_problem(await register(town, invite=token), "VALIDATION_FAILED", "invite")
    assert (await register(town, invite=token, email=email.upper())).status == 201


def signed(secret: str = SECRET, **claims: Any) -> str:
    known = {"iss": "madang", "aud": "invite", "exp": time.time() + 60, **claims}
    return jwt.encode({name: value for name, value in known.items() if value is not None}, secret, "HS256")


async def test_nothing_else_is_an_invitation(inviting: ServerProcess, town_at: Any) -> None:
    town = town_at(inviting)
    person = (await register(town, invite=invite(inviting))).body
    wrong = {
        "none": NOTHING,
        "null": None,
        "empty": "",
        "garbage": "a.b.c",
        "an access token": person["accessToken"],
        "another secret": signed("another secret of at least 32 characters"),
        "expired": signed(exp=time.time() - 1),
        "without an end": signed(exp=None),
        "of another issuer": signed(iss="elsewhere"),
        "for something else": signed(aud="else"),
        "unsigned": jwt.encode({"iss": "madang", "aud": "invite", "exp": time.time() + 60}, None, "none"),
    }
    for label, token in wrong.items():
        answer = await register(town, **({} if token is NOTHING else {"invite": token}))
        check_problem(answer, "VALIDATION_FAILED", "invite")
        assert SECRET not in str(answer.body), label
    answer = await town.rest.call("GET", f"{API}/users/me", token=invite(inviting))
    check_problem(answer, "UNAUTHORIZED")


async def test_an_invitation_ends(inviting: ServerProcess, town_at: Any) -> None:
    token = invite(inviting, "--for", "1ms")
    check_problem(await register(town_at(inviting), invite=token), "VALIDATION_FAILED", "invite")


async def test_where_anybody_may_an_invitation_is_not_looked_at(town: Town) -> None:
    assert (await register(town, invite="whatever")).status == 201


def test_the_page_follows_the_link(inviting: ServerProcess, first: Browser) -> None:
    first.go(inviting.url)
    first.wait_until("return !document.getElementById('sign-in').hidden")
    assert first.run("return document.querySelector('[data-part=other]').hidden") is True
    link = f"{inviting.url}/#invite={invite(inviting)}"
    first.go("about:blank")
    first.go(link)
    first.wait_text("#sign-in", "Make the account")
    for name, value in body().items():
        first.type(f"[name={name}]", value)
    first.click("[data-part=submit]")
    first.wait_until("return !document.getElementById('chats').hidden")
    assert first.console_errors() == []
