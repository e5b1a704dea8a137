"""Planted: whoever is deactivated stays on the sockets that are open."""

from server.context import Context
from tests.torture.planted import serve


async def end_nothing(_self: Context, _user_id: str) -> None:
    """Ends no socket."""


if __name__ == "__main__":
    Context._end_inactive = end_nothing  # type: ignore[method-assign]
    serve()
