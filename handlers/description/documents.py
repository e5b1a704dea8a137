"""Both descriptions, made and encoded once at the start."""

from typing import NamedTuple

import msgspec

from handlers.description.asyncapi import describe_sockets
from handlers.description.openapi import describe_rest
from handlers.routes import ROUTES
from handlers.socket.events import EVENTS
from server.config.settings import Settings
from server.events import SERVER_EVENTS


class Documents(NamedTuple):
    """As JSON."""

    openapi: bytes
    asyncapi: bytes


def make_documents(settings: Settings) -> Documents:
    return Documents(
        msgspec.json.encode(describe_rest(ROUTES, settings)),
        msgspec.json.encode(describe_sockets(EVENTS, SERVER_EVENTS, settings)),
    )
