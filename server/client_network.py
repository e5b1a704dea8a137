"""The key of limits by address: an IPv4 address, or the IPv6 /64 network of one subscriber."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

# A subscriber has a whole /64, and may use another address of it for every request.
IPV6_PREFIX: Final = 64


def client_network(address: str) -> str:
    """The key under which `address` is counted; a text that is no address is its own key."""
    try:
        read = ip_address(address)
    except ValueError:
        return address
    if not isinstance(read, IPv6Address):
        return str(read)
    if read.ipv4_mapped is not None:
        # A dual-stack socket reports IPv4 peers in this form.
        return str(read.ipv4_mapped)
    return str(ip_network((int(read), IPV6_PREFIX), strict=False))
