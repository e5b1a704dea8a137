"""Which pages may call: those that this server's own address has, and those of `cors.origins`. One rule for all."""

import re
from typing import Final, NamedTuple

from tornado.httputil import HTTPHeaders
from tornado.web import RequestHandler

from handlers.client_address import is_trusted
from server.config.settings import Settings

_AUTHORITY: Final = r"([A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?"
_HOST: Final = re.compile(_AUTHORITY)
_ORIGIN: Final = re.compile(rf"([a-z]{{2,5}})://{_AUTHORITY}/?", re.IGNORECASE)
# Some clients and proxies name a WebSocket by its own scheme.
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    scheme: str
    host: str
    port: int


def is_foreign(peer: str, headers: HTTPHeaders, settings: Settings) -> bool:
    """Whether a page of another origin, which is not listed either, sends a request with these headers.

    A page is our own if its host and port are those that the request names. The scheme counts where a trusted proxy
    tells it: without one nobody knows whether there is TLS in front of this server. What is no page sends no `Origin`.
    """
    header = headers.get("Origin")
    if header is None:
        return False
    origin = _read_origin(header)
    if origin is None:
        return True
    if origin in map(_read_origin, settings.cors.origins):
        return False
    # Set by browsers alone, which know their own address also where a proxy puts another into `Host`.
    if headers.get("Sec-Fetch-Site") == "same-origin":
        return False
    return not (_is_named(origin, headers) and _forwarded_scheme(peer, headers, settings) in (None, origin.scheme))


def allow_origin(handler: RequestHandler, settings: Settings) -> bool:
    """Let the page that sends the request read the answer, unless it is foreign; False where there is none to let."""
    if settings.cors.origins:
        # Also on answers to no origin or a wrong one: a cache must not give these to a page that may read them.
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
    """Whether the `Host` of the request is that of the origin; a port left out is that of the origin's scheme."""
    found = _HOST.fullmatch(headers.get("Host", ""))
    return found is not None and (found[1].lower(), int(found[2] or _PORTS[origin.scheme])) == origin[1:]


def _forwarded_scheme(peer: str, headers: HTTPHeaders, settings: Settings) -> str | None:
    """The client's scheme, as a trusted proxy tells it: of several entries the first is of whoever met the client."""
    if not is_trusted(peer, settings.server.trusted_proxies):
        return None
    return _SCHEMES.get(headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower())
