"""The search for people: what finds them, exact totals at any size, and an index that survives kills."""

import asyncio
import random
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import NO_LIMITS, StartServer, serve
from tests.support.people import PASSWORD, Person, Town
from tests.support.rest import API
from tests.support.server_process import ServerProcess
from tests.support.shapes import USER_KEYS, check_problem

SEARCH = f"{API}/users/search"
ME = f"{API}/users/me"
CROWD = 130
MOST_LISTED = 100
AT_ONCE = 10
# More than enough registrations to be in the middle of some when the server is killed.
REGISTRATIONS = 40


def stem() -> str:
    """A word of letters that no other test uses."""
    return "".join(chr(ord("a") + int(digit, 16)) for digit in uuid4().hex[:14])


def hangul(length: int) -> str:
    """Syllables that are together in no other test."""
    return "".join(chr(random.SystemRandom().randrange(0xAC00, 0xD7A4)) for _ in range(length))


async def search(asker: Person, query: str, limit: int | None = None) -> tuple[list[str], int]:
    """The ids found, in order, and the total."""
    answer = await asker.get(SEARCH, q=query, **({} if limit is None else {"limit": limit}))
    assert answer.status == 200, answer
    assert answer.body.keys() == {"users", "total"}
    assert all(user.keys() == USER_KEYS for user in answer.body["users"])
    return [user["id"] for user in answer.body["users"]], answer.body["total"]


async def finds(asker: Person, query: str, *people: Person) -> bool:
    """Whether the query finds just these."""
    found, total = await search(asker, query, 100)
    assert total == len(found)
    return set(found) == {person.id for person in people}


async def crowd(town: Town, count: int, **fields: Any) -> list[Person]:
    made: list[Person] = []
    while len(made) < count:
        some = range(min(AT_ONCE, count - len(made)))
        made += await asyncio.gather(*(town.person(**fields) for _ in some))
    return made


@pytest.fixture(scope="module")
def public_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Where everybody sees, and finds others by, emails and phone numbers."""
    yield from serve(tmp_path_factory.mktemp("public_server"), {**NO_LIMITS, "profiles.contact": "everybody"})


@pytest.fixture
def public_town(town_at: Callable[[ServerProcess], Town], public_server: ServerProcess) -> Town:
    return town_at(public_server)


async def test_words_of_names_are_found_by_their_beginning(town: Town) -> None:
    asker, word, second, last = await town.person(), stem(), stem(), stem()
    person = await town.person(f"{word.title()} {second}-Bo", f"O'{last}")
    full = f"{word} {second}-bo o'{last}"
    found_by = [word, word.upper(), word[:8], second, f"o'{last}", full, full.upper(), f" {word}  {second}", f"{word} "]
    found_by += [f"{second}-bo o'", f"o'{last} {word}"]
    for query in found_by:
        assert await finds(asker, query, person), query
    for query in [
        word[1:],
        f"{word}{second}",
        f"{word}_",
        f".{word[:5]}",
        f"{word[:6]}%",
        "^" + word,
    ]:
        assert await finds(asker, query), query


async def test_an_i_is_found_with_and_without_its_dot(town: Town) -> None:
    asker, word = await town.person(), stem()
    person = await town.person(f"I\u015f\u0131k{word}")
    for query in ("i\u015fik", "\u0131\u015f\u0131k", "I\u015eIK", "\u0130\u015e\u0130K"):
        assert await finds(asker, f"{query}{word}", person), query


async def test_queries_are_literal(town: Town) -> None:
    asker, word = await town.person(), stem()
    odd = await town.person(f"{word}.*+?(x)[y]$", "\\d|{}")
    await town.person(f"{word}abc", "Doe")
    assert await finds(asker, f"{word}.*", odd)
    assert await finds(asker, f"{word}.*+?(x)[y]$ \\d|{{}}", odd)
    for query in (f"{word}.+", f"{word}\\", f"{word}$", f"({word})"):
        assert await finds(asker, query), query


async def test_emails_phones_and_ids(public_town: Town) -> None:
    town = public_town
    asker, box, tag, host = await town.person(), stem(), stem(), stem()
    digits = "82" + str(uuid4().int)[:14]
    phone = f"+{digits[:2]} {digits[2:4]}-{digits[4:8]} ({digits[8:]})"
    email = f"{box}.x+{tag}@{host}.example.co.kr"
    answer = await town.rest.call(
        "POST",
        f"{API}/auth/register",
        {"email": email, "password": PASSWORD, "firstName": "A", "lastName": "B", "phone": phone},
    )
    person = Person(town, answer.body["user"], answer.body["accessToken"], answer.body["refreshToken"])
    for query in (email, email.upper(), box, tag, tag[:9], host, f"{host}.exam", f"{box}.x+{tag[:2]}"):
        assert await finds(asker, query, person), query
    spread = "-".join(digits[position : position + 3] for position in range(0, len(digits), 3))
    for query in (digits, f"+{digits}", digits[:12], phone, phone[:14], spread, f"(+{digits[:4]}) {digits[4:13]}"):
        assert await finds(asker, query, person), query
    for query in (person.id, person.id[:12], person.id[:12].upper()):
        assert await finds(asker, query, person), query
    for query in (email[1:], digits[1:], person.id[1:]):
        assert await finds(asker, query), query


@pytest.mark.parametrize(
    ("code", "zero", "at_home"),
    [("82", "", "0"), ("82", "(0)", "0"), ("63", "", "0"), ("853", "", "0"), ("1", "", None)],
    ids=["Korea", "Korea with 0", "Philippines", "Macao", "North America"],
)
async def test_a_phone_is_found_as_it_is_dialled_at_home(
    public_town: Town, code: str, zero: str, at_home: str | None
) -> None:
    town = public_town
    asker, number = await town.person(), "1" + str(uuid4().int)[:10]
    person = await town.person(phone=f"+{code}{zero} {number[:2]}-{number[2:6]}-{number[6:]}")
    if at_home is None:
        assert await finds(asker, f"0{number}")
        return
    for query in (f"{at_home}{number}", f"{at_home}{number[:2]}-{number[2:6]}-{number[6:]}", f"{at_home}{number[:9]}"):
        assert await finds(asker, query, person), query
    assert await finds(asker, number), number


async def test_whom_both_the_text_and_the_digits_find_counts_once(public_town: Town) -> None:
    town = public_town
    asker, number = await town.person(), str(uuid4().int)[:12]
    by_name = await town.person(f"{number[:6]}-{number[6:]}")
    by_phone = await town.person(phone=f"+1{number}")
    by_both = await town.person(f"+1 {number}", phone=f"+1{number}")
    assert await finds(asker, f"+1 {number}", by_phone, by_both)
    assert await finds(asker, f"{number[:6]}-{number[6:]}", by_name, by_both)


@pytest.mark.parametrize("order", ["given first", "family first"])
async def test_korean_names_are_found_anywhere(town: Town, order: str) -> None:
    asker, family, given = await town.person(), hangul(2), hangul(4)
    person = await town.person(given, family) if order == "given first" else await town.person(family, given)
    for query in (given, family, given[1:], given[1:3], family + given, given + family, f"{family} {given}"):
        assert await finds(asker, query, person), query
    for query in (f"{family[1]}{given[0:2]}", unicodedata.normalize("NFD", given), f"  {given[2:]} "):
        assert await finds(asker, query, person), query
    assert await finds(asker, given[::-1]), given


@pytest.mark.parametrize("name", ["山田" + "太郎", "さくらこ", "タカハシ", "ｶﾀｶﾅ", "王小明𠮷"])
async def test_chinese_and_japanese_names_are_found_anywhere(town: Town, name: str) -> None:
    asker, mark = await town.person(), hangul(3)
    person = await town.person(name + mark, "X")
    plain = unicodedata.normalize("NFKC", name)
    for start in range(len(plain)):
        assert await finds(asker, plain[start:] + mark, person), start


async def test_the_asker_is_left_out(town: Town) -> None:
    word = stem()
    one, other = await town.person(word), await town.person(word)
    assert await finds(one, word, other)
    assert await finds(other, word, one)
    assert await finds(one, one.id)


async def test_a_changed_profile_is_found_by_what_it_says_now(town: Town) -> None:
    asker, before, after = await town.person(), stem(), stem()
    person, same = await town.person(before, phone="+" + str(uuid4().int)[:15]), await town.person(before)
    phone = person.user["phone"]
    await person.call("PATCH", ME, {"firstName": after, "phone": None})
    assert await finds(asker, before, same)
    assert await finds(asker, after, person)
    assert await finds(asker, phone)
    names = [stem() for _ in range(8)]
    await asyncio.gather(*(person.call("PATCH", ME, {"firstName": name}) for name in names))
    now = (await person.get(ME)).body["firstName"]
    for name in [after, *names]:
        assert await finds(asker, name, *([person] if name == now else [])), (name, now)


@pytest.mark.parametrize("limit", [0, 101, -1, "x"])
async def test_a_bad_limit(town: Town, limit: Any) -> None:
    asker = await town.person()
    check_problem(await asker.get(SEARCH, q="x", limit=limit), "VALIDATION_FAILED", "limit")


@pytest.mark.parametrize("query", ["", " ", "\t\n", "\u3000", "x" * 101])
async def test_a_bad_query(town: Town, query: str) -> None:
    asker = await town.person()
    check_problem(await asker.get(SEARCH, q=query), "VALIDATION_FAILED", "q")
    check_problem(await asker.get(SEARCH), "VALIDATION_FAILED", "q")


async def test_odd_queries_find_nobody_and_break_nothing(town: Town) -> None:
    asker = await town.person()
    for query in [
        "x" * 100,
        "\ufdfa" * 100,
        "\u0301",
        "\u200b" * 5,
        "👩‍🚀" * 10,
        "+",
        "$gt",
        '{"$ne": 1}',
        "\uffff" * 5,
    ]:
        found, total = await search(asker, query)
        assert total == len(found), query


async def test_a_crowd_is_counted_exactly_and_listed_in_order(town: Town) -> None:
    """Enough people behind one prefix that neither counting nor listing reads them all."""
    word = stem()
    people = await crowd(town, CROWD, first_name=word)
    renamed = people[: CROWD // 4]
    for person in renamed:
        await person.call("PATCH", ME, {"lastName": f"Renamed {word[::-1]}"})
    asker = people[-1]
    # By the term that finds them ("… doe" before "… renamed"), then by id.
    ordered = sorted(person.id for person in people[len(renamed) : -1]) + sorted(person.id for person in renamed)
    for query in (word[:6], word, f"{word} ", f"{word[:10]}"):
        found, total = await search(asker, query, 100)
        assert (total, found) == (CROWD - 1, ordered[:100]), query
        assert (await search(asker, query, 7))[0] == found[:7]
        assert len((await search(asker, query))[0]) == 20
    assert (await search(asker, f"{word} doe", 100))[1] == CROWD - len(renamed) - 1
    assert await finds(asker, f"{word} renamed", *renamed)
    assert await finds(asker, word[::-1], *renamed)
    stranger = await town.person()
    assert (await search(stranger, word, 1))[1] == CROWD


async def test_more_people_than_one_node_holds_are_all_listed(town: Town) -> None:
    """Their names go apart right after the first letter, so that the index has to be followed downwards."""
    first, word = hangul(1), stem()
    people = await crowd(town, MOST_LISTED - 1, last_name=word)
    names = {person.id: f"{first}{hangul(1)}{number}" for number, person in enumerate(people)}
    for person in people:
        await person.call("PATCH", ME, {"firstName": names[person.id]})
    asker = await town.person()
    found, total = await search(asker, first, MOST_LISTED)
    assert set(found) >= set(names)
    assert total == len(found)
    assert (await search(asker, first, 60))[0] == found[:60]
    gone = people[: MOST_LISTED // 2]
    for person in gone:
        await person.call("PATCH", ME, {"firstName": "Gone"})
    found, total = await search(asker, first, MOST_LISTED)
    assert set(found) >= {person.id for person in people} - {person.id for person in gone}
    assert not set(found) & {person.id for person in gone}
    assert total == len(found)


async def test_whole_words_are_listed_first(town: Town) -> None:
    word = stem()
    longer = await crowd(town, CROWD // 2, first_name=f"{word}berly")
    whole = await crowd(town, 3, first_name=word)
    found, total = await search(longer[0], word, 20)
    assert total == len(longer) + len(whole) - 1
    assert found[:3] == sorted(person.id for person in whole)


async def test_the_index_survives_a_kill_at_any_moment(start_server: StartServer, town_at: Any) -> None:
    process = start_server({})
    town: Town = town_at(process)
    word, emails = stem(), [f"{stem()}@example.com" for _ in range(REGISTRATIONS)]
    fields = {"password": PASSWORD, "firstName": word, "lastName": "Doe"}
    for part in (emails[: REGISTRATIONS // 2], emails[REGISTRATIONS // 2 :]):
        calls = [
            asyncio.ensure_future(town.rest.call("POST", f"{API}/auth/register", {"email": email, **fields}))
            for email in part
        ]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        process.kill()
        await asyncio.gather(*calls, return_exceptions=True)
        process.restart()
        town = town_at(process)
    asker = await town.person("Asker")
    answers = [await town.rest.call("POST", f"{API}/auth/login", {"email": e, "password": PASSWORD}) for e in emails]
    ids = {answer.body["user"]["id"] for answer in answers if answer.status == 200}
    assert ids, "somebody was registered before the kill"
    for query in (word[:1] + word[1:2], word[:3], word[:4], word):
        found, total = await search(asker, query, 100)
        assert (set(found), total) == (ids, len(ids)), query
