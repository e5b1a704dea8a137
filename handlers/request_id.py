"""The id by which one request is found again: in its answer, and in every line of the log that is about it."""

import re
import secrets
from typing import Final

from tornado.httputil import HTTPServerRequest

from server.log import REQUEST

HEADER: Final = "X-Request-Id"
# Nothing that could end a line, a word or a quotation of a log; long enough for what tracers make.
SANE: Final = re.compile(r"[A-Za-z0-9._:=+/@~-]{1,128}")


def identify(request: HTTPServerRequest) -> str:
    """The client's own id where it gave a sane one, else a new one, which takes its place in the headers."""
    request_id = request.headers.get(HEADER, "")
    if not SANE.fullmatch(request_id):
        request_id = secrets.token_hex(8)
        request.headers[HEADER] = request_id
    REQUEST.set(request_id)
    return request_id
