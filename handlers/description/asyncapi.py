"""The AsyncAPI 3.0 document of the sockets, made of the tables of events both ways and the types that these carry."""

import re
from collections.abc import Mapping
from typing import Any, Final

from handlers.description.schemas import Schema, Schemas
from handlers.endpoint import JSON
from handlers.socket.events import Event
from server import __version__
from server.config.settings import Settings
from server.errors import ChatError
from server.events import ServerEvent
from server.operations.executor import COMMON_ERRORS
from server.protocol import NAMESPACE, Refusal

_CHANNEL: Final = {"$ref": "#/channels/chat"}
_CHANNEL_TEXT: Final = """\
The namespace of Socket.IO, by WebSocket or HTTP long-polling. Connect with `auth: {token}` or the header
`Authorization: Bearer T`. A refusal is a `connect_error` whose `data` is an `Error`. Every event of a client may carry
an ack callback: it gets the ack that is described with the event, or a `Refusal`. Without one, a failure comes as the
event `exception`."""


def describe_sockets(
    events: Mapping[str, Event], server_events: Mapping[str, ServerEvent], settings: Settings
) -> Schema:
    """The document, from the view of the server: it receives the events of clients, and sends its own."""
    kinds = [kind for event in events.values() for kind in (event.payload, event.ack)]
    schemas = Schemas([*kinds, Refusal, *(event.payload for event in server_events.values())], settings)
    messages: dict[str, Schema] = {}
    operations: dict[str, Schema] = {}
    for name, event in events.items():
        key = _key(name)
        messages[f"{key}Request"] = _message(name, event.operation.summary, schemas.of(event.payload))
        messages[f"{key}Ack"] = _message(f"{name} (ack)", "It succeeded", schemas.of(event.ack))
        messages[f"{key}Refusal"] = _message(f"{name} (ack)", "It failed", _refusal(event, schemas))
        operations[f"receive{_capital(key)}"] = {
            "action": "receive",
            "summary": event.operation.summary,
            "channel": _CHANNEL,
            "messages": [_reference(f"{key}Request")],
            "reply": {"channel": _CHANNEL, "messages": [_reference(f"{key}Ack"), _reference(f"{key}Refusal")]},
            "x-scope": event.operation.scope,
        }
    for name, sent in server_events.items():
        key = _key(name)
        messages[f"{key}Event"] = _message(name, sent.summary, schemas.of(sent.payload))
        operations[f"send{_capital(key)}"] = {
            "action": "send",
            "summary": sent.summary,
            "channel": _CHANNEL,
            "messages": [_reference(f"{key}Event")],
            "x-acked": sent.is_acked,
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Madang",
            "version": __version__,
            "description": "Chat for apps and marketplaces, by Socket.IO. REST is in `/api/v1/openapi.json`.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {
            "madang": {
                "host": f"localhost:{settings.server.port or 3000}",
                "pathname": "/socket.io",
                "protocol": "socket.io",
                "protocolVersion": "5",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            }
        },
        "channels": {"chat": {"address": NAMESPACE, "description": _CHANNEL_TEXT, "messages": messages}},
        "operations": operations,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": schemas.components,
        },
    }


def event_errors_of(event: Event) -> frozenset[type[ChatError]]:
    """What an event may be refused with."""
    return COMMON_ERRORS | event.operation.errors


def _message(name: str, summary: str, payload: Schema) -> Schema:
    return {"name": name, "summary": summary, "payload": payload}


def _refusal(event: Event, schemas: Schemas) -> Schema:
    codes = sorted({error.code for error in event_errors_of(event)})
    error = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    return {"allOf": [schemas.of(Refusal), error]}


def _reference(message: str) -> dict[str, Any]:
    return {"$ref": f"#/channels/chat/messages/{message}"}


def _key(name: str) -> str:
    """The name of an event as an identifier: `message:send` is `messageSend`."""
    first, *rest = re.split(r"\W", name)
    return first + "".join(map(_capital, rest))


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]
