"""Planted: unread counts take notices for messages."""

from server.room_state import RoomState
from tests.torture.planted import serve


def unread_with_notices(self: RoomState, user_id: str) -> int:
    member = self.members.get(user_id)
    if member is None:
        return 0
    read = max(member.read, self.first_visible(user_id))
    return (self.last_seq - member.sent) - (read.seq - read.own)


if __name__ == "__main__":
    RoomState.unread = unread_with_notices  # type: ignore[method-assign]
    serve()
