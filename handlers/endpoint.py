"""Endpoint: one method of a route, declared once: what it reads and how it answers."""

from typing import Any, Final, NamedTuple, get_args

from server.operations.operation import Operation

JSON: Final = "application/json"
CREATED: Final = (201,)
# 200 if it was there before.
CREATED_OR_FOUND: Final = (201, 200)
NO_CONTENT: Final = (204,)


class Endpoint(NamedTuple):
    """The operation of a method, the declared types of its body and query, and the statuses of its answers.

    Handlers parse no other types and answer with no other status. `form` is that of a multipart body. `headers` names
    those that change what is done. `media` is the type of the answer.

    `is_compressible`: the answer holds nothing that is secret from others whose words it holds. The size of a
    compressed answer tells those on the way what is alike in it (BREACH).
    """

    operation: Operation[Any, Any]
    body: Any = None
    query: Any = None
    form: Any = None
    headers: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (200,)
    media: str = JSON
    is_compressible: bool = False

    def check_body(self, kind: type) -> None:
        if kind is not self.body and kind not in get_args(self.body):
            raise RuntimeError(f"{self.operation.name} declares no body {kind.__name__}")

    def check_query(self, kind: type) -> None:
        if kind is not self.query:
            raise RuntimeError(f"{self.operation.name} declares no query {kind.__name__}")

    def check_status(self, status: int) -> None:
        if status not in self.statuses:
            raise RuntimeError(f"{self.operation.name} declares no status {status}")
