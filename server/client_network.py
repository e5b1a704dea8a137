"""What limits by address count as one client: an IPv4 address, or a network of IPv6 as large as one line is given."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

# Whoever has one line has all of its /64, and may take another address of it for every request.
IPV6_PREFIX: Final = 64


def client_network(address: str) -> str:
    """The key under which `address` is counted; what is no address is its own key."""
    try:
        read = ip_address(address)
    except ValueError:
        return address
    if not isinstance(read, IPv6Address):
        return str(read)
    if read.ipv4_mapped is not None:
        # A socket for both families tells IPv4 peers in this form.
        return str(read.ipv4_mapped)
    return str(ip_network((int(read), IPV6_PREFIX), strict=False))
