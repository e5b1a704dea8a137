"""Origin check of REST and sockets: allows the server's own origin and those in `cors.origins`."""

import re
from typing import Final, NamedTuple

from tornado.httputil import HTTPHeaders
from tornado.web import RequestHandler

from handlers.client_address import is_trusted
from server.config.settings import Settings

_AUTHORITY: Final = r"([A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?"
_HOST: Final = re.compile(_AUTHORITY)
_ORIGIN: Final = re.compile(rf"([a-z]{{2,5}})://{_AUTHORITY}/?", re.IGNORECASE)
# Some clients and proxies send a WebSocket scheme as origin.
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    scheme: str
    host: str
    port: int


def is_foreign(peer: str, headers: HTTPHeaders, settings: Settings) -> bool:
    """Whether these headers come from a page of an origin that is neither the server's own nor listed.

    An origin is the server's own if its host and port match `Host`. The scheme is compared only if a trusted proxy
    forwards it: otherwise TLS in front of this server cannot be ruled out. A request without `Origin` is not foreign.
    """
    header = headers.get("Origin")
    if header is None:
        return False
    origin = _read_origin(header)
    if origin is None:
        return True
    if origin in map(_read_origin, settings.cors.origins):
        return False
    # Set by browsers only; correct even if a proxy rewrites `Host`.
    if headers.get("Sec-Fetch-Site") == "same-origin":
        return False
    return not (_is_named(origin, headers) and _forwarded_scheme(peer, headers, settings) in (None, origin.scheme))


def allow_origin(handler: RequestHandler, settings: Settings) -> bool:
    """Set the CORS header for the requesting page; False if there is no origin or a foreign one."""
    if settings.cors.origins:
        # Also without an allowed origin: a cache must not serve that answer to an allowed page.
        handler.set_header("Vary", "Origin")
    origin = handler.request.headers.get("Origin")
    if origin is None or is_foreign(handler.request.remote_ip or "", handler.request.headers, settings):
        return False
    handler.set_header("Access-Control-Allow-Origin", origin)
    return True


def _read_origin(text: str) -> Origin | None:
    found = _ORIGIN.fullmatch(text)
    scheme = _SCHEMES.get(found[1].lower()) if found else None
    if found is None or scheme is None:
        return None
    return Origin(scheme, found[2].lower(), int(found[3] or _PORTS[scheme]))


def _is_named(origin: Origin, headers: HTTPHeaders) -> bool:
    """Whether `Host` matches the origin; a missing port is the default of the origin's scheme."""
    found = _HOST.fullmatch(headers.get("Host", ""))
    return found is not None and (found[1].lower(), int(found[2] or _PORTS[origin.scheme])) == origin[1:]


def _forwarded_scheme(peer: str, headers: HTTPHeaders, settings: Settings) -> str | None:
    """The client's scheme as forwarded by a trusted proxy; the first of several entries is the client's."""
    if not is_trusted(peer, settings.server.trusted_proxies):
        return None
    return _SCHEMES.get(headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower())
