"""The examples of docs/accounts.md for accounts that are elsewhere: each configuration lets in who has its token."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
import yaml

from tests.support.issuer import Issuer, run_issuer
from tests.support.people import Town
from tests.support.rest import API
from tests.support.server_process import ROOT, ServerProcess

PAGE = (ROOT / "docs" / "accounts.md").read_text()
EXAMPLES = {
    title: (yaml.safe_load(settings), json.loads(claims))
    for title, settings, claims in re.findall(
        r"#### Example: (.+?)\n.*?```yaml\n(.*?)```.*?```json\n(.*?)```", PAGE, re.S
    )
}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with run_issuer() as running:
        running.add("2026-11", "RS256")
        yield running


def flat(section: dict[str, Any], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in section.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def test_there_is_one_for_each_kind_of_issuer() -> None:
    assert list(EXAMPLES) == ["a shared secret", "Keycloak", "Auth0"]


@pytest.mark.parametrize("title", EXAMPLES)
async def test_an_example(
    title: str, issuer: Issuer, start_server: Any, town_at: Callable[[ServerProcess], Town]
) -> None:
    settings, claims = flat(EXAMPLES[title][0]), EXAMPLES[title][1]
    claims |= {"iat": int(time.time()), "exp": int(time.time()) + 3600}
    if "auth.external.jwks_url" in settings:
        # The same path, at an issuer that is there.
        address = urlsplit(str(settings["auth.external.jwks_url"]))
        settings["auth.external.jwks_url"] = address._replace(
            scheme="http", netloc=urlsplit(issuer.url).netloc
        ).geturl()
        token = jwt.encode(claims, issuer.keys["2026-11"][1], algorithm="RS256", headers={"kid": "2026-11"})
    else:
        token = jwt.encode(claims, str(settings["auth.external.secret"]), algorithm="HS256")
    town = town_at(start_server(settings))
    answer = await town.rest.call("GET", f"{API}/users/me", token=token)
    assert (answer.status, answer.body["id"], answer.body["fullName"]) == (200, claims["sub"], "Ann Lee")
    if title != "a shared secret":
        assert answer.body["email"] == "ann@example.com"
    device = await town.device().connect(token)
    assert (await device.call("sync", {"rooms": {}}))["ok"]
