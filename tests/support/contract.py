"""Compares what a server does with what its descriptions say: every answer, ack and event that any test gets."""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from handlers.description.asyncapi import describe_sockets
from handlers.description.openapi import describe_rest
from handlers.routes import ROUTES, pattern_of
from handlers.socket.events import EVENTS
from server.config.settings import Settings
from server.events import SERVER_EVENTS

Document = dict[str, Any]
# Answers of other statuses than these were described with a body.
NO_BODY = (204, 304)


def close(value: Any) -> Any:
    """The same schemas, which now refuse fields that they do not name."""
    if isinstance(value, list):
        return [close(item) for item in value]
    if not isinstance(value, dict):
        return value
    closed = {key: close(item) for key, item in value.items()}
    if value.get("type") == "object" and "properties" in value:
        closed["additionalProperties"] = False
    return closed


class Contract:
    """What the two documents say. `find_…` return what differs from them, in words, or nothing."""

    def __init__(self, rest: Document, sockets: Document) -> None:
        self._paths = [(re.compile(pattern_of(path)), methods) for path, methods in rest["paths"].items()]
        self._messages = sockets["channels"]["chat"]["messages"]
        self._operations = {
            operation["action"] + ":" + self._named(operation["messages"][0])["name"]: operation
            for operation in sockets["operations"].values()
        }
        self._components = {"rest": close(rest["components"]), "sockets": close(sockets["components"])}
        self._validator = functools.cache(self._make_validator)

    def find_in_answer(self, method: str, path: str, status: int, content_type: str, raw: bytes) -> str | None:
        """What is wrong with an answer of REST. A path that is not described is none of the contract's."""
        described = self._find_path(path)
        operation = (described or {}).get("get" if method == "HEAD" else method.lower())
        if operation is None:
            return None
        call = f"{method} {path}"
        response = operation["responses"].get(str(status))
        if response is None:
            return f"{call}: the status {status} is not described"
        media = content_type.partition(";")[0]
        if status in NO_BODY or method == "HEAD":
            return None
        content = response.get("content", {})
        schema = content.get(media, content.get("*/*"))
        if schema is None:
            return f"{call}: {status} is not described as {media}"
        return self._find_fault(call, "rest", schema["schema"], json.loads(raw)) if media.endswith("json") else None

    def find_in_ack(self, event: str, ack: Any) -> str | None:
        """What is wrong with the ack of a client's event."""
        operation = self._operations.get(f"receive:{event}")
        if operation is None:
            return None
        good, refusal = (self._named(message)["payload"] for message in operation["reply"]["messages"])
        is_good = isinstance(ack, dict) and ack.get("ok") is True
        return self._find_fault(f"the ack of {event}", "sockets", good if is_good else refusal, ack)

    def find_in_event(self, event: str, payload: Any) -> str | None:
        """What is wrong with an event of the server."""
        operation = self._operations.get(f"send:{event}")
        if operation is None:
            return f"the event {event} is not described"
        return self._find_fault(event, "sockets", self._named(operation["messages"][0])["payload"], payload)

    def _find_path(self, path: str) -> Mapping[str, Any] | None:
        """The first that fits takes the request."""
        bare = path.partition("?")[0]
        return next((methods for pattern, methods in self._paths if pattern.fullmatch(bare)), None)

    def _named(self, reference: Mapping[str, str]) -> Any:
        return self._messages[reference["$ref"].rpartition("/")[2]]

    def _find_fault(self, what: str, side: str, schema: Document, value: Any) -> str | None:
        error = next(self._validator(side, json.dumps(schema)).iter_errors(value), None)
        return None if error is None else f"{what}: {error.instance_path}: {error.message[:500]}"

    def _make_validator(self, side: str, schema: str) -> Any:
        bundle = {**close(json.loads(schema)), "components": self._components[side]}
        return jsonschema_rs.Draft202012Validator(bundle)


@functools.cache
def documents() -> tuple[Document, Document]:
    """As they are with the defaults of all settings: bounds of what is sent are of no importance here."""
    rest, sockets = describe_rest(ROUTES, Settings()), describe_sockets(EVENTS, SERVER_EVENTS, Settings())
    return json.loads(json.dumps(rest)), json.loads(json.dumps(sockets))


@functools.cache
def contract() -> Contract:
    return Contract(*documents())


# What differed in the test that runs; the fixture `contract_is_kept` looks at it.
DIFFERENCES: list[str] = []


def note(difference: str | None) -> None:
    if difference is not None:
        DIFFERENCES.append(difference)
