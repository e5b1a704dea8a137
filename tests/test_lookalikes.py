"""Look-alikes: emails that look the same are the same, and names hold no invisible characters."""

import asyncio
from pathlib import Path
from typing import Any

import pymongo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.config.settings import Settings
from server.lookalikes import fold, is_invisible
from tests.conftest import StartServer
from tests.support.own_stores import stores_in
from tests.support.people import PASSWORD, Town, unique
from tests.support.rest import API, Answer
from tests.support.shapes import check_problem

REGISTER = f"{API}/auth/register"
ME = f"{API}/users/me"
ZWSP, ZWJ, ZWNJ, RLM, RLO, SOFT_HYPHEN, FILLER = "\u200b", "\u200d", "\u200c", "\u200f", "\u202e", "\u00ad", "\u3164"
EMOJI = ["👩‍🚀", "👩🏽‍🚀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "❤️‍🔥", "🙂‍↔️", "🏴󠁧󠁢󠁷󠁬󠁳󠁿", "👁️‍🗨️"]
SCRIPTS = ["علی‌رضا", "ක්‍රිෂ්", "ക്‍ഷ", "न्‍य", "葛\U000e0100城"]


def registration(email: str, **fields: str) -> dict[str, str]:
    return {"email": email, "password": PASSWORD, "firstName": "Ann", "lastName": "Lee", **fields}


async def register(town: Town, email: str, **fields: str) -> Answer:
    return await town.rest.call("POST", REGISTER, registration(email, **fields))


async def login(town: Town, email: str) -> Answer:
    return await town.rest.call("POST", f"{API}/auth/login", {"email": email, "password": PASSWORD})


def wide(text: str) -> str:
    """In the full-width letters of Chinese and Japanese fonts."""
    return "".join(chr(ord(letter) + 0xFEE0) for letter in text)


def spellings(stem: str) -> list[str]:
    """Of one address, all of which look like it."""
    plain = f"{stem}@example.com"
    marked = (
        f"{stem[:2]}{mark}{stem[2:]}@example.com" for mark in (ZWSP, ZWJ, RLM, RLO, SOFT_HYPHEN, FILLER, "\ufe0f")
    )
    dotless = plain.replace("i", "\u0131", 1), plain.upper().replace("I", "\u0130", 1)
    return [plain, plain.upper(), f"{wide(stem)}@example.com", *marked, *dotless]


async def test_emails_that_look_alike_are_one(town: Town) -> None:
    stem = unique("inn")
    made = await register(town, f"{stem[:4]}{ZWSP}{stem[4:]}@Example.com")
    assert made.body["user"]["email"] == f"{stem}@example.com", "what nobody sees is not kept"
    for email in spellings(stem):
        check_problem(await register(town, email), "CONFLICT")
        entered = await login(town, email)
        assert (entered.status, entered.body["user"]) == (200, made.body["user"]), ascii(email)
    assert (await register(town, f"{stem}x@example.com")).status == 201


async def test_an_email_is_shown_as_it_was_typed(town: Town) -> None:
    email = f"stra\u00dfe-{unique()}@example.com"
    made = await register(town, email)
    assert made.body["user"]["email"] == email
    check_problem(await register(town, email.replace("\u00df", "ss")), "CONFLICT")
    entered = await login(town, email.upper())
    assert (entered.status, entered.body["user"]["email"]) == (200, email)


@pytest.mark.parametrize("field", ["firstName", "lastName"])
async def test_names_hold_no_marks_that_nobody_sees(town: Town, field: str) -> None:
    person = await town.person()
    alone = [f"An{mark}n" for mark in (ZWSP, ZWJ, ZWNJ, RLM, RLO, SOFT_HYPHEN, FILLER, "\u2060", "\ufeff", "\u2066")]
    astray = [f"👩{ZWJ}", f"👩{ZWJ}n", f"1{ZWJ}👩", f"علی{RLM}", f"علی{ZWNJ}n", "🏴\U000e0067", "n\U000e0067\U000e007f"]
    for name in (*alone, *astray):
        check_problem(await person.call("PATCH", ME, {field: name}), "VALIDATION_FAILED", field)
        if len(name) > 3:
            check_problem(await register(town, f"{unique()}@example.com", **{field: name}), "VALIDATION_FAILED", field)
    for name in (*EMOJI, *SCRIPTS):
        assert (await person.call("PATCH", ME, {field: name})).body[field] == name, ascii(name)


async def test_a_search_does_not_see_them_either(town: Town) -> None:
    asker, last = await town.person(), unique("s")
    asked = {"علی\u200cنقی": "علینقی", "👩\u200d🚀": "👩🚀", "葛\U000e0100城": "葛城"}
    asked |= {wide("Wide"): "w\u0131de", "Straße": f"stra{ZWSP}sse"}
    found = {query: await town.person(name, last) for name, query in asked.items()}
    for query, person in found.items():
        answer = await asker.get(f"{API}/users/search", q=f"{query} {last}")
        assert [user["id"] for user in answer.body["users"]] == [person.id], ascii(query)
    assert (await asker.get(f"{API}/users/search", q=ZWSP)).body == {"users": [], "total": 0}


@pytest.mark.embedded_stores
async def test_whoever_was_there_before_logs_in_as_ever(
    tmp_path: Path, start_server: StartServer, town_at: Any
) -> None:
    async with stores_in(tmp_path) as addresses:
        stores = {"mongodb.uri": addresses.mongodb_uri, "redis.url": addresses.redis_url}
        server = await asyncio.to_thread(start_server, stores)
        plain, alike, alone = await town_at(server).people(3)
        await asyncio.to_thread(server.stop)
        stem, other = unique("ann"), unique("ben")
        emails = {
            plain.id: f"{stem}@example.com",
            alike.id: f"{stem}{ZWSP}@example.com",
            alone.id: f"{wide('b')}{other}@example.com",
        }
        with pymongo.MongoClient[dict[str, Any]](addresses.mongodb_uri) as client:
            database = client[Settings().mongodb.database]
            for user_id, email in emails.items():
                database.users.update_one({"_id": user_id}, {"$set": {"email": email}})
            database.database.drop()
        await asyncio.to_thread(server.start)
        town: Town = town_at(server)
        for user_id, email in emails.items():
            entered = await login(town, email)
            assert (entered.status, entered.body["user"]["id"], entered.body["user"]["email"]) == (200, user_id, email)
        for email in (*emails.values(), f"b{other}@example.com", f"{stem}{RLM}@example.com"):
            check_problem(await register(town, email), "CONFLICT")
        await asyncio.to_thread(server.stop)


async def test_user_types_are_configured(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"auth.user_types": ["Owner", "night nurse"]}))
    for user_type in ("Owner", "OWNER", " night nurse "):
        made = await register(town, f"{unique()}@example.com", userType=user_type)
        assert (made.status, made.body["user"]["userType"]) == (201, user_type.strip())
    for user_type in ("guest", "Own\u0435r", "owner\u200b"):
        refused = await register(town, f"{unique()}@example.com", userType=user_type)
        check_problem(refused, "VALIDATION_FAILED", "userType")


@given(st.text(max_size=20), st.integers(0, 20), st.sampled_from([ZWSP, ZWJ, RLM, SOFT_HYPHEN, FILLER, "\ufe0f"]))
def test_what_nobody_sees_makes_no_difference(text: str, place: int, mark: str) -> None:
    marked = text[:place] + mark + text[place:]
    assert not any(map(is_invisible, fold(marked)))
    assert fold(fold(marked)) == fold(marked)
    if text.isascii():
        assert fold(marked) == fold(text) == fold(text.upper())
