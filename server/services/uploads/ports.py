"""What uploads need of other services. Each is implemented by one of them, and wired in `server/context.py`."""

from typing import Protocol


class Limits(Protocol):
    async def check_upload(self, user_id: str) -> None: ...
