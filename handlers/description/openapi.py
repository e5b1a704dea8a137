"""The OpenAPI 3.1 document of REST, made of the route table and the types that its endpoints read and write."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from handlers.description.schemas import Schema, Schemas, to_camel
from handlers.endpoint import JSON, Endpoint
from handlers.routes import Route
from server import __version__
from server.config.settings import Settings
from server.errors import ChatError, Forbidden, PayloadTooLarge, Problem, TokenExpired, Unauthorized
from server.errors import UnsupportedMediaType as WrongMediaType
from server.operations.executor import COMMON_ERRORS
from server.operations.operation import Nothing

PROBLEM_JSON: Final = "application/problem+json"
_NEEDS_TOKEN: Final = frozenset[type[ChatError]]({Unauthorized, TokenExpired, Forbidden})
_PATH_NAME: Final = re.compile(r"\{(\w+)\}")
_TAGS: Final = {
    "accounts": "Accounts",
    "users": "People",
    "presence": "People",
    "rooms": "Rooms",
    "members": "Rooms",
    "messages": "Messages",
    "uploads": "Files",
}
_OTHER_TAG: Final = "Running it"


def describe_rest(routes: Sequence[Route], settings: Settings) -> Schema:
    """The document. Bounds that are settings have the values of these."""
    described = [route for route in routes if route.is_described]
    endpoints = [endpoint for route in described for endpoint in route.endpoints.values()]
    schemas = Schemas([Problem, *(kind for endpoint in endpoints for kind in _kinds_of(endpoint))], settings)
    uses = Counter(endpoint.operation.name for endpoint in endpoints)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Madang",
            "version": __version__,
            "description": "Chat for apps and marketplaces, by REST. The events are in `/api/v1/asyncapi.json`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys([*_TAGS.values(), _OTHER_TAG])],
        "security": [{"token": []}],
        "paths": {
            route.path: {
                method.lower(): _describe(route, method, endpoint, schemas, uses[endpoint.operation.name] > 1)
                for method, endpoint in route.endpoints.items()
            }
            for route in described
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": schemas.components,
        },
    }
    _drop_unused(document)
    return document


def errors_of(endpoint: Endpoint) -> frozenset[type[ChatError]]:
    """What an endpoint may refuse with."""
    operation = endpoint.operation
    common = COMMON_ERRORS - _NEEDS_TOKEN if operation.is_public else COMMON_ERRORS
    takes_body = endpoint.body is not None or endpoint.form is not None
    return common | operation.errors | {PayloadTooLarge} | ({WrongMediaType} if takes_body else set())


def _kinds_of(endpoint: Endpoint) -> Iterable[Any]:
    reply = endpoint.operation.reply if endpoint.media == JSON else None
    return (kind for kind in (endpoint.body, endpoint.query, endpoint.form, reply) if kind not in (None, Nothing))


def _describe(route: Route, method: str, endpoint: Endpoint, schemas: Schemas, is_repeated: bool) -> Schema:
    operation = endpoint.operation
    path_names = _PATH_NAME.findall(route.path)
    described: Schema = {
        "operationId": to_camel(operation.name.replace(".", "_")) + (f"_{method.lower()}" if is_repeated else ""),
        "summary": operation.summary,
        "tags": [_TAGS.get(operation.name.partition(".")[0], _OTHER_TAG)],
        "responses": _responses(method, endpoint, schemas),
    }
    parameters = [*map(_path_parameter, path_names), *_query_parameters(endpoint, schemas), *_headers(endpoint)]
    if parameters:
        described["parameters"] = parameters
    if endpoint.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": _body(endpoint, path_names, schemas)}},
        }
    if endpoint.form is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": schemas.of(endpoint.form)}},
        }
    if operation.is_public:
        described["security"] = []
    else:
        described["x-scope"] = operation.scope
    return described


def _path_parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameters(endpoint: Endpoint, schemas: Schemas) -> list[Schema]:
    if endpoint.query is None:
        return []
    fields = schemas.fields_of(endpoint.query)
    required = fields.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(schema)}
        for name, schema in fields["properties"].items()
    ]


def _without_null(schema: Schema) -> Schema:
    """A query has no null: what may be null is left out there."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema


def _headers(endpoint: Endpoint) -> list[Schema]:
    return [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string", "minLength": 1}}
        for name in endpoint.headers
    ]


def _body(endpoint: Endpoint, path_names: Sequence[str], schemas: Schemas) -> Schema:
    """The schema of the body, without what the path says."""
    schema = schemas.of(endpoint.body)
    if not path_names or "$ref" not in schema:
        return schema
    whole = schemas.fields_of(endpoint.body)
    if not any(name in whole["properties"] for name in path_names):
        return schema
    left = {name: field for name, field in whole["properties"].items() if name not in path_names}
    required = [name for name in whole.get("required", ()) if name not in path_names]
    # Somebody who reads it looks for the fields of this call, not for the name of a struct.
    return {"type": "object", "properties": left} | ({"required": required} if required else {})


def _responses(method: str, endpoint: Endpoint, schemas: Schemas) -> Schema:
    described: dict[str, Schema] = {}
    for status in endpoint.statuses:
        described[str(status)] = {"description": HTTPStatus(status).phrase} | _content(endpoint, status, schemas)
    if method == "GET" and endpoint.media == JSON:
        # Tornado answers so to an `If-None-Match` that names the `ETag`.
        described["304"] = {"description": HTTPStatus.NOT_MODIFIED.phrase}
    by_status: dict[int, list[type[ChatError]]] = {}
    for error in sorted(errors_of(endpoint), key=lambda kind: (kind.status, kind.code)):
        by_status.setdefault(error.status, []).append(error)
    for status, errors in by_status.items():
        answer = described.setdefault(str(status), {"description": errors[0].title})
        answer.setdefault("content", {})[PROBLEM_JSON] = {"schema": _problem([error.code for error in errors], schemas)}
    return dict(sorted(described.items()))


def _content(endpoint: Endpoint, status: int, schemas: Schemas) -> Schema:
    if status in (204, 304):
        return {}
    if endpoint.media != JSON:
        return {"content": {endpoint.media: {"schema": {"type": "string"} if endpoint.media == "text/plain" else {}}}}
    return {"content": {JSON: {"schema": schemas.of(endpoint.operation.reply)}}}


def _problem(codes: Sequence[str], schemas: Schemas) -> Schema:
    return {"allOf": [schemas.of(Problem), {"properties": {"code": {"enum": sorted(set(codes))}}}]}


def _drop_unused(document: Schema) -> None:
    """Components to which nothing refers: queries, and bodies that stand in their calls without a name."""
    components = document["components"]["schemas"]
    while unused := components.keys() - set(re.findall(r'"#/components/schemas/(\w+)"', _encode(document))):
        for name in unused:
            del components[name]


def _encode(document: Schema) -> str:
    return msgspec.json.encode(document).decode()
