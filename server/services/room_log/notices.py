"""Posts notices: entries of a room's log that tell what happened to the room, and make it happen."""

from collections.abc import Callable

from server.models import Message, Notice, User
from server.room_state import RoomState
from server.services.room_log.pending import PendingMessage
from server.services.room_log.write_queue import WriteQueue


class Notices:
    def __init__(self, write_queue: WriteQueue) -> None:
        self._write_queue = write_queue

    async def post(
        self, room: RoomState, by: User, content: str, notice: Notice, check: Callable[[RoomState], None]
    ) -> Message:
        """Append a notice. Returns once it is stored and the room has followed it.

        `check` is called with the room as it is right before the notice, and raises if the notice must not follow.
        Raises what `check` raises, or `Unavailable`.
        """
        pending = PendingMessage(
            room=room,
            sender_id=by.id,
            sender_name=by.full_name,
            content=content,
            type="NOTICE",
            attachment_url=None,
            client_message_id=None,
            notice=notice,
            check=check,
        )
        self._write_queue.append(pending)
        return (await pending.result).message
