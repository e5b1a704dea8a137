"""The set of users who are online at this process, shared by those who show it and the one who keeps it."""

from collections.abc import Collection


class OnlineUsers:
    """Online is who has a socket, or had one less than the grace time ago."""

    def __init__(self) -> None:
        self.user_ids: set[str] = set()

    async def online(self, user_ids: Collection[str]) -> set[str]:
        """Those of `user_ids` who are online."""
        return {user_id for user_id in user_ids if user_id in self.user_ids}
