"""Request ids: sent in every answer and added to every log line about the request."""

import re
import secrets
from typing import Final

from tornado.httputil import HTTPServerRequest

from server.log.context import REQUEST

HEADER: Final = "X-Request-Id"
# Without spaces, quotes or line breaks, so that it is one word in a log; long enough for ids of tracers.
VALID: Final = re.compile(r"[A-Za-z0-9._:=+/@~-]{1,128}")


def identify(request: HTTPServerRequest) -> str:
    """The client's `X-Request-Id` if valid, else a new id, which replaces it in the headers."""
    request_id = request.headers.get(HEADER, "")
    if not VALID.fullmatch(request_id):
        request_id = secrets.token_hex(8)
        request.headers[HEADER] = request_id
    REQUEST.set(request_id)
    return request_id
