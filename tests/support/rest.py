"""REST calls of the tests: one request, one `Answer`, never an exception for a status."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httputil import HTTPHeaders

from tests.support.contract import contract, note

API = "/api/v1"
MESSAGES = f"{API}/messages"
REQUEST_TIMEOUT = 60.0
PARALLEL_REQUESTS = 600  # no test waits for a free client where it means to be concurrent
NOTHING = object()


class Answer:
    """A response: `status`, `headers`, `raw` and the parsed JSON in `body` (None where there is none)."""

    def __init__(self, status: int, headers: HTTPHeaders, raw: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = raw
        is_json = headers.get("Content-Type", "").split(";")[0].endswith("json")
        self.body: Any = json.loads(raw) if is_json and raw else None

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.raw[:500]!r}>"

    @property
    def paths(self) -> list[str]:
        """The field paths that a validation error names."""
        return [error["path"] for error in (self.body or {}).get("errors", [])]


class Rest:
    """A client of one server. Bound to the loop it was made in; `close` it there."""

    def __init__(self, url: str, certificate: Path | None = None) -> None:
        self.url = url
        trusted = {"ca_certs": str(certificate)} if certificate is not None else {}
        self._client = AsyncHTTPClient(force_instance=True, max_clients=PARALLEL_REQUESTS, defaults=trusted)

    def close(self) -> None:
        self._client.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = NOTHING,
        *,
        token: str | None = None,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request. `body` is sent as JSON, or as it is when it is bytes."""
        all_headers = dict(headers or {})
        payload: bytes | None = None
        if body is not NOTHING:
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            all_headers.setdefault("Content-Type", "application/json")
        if token is not None:
            all_headers["Authorization"] = f"Bearer {token}"
        request = HTTPRequest(
            self.url + path + (f"?{urlencode(query)}" if query else ""),
            method=method,
            body=payload,
            headers=all_headers,
            allow_nonstandard_methods=True,
            follow_redirects=False,
            request_timeout=REQUEST_TIMEOUT,
            connect_timeout=REQUEST_TIMEOUT,
        )
        response = await self._client.fetch(request, raise_error=False)
        assert response.code != 599, f"{method} {path}: no answer ({response.error})"
        answer = Answer(response.code, response.headers, response.body or b"")
        if answer.headers.get("Server") == "madang":
            media = answer.headers.get("Content-Type", "")
            note(contract().find_in_answer(method, path, answer.status, media, answer.raw))
        return answer
