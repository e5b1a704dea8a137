"""Who may read the metrics: addresses that the settings name, and whoever has the token."""

import hmac
import ipaddress
from collections.abc import Sequence

from server.errors import Unauthorized


class Scrapers:
    def __init__(self, allow: Sequence[str], token: str) -> None:
        self.configure(allow, token)

    def configure(self, allow: Sequence[str], token: str) -> None:
        """From now on these may read them."""
        self._networks = [ipaddress.ip_network(one) for one in allow]
        self._token = token

    def check(self, address: str, token: str) -> None:
        """Raise `Unauthorized` unless this address, or whoever has this token, may read them."""
        if self._token and hmac.compare_digest(token.encode(), self._token.encode()):
            return
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            raise Unauthorized from None
        if not any(known in network for network in self._networks):
            raise Unauthorized
