"""The table of operations: every verb of the server, once. Routes and events map to these."""

from collections.abc import Mapping
from typing import Any, Final

from server.operations import messages, others, people, rooms, safety
from server.operations.operation import Operation

OPERATIONS: Final[Mapping[str, Operation[Any, Any]]] = {
    operation.name: operation
    for module in (people, rooms, messages, safety, others)
    for operation in vars(module).values()
    if isinstance(operation, Operation)
}
