"""The address of the client that sent a request, also behind trusted proxies."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from tornado.httputil import HTTPHeaders


def client_address(peer: str, headers: HTTPHeaders, trusted_proxies: Sequence[str]) -> str:
    """The peer's address; if that is a trusted proxy, the last address in `X-Forwarded-For` that is not trusted.

    `trusted_proxies` are addresses and networks. Entries before the last untrusted or malformed one are ignored, as the
    client may have made them up. No other header is read.
    """
    networks = [ip_network(proxy) for proxy in trusted_proxies]
    address = _read(peer)
    # Tornado joins repeated headers in order.
    forwarded = headers.get("X-Forwarded-For", "").split(",")
    while address is not None and forwarded and any(address in network for network in networks):
        before = _read(forwarded.pop().strip())
        if before is None:
            break
        address = before
    return peer if address is None else str(address)


def is_trusted(peer: str, trusted_proxies: Sequence[str]) -> bool:
    """Whether the `X-Forwarded-…` headers of this peer are believed."""
    address = _read(peer)
    return address is not None and any(address in ip_network(proxy) for proxy in trusted_proxies)


def _read(entry: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(entry)
    except ValueError:
        return None
    # A dual-stack socket reports IPv4 peers in this form.
    return getattr(address, "ipv4_mapped", None) or address
