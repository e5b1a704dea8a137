"""Whose request it is: the address of the client, also behind proxies that are trusted."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from tornado.httputil import HTTPHeaders


def client_address(peer: str, headers: HTTPHeaders, trusted_proxies: Sequence[str]) -> str:
    """The address of the peer; where that is a trusted proxy, the last in `X-Forwarded-For` that is none.

    `trusted_proxies` are addresses and networks. What stands before the first entry that is not trusted, or is no
    address, may be made up by the client: it does not count. Nor does any other header.
    """
    networks = [ip_network(proxy) for proxy in trusted_proxies]
    address = _read(peer)
    # Several lines of one header come as one, in their order.
    forwarded = headers.get("X-Forwarded-For", "").split(",")
    while address is not None and forwarded and any(address in network for network in networks):
        before = _read(forwarded.pop().strip())
        if before is None:
            break
        address = before
    return peer if address is None else str(address)


def is_trusted(peer: str, trusted_proxies: Sequence[str]) -> bool:
    """Whether what a peer says in `X-Forwarded-…` counts."""
    address = _read(peer)
    return address is not None and any(address in ip_network(proxy) for proxy in trusted_proxies)


def _read(entry: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(entry)
    except ValueError:
        return None
    # A socket for both families tells IPv4 peers in this form.
    return getattr(address, "ipv4_mapped", None) or address
