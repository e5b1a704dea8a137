"""Tokens that another service signs: who is let in as whom, keys that change, and what attackers try."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.conftest import NO_LIMITS, serve
from tests.support.issuer import AUDIENCE, ISSUER, Issuer, make_key, public_jwk, public_pem, run_issuer, sign
from tests.support.people import Town, unique
from tests.support.rest import API, MESSAGES, Answer
from tests.support.server_process import ServerProcess
from tests.support.shapes import USER_KEYS, check_error, check_problem
from tests.support.waiting import eventually

SECRET = "a secret that the shop and the chat server share, long enough for HS512 too"
CHECKED = {"auth.external.issuer": ISSUER, "auth.external.audience": AUDIENCE}
ME = f"{API}/users/me"
ANN = {"given_name": "Ann", "family_name": "Lee", "email": "ann@example.com"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that trusts tokens signed with a secret that it shares with the other service."""
    settings = {"auth.mode": "external", "auth.external.algorithms": ["HS256"], "auth.external.secret": SECRET}
    yield from serve(tmp_path_factory.mktemp("shared_secret"), {**NO_LIMITS, **CHECKED, **settings})


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with run_issuer() as running:
        for key_id, algorithm in (("rsa", "RS256"), ("pss", "PS384"), ("curve", "ES256"), ("ed", "EdDSA")):
            running.add(key_id, algorithm)
        yield running


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[ServerProcess]:
    """A server that trusts the keys of an issuer, and a secret beside them: the ground of confused keys."""
    settings = {
        "auth.mode": "external",
        "auth.external.algorithms": ["RS256", "PS384", "ES256", "EdDSA", "HS256"],
        "auth.external.secret": SECRET,
        "auth.external.jwks_url": issuer.url,
    }
    yield from serve(tmp_path_factory.mktemp("key_set"), {**NO_LIMITS, **CHECKED, **settings})


@pytest.fixture
def town(town_at: Callable[[ServerProcess], Town], shared: ServerProcess) -> Town:
    return town_at(shared)


@pytest.fixture
def keyed_town(town_at: Callable[[ServerProcess], Town], keyed: ServerProcess) -> Town:
    return town_at(keyed)


def signed(user_id: str, **claims: Any) -> str:
    return sign(user_id, SECRET, "HS256", **claims)


async def me(town: Town, token: str) -> Answer:
    return await town.rest.call("GET", ME, token=token)


async def test_who_comes_for_the_first_time_is_made_from_the_claims(town: Town) -> None:
    user_id = unique("shop|")
    more = {"phone_number": "+82 10-1234-5678", "picture": "https://shop.example.com/a.png", "userType": "VIP seller"}
    answer = await me(town, signed(user_id, **ANN, **more, trustScore=4.5))
    assert answer.status == 200
    assert answer.body.keys() == USER_KEYS
    expected = {
        "id": user_id, "firstName": "Ann", "lastName": "Lee", "fullName": "Ann Lee", "email": "ann@example.com",
        "phone": "+82 10-1234-5678", "profileImage": "https://shop.example.com/a.png", "userType": "VIP seller",
        "trustScore": 4.5,
    }  # fmt: skip
    assert {key: answer.body[key] for key in expected} == expected
    again = await me(town, signed(user_id, given_name="Other", family_name="Name"))
    assert again.body["firstName"] == "Ann", "who is known stays as they are"


async def test_two_first_tokens_at_once_make_one_person(town: Town) -> None:
    user_id = unique("shop|")
    answers = await asyncio.gather(*(me(town, signed(user_id, **ANN)) for _ in range(8)))
    assert {answer.status for answer in answers} == {200} and {answer.body["id"] for answer in answers} == {user_id}


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({}, "User"),
        ({"email": "kim@example.com"}, "kim"),
        ({"name": "Kim Minsu"}, "Kim Minsu"),
        (
            {"given_name": 7, "family_name": ["x"], "email": {"$ne": ""}, "picture": "javascript:x", "trustScore": "a"},
            "User",
        ),
        ({"given_name": "x" * 300}, "x" * 100),
        ({"given_name": "\x00\x01", "family_name": "Lee"}, "Lee"),
        ({"firstName": "수진", "lastName": "조"}, "수진 조"),
    ],
)
async def test_claims_that_are_of_no_use_keep_nobody_out(town: Town, claims: dict[str, Any], name: str) -> None:
    answer = await me(town, signed(unique("shop|"), **claims))
    assert answer.status == 200 and answer.body["fullName"] == name, answer
    assert answer.body.keys() == USER_KEYS


async def test_people_of_elsewhere_chat_as_everybody_does(town: Town) -> None:
    ids = [unique("auth0|") for _ in range(2)]
    tokens = [signed(user_id, **ANN) for user_id in ids]
    for token in tokens:
        assert (await me(town, token)).status == 200, "the same email is no hindrance"
    made = await town.rest.call("POST", f"{MESSAGES}/chat-rooms", {"otherUserId": ids[1]}, token=tokens[0])
    assert made.status == 201
    device = await town.device().connect(tokens[1])
    sent = await town.rest.call(
        "POST", f"{MESSAGES}/chats/{made.body['id']}/messages", {"content": "Hello!"}, token=tokens[0]
    )
    assert (await device.next("message:new"))["messageId"] == sent.body["messageId"]
    assert (await town.rest.call("GET", f"{API}/users/{ids[0].replace('|', '%7C')}", token=tokens[1])).status == 200
    found = await town.rest.call("GET", f"{API}/users/search", token=tokens[1], query={"q": ids[0]})
    assert [user["id"] for user in found.body["users"]] == [ids[0]]


async def test_accounts_are_elsewhere(town: Town) -> None:
    person = {"email": "x@example.com", "password": "correct horse", "firstName": "A", "lastName": "B"}
    for path, body in (("register", person), ("login", person), ("refresh", {"refreshToken": "x.y.z"})):
        check_problem(await town.rest.call("POST", f"{API}/auth/{path}", body), "FORBIDDEN")


async def test_a_token_ends_and_is_renewed_on_an_open_socket(town: Town) -> None:
    user_id = unique("shop|")
    device = await town.device().connect(signed(user_id, exp=time.time() + 3))
    fresh = await device.call("auth:refresh", {"token": signed(user_id)})
    assert fresh["ok"]
    check_error((await device.call("auth:refresh", {"token": signed(unique("shop|"))}))["error"], "FORBIDDEN")
    short = await town.device().connect(signed(user_id, exp=time.time() + 1))
    assert (await short.next("exception"))["code"] == "TOKEN_EXPIRED"
    check_problem(await me(town, signed(user_id, exp=int(time.time()) - 1)), "TOKEN_EXPIRED")


def compact(header: dict[str, Any], claims: dict[str, Any], key: bytes | None = None) -> str:
    """A token made by hand: with an HMAC of any key, or unsigned."""

    def encode(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    body = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
    return f"{body}.{'' if key is None else encode(hmac.new(key, body.encode(), hashlib.sha256).digest())}"


def good_claims(**others: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop|attacker", "exp": time.time() + 600, **others}


ATTACKS: dict[str, Callable[[], str]] = {
    "no algorithm": lambda: compact({"alg": "none"}, good_claims()),
    "no algorithm, by case": lambda: compact({"alg": "nOnE"}, good_claims()),
    "no algorithm, signed": lambda: compact({"alg": "none"}, good_claims(), SECRET.encode()),
    "other secret": lambda: sign("x", "b" * 64, "HS256"),
    "an algorithm that is not pinned": lambda: sign("x", SECRET, "HS512"),
    "other issuer": lambda: signed("x", iss="https://evil.example.com"),
    "no issuer": lambda: signed("x", iss=None),
    "wrong audience": lambda: signed("x", aud="mail"),
    "no audience": lambda: signed("x", aud=None),
    "no expiry": lambda: signed("x", exp=None),
    "endless expiry": lambda: compact({"alg": "HS256"}, good_claims(exp=float("inf")), SECRET.encode()),
    "expiry in words": lambda: compact({"alg": "HS256"}, good_claims(exp="tomorrow"), SECRET.encode()),
    "expiry that is true": lambda: compact({"alg": "HS256"}, good_claims(exp=True), SECRET.encode()),
    "not valid yet": lambda: signed("x", nbf=time.time() + 3600),
    "issued in the future": lambda: signed("x", iat=time.time() + 3600),
    "no subject": lambda: signed("x", sub=None),
    "empty subject": lambda: signed(""),
    "subject of another kind": lambda: compact({"alg": "HS256"}, good_claims(sub={"$ne": ""}), SECRET.encode()),
    "subject that is a path": lambda: signed("me"),
    "subject with a control character": lambda: signed("a\x00b"),
    "long subject": lambda: signed("x" * 129),
    "empty critical header": lambda: compact({"alg": "HS256", "crit": []}, good_claims(), SECRET.encode()),
    "unknown critical header": lambda: compact({"alg": "HS256", "crit": ["x"], "x": 1}, good_claims(), SECRET.encode()),
    "key in the header": lambda: sign("x", KEY, "RS256", header={"jwk": public_jwk("RS256", KEY, "own"), "kid": "own"}),
    "key id that is a path": lambda: compact({"alg": "HS256", "kid": "../../../dev/null"}, good_claims(), b""),
    "key id of another kind": lambda: compact({"alg": "HS256", "kid": {"a": 1}}, good_claims(), SECRET.encode()),
    "payload that is no object": lambda: compact({"alg": "HS256"}, [1], SECRET.encode()),  # type: ignore[arg-type]
    "deep header": lambda: compact({"alg": "HS256", "x": json.loads("[" * 50 + "]" * 50)}, good_claims(), b"x"),
}
KEY = make_key("RS256")


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_is_refused(town: Town, keyed_town: Town, attack: str) -> None:
    for here in (town, keyed_town):
        answer = await me(here, ATTACKS[attack]())
        check_problem(answer, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    refusal = await town.device().refused(ATTACKS[attack]())
    check_error(refusal["data"], "UNAUTHORIZED")


async def test_a_public_key_is_no_secret(keyed_town: Town, issuer: Issuer) -> None:
    """The well-known confusion: HS256 with the text of the public key, which everybody has."""
    for key_id in ("rsa", "curve", "ed"):
        algorithm, key = issuer.keys[key_id]
        for text in (public_pem(key), json.dumps(public_jwk(algorithm, key, key_id))):
            header = {"alg": "HS256", "kid": key_id}
            check_problem(await me(keyed_town, compact(header, good_claims(), text.encode())), "UNAUTHORIZED")


async def test_a_key_set_that_the_token_names_is_never_asked(keyed_town: Town) -> None:
    with run_issuer() as evil:
        evil.add("rsa", "RS256")
        _, key = evil.keys["rsa"]
        for name in ("jku", "x5u"):
            check_problem(
                await me(keyed_town, sign("x", key, "RS256", header={name: evil.url, "kid": "rsa"})), "UNAUTHORIZED"
            )
        assert evil.asked == 0


@pytest.mark.parametrize("key_id", ["rsa", "pss", "curve", "ed"])
async def test_keys_of_every_kind(keyed_town: Town, issuer: Issuer, key_id: str) -> None:
    user_id = unique("shop|")
    assert (await me(keyed_town, issuer.token(user_id, key_id, **ANN))).body["id"] == user_id
    algorithm, key = issuer.keys[key_id]
    assert (await me(keyed_town, sign(user_id, key, algorithm))).status == 200, "without a key id all keys are tried"
    other = next(name for name in issuer.keys if name != key_id)
    check_problem(await me(keyed_town, sign(user_id, key, algorithm, header={"kid": other})), "UNAUTHORIZED")


async def test_secrets_and_keys_of_wrong_sizes_in_a_key_set_are_of_no_use(
    town_at: Callable[[ServerProcess], Town], start_server: Any
) -> None:
    small = make_key("RS256", bits=1024)
    huge = public_jwk("RS256", make_key("RS256"), "huge")
    huge["n"] = base64.urlsafe_b64encode(((1 << 16384) + 1).to_bytes(2049, "big")).decode().rstrip("=")
    secret = base64.urlsafe_b64encode(b"s" * 64).decode().rstrip("=")
    with run_issuer() as own:
        own.add("good", "RS256")
        own.extra = [
            public_jwk("RS256", small, "small"),
            huge,
            {"kty": "oct", "k": secret, "kid": "secret", "alg": "HS256"},
            public_jwk("RS256", KEY, "encryption", use="enc"),
            {"kty": "RSA", "kid": "broken", "n": "x"},
            {"kty": "what"},
        ]
        settings = {"auth.mode": "external", "auth.external.algorithms": ["RS256"], "auth.external.jwks_url": own.url}
        town = town_at(start_server(settings))
        assert (await me(town, own.token("a", "good"))).status == 200
        with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
            weak = sign("a", small, "RS256", header={"kid": "small"})
        refused = [weak, sign("a", KEY, "RS256", header={"kid": "encryption"})]
        refused.append(compact({"alg": "HS256", "kid": "secret"}, good_claims(), b"s" * 64))
        refused += [sign("a", KEY, "RS256", header={"kid": key_id}) for key_id in ("huge", "broken")]
        for token in refused:
            check_problem(await me(town, token), "UNAUTHORIZED")


async def test_keys_are_rotated_and_a_flood_of_unknown_ids_asks_once(
    town_at: Callable[[ServerProcess], Town], start_server: Any
) -> None:
    with run_issuer() as own:
        settings = {
            "auth.mode": "external",
            "auth.external.algorithms": ["ES256"],
            "auth.external.jwks_url": own.url,
            "auth.external.jwks_refresh": "1s",
        }
        own.add("old", "ES256")
        own.is_down = True
        server = start_server(settings)
        town = town_at(server)
        check_problem(await me(town, own.token("a", "old")), "UNAVAILABLE")
        own.is_down, own.speaks_http = False, False
        asked = own.asked

        async def was_asked() -> bool:
            return own.asked > asked

        await eventually(was_asked, "it is asked again")
        check_problem(await me(town, own.token("a", "old")), "UNAVAILABLE")
        own.speaks_http = True
        await _until(lambda: me(town, own.token("a", "old")), 200)
        own.add("new", "ES256")
        await _until(lambda: me(town, own.token("a", "new")), 200)
        del own.keys["old"]
        own.is_down = True
        asked = own.asked
        flood = [sign("a", make_key("ES256"), "ES256", header={"kid": f"{number}"}) for number in range(20)]
        for answer in await asyncio.gather(*(me(town, token) for token in flood)):
            check_problem(answer, "UNAUTHORIZED")
        assert own.asked - asked <= 5, "only what looks by itself has asked"
        assert (await me(town, own.token("a", "new"))).status == 200, "known keys stay"
        assert "Traceback" not in server.log()


async def _until(ask: Callable[[], Any], status: int) -> None:
    async with asyncio.timeout(30):
        while (await ask()).status != status:
            await asyncio.sleep(0.05)


async def test_both_kinds_of_accounts_stay_apart(start_server: Any, town_at: Callable[[ServerProcess], Town]) -> None:
    settings = {"auth.mode": "both", "auth.external.algorithms": ["HS256"], "auth.external.secret": SECRET}
    town = town_at(start_server(settings))
    own = await town.person()
    assert (await own.get(ME)).body["id"] == own.id
    check_problem(await me(town, signed(own.id)), "UNAUTHORIZED")
    user_id = unique("shop|")
    assert (await me(town, signed(user_id, email=own.user["email"]))).status == 200
    keeper = signed("keeper", scope="users:write")
    for method, body in (("PUT", {"firstName": "X"}), ("DELETE", {})):
        check_problem(await town.rest.call(method, f"{API}/users/{own.id}", body, token=keeper), "CONFLICT")
    assert await own.open_room(type("Other", (), {"id": user_id})()), "they talk to each other"
    again = {"email": own.user["email"], "password": "correct horse battery"}
    assert (await town.rest.call("POST", f"{API}/auth/login", again)).body["user"]["id"] == own.id


async def test_a_public_key_in_a_file(
    tmp_path: Path, start_server: Any, town_at: Callable[[ServerProcess], Town]
) -> None:
    file = tmp_path / "key.pem"
    file.write_text(public_pem(KEY))
    settings = {
        "auth.mode": "external",
        "auth.external.algorithms": ["RS256"],
        "auth.external.public_key_file": str(file),
    }
    town = town_at(start_server(settings))
    assert (await me(town, sign("a", KEY, "RS256"))).status == 200
    check_problem(await me(town, sign("a", make_key("RS256"), "RS256")), "UNAUTHORIZED")
    check_problem(await me(town, compact({"alg": "HS256"}, good_claims(), file.read_bytes())), "UNAUTHORIZED")
