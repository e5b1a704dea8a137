"""The client's address behind proxies: only trusted proxies are believed."""

from typing import Any

import pytest
from tornado.httputil import HTTPHeaders

from handlers.client_address import client_address
from server.client_network import client_network
from tests.conftest import StartServer
from tests.support.people import Town, unique
from tests.support.rest import API

PROXIES = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"]


@pytest.mark.parametrize(
    ("peer", "lines", "address"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.1, 198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.1, 198.51.100.1, 10.1.2.3,10.9.9.9"], "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.1, 198.51.100.1", "10.1.2.3"], "198.51.100.1"),
        ("127.0.0.1", ["192.0.2.1", "198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["10.1.2.3, 10.9.9.9"], "10.1.2.3"),
        ("127.0.0.1", ["192.0.2.1, x, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["192.0.2.1,"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1:8080"], "127.0.0.1"),
        ("::ffff:127.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("fd12::1", ["192.0.2.1, 2001:db8::0001"], "2001:db8::1"),
        ("2001:db8::2", ["2001:db8::1"], "2001:db8::2"),
        ("fe80::1%eth0", ["2001:db8::1"], "fe80::1%eth0"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_last_entry_that_no_trusted_proxy_wrote_of_itself(peer: str, lines: list[str], address: str) -> None:
    headers = HTTPHeaders({"X-Real-Ip": "192.0.2.99", "Forwarded": "for=192.0.2.99"})
    for line in lines:
        headers.add("X-Forwarded-For", line)
    assert client_address(peer, headers, PROXIES) == address


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:0DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("x", "x"),
    ],
)
def test_limits_count_ipv6_by_the_network_of_one_line(address: str, key: str) -> None:
    assert client_network(address) == key


async def registrations(town: Town, *headers: dict[str, str]) -> list[int]:
    """The statuses of one registration with each of these headers."""
    statuses = []
    for each in headers:
        person = {"email": f"{unique('who')}@example.com", "password": "correct horse battery"}
        body = {**person, "firstName": "Jane", "lastName": "Doe"}
        statuses.append((await town.rest.call("POST", f"{API}/auth/register", body, headers=each)).status)
    return statuses


async def test_limits_go_by_the_client_behind_a_trusted_proxy(start_server: StartServer, town_at: Any) -> None:
    limits = {"limits.enabled": True, "limits.registrations_per_hour": 1}
    town = town_at(start_server({**limits, "server.trusted_proxies": ["127.0.0.0/8"]}))
    one, other = {"X-Forwarded-For": "192.0.2.1, 198.51.100.1"}, {"X-Forwarded-For": "198.51.100.2"}
    assert await registrations(town, one, one, other) == [201, 429, 201]
    spoofed = [{"X-Forwarded-For": f"192.0.2.{n}, 198.51.100.1", "X-Real-Ip": f"192.0.2.{n}"} for n in range(2)]
    assert await registrations(town, *spoofed) == [429, 429]


async def test_nobody_else_is_believed(start_server: StartServer, town_at: Any) -> None:
    limits = {"limits.enabled": True, "limits.registrations_per_hour": 1}
    town = town_at(start_server({**limits, "server.trusted_proxies": ["10.9.9.9"]}))
    assert await registrations(town, {}) == [201]
    spoofed = [{name: f"192.0.2.{n}"} for name in ("X-Real-Ip", "X-Forwarded-For") for n in range(2)]
    assert await registrations(town, *spoofed) == [429] * len(spoofed)
