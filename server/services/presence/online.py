"""The set of online users of this process: `Presence` maintains it, other services read it."""

from collections.abc import Collection


class OnlineUsers:
    """A user is online with a connected socket, and for the grace time after the last one."""

    def __init__(self) -> None:
        self.user_ids: set[str] = set()

    async def online(self, user_ids: Collection[str]) -> set[str]:
        """Those of `user_ids` who are online."""
        return {user_id for user_id in user_ids if user_id in self.user_ids}
