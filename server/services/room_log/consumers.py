"""Consumers of the log: each sees every stored message and change at least once, in the order of its room."""

import logging
from collections.abc import Sequence

from server.room_state import RoomState, StoredChange, StoredMessage
from server.services.room_log.background_consumer import BackgroundConsumer
from server.services.room_log.ports import Consumer

log = logging.getLogger(__name__)


class Consumers:
    """Passes stored messages to all consumers. None waits for another, and the failure of one reaches no other.

    Each has a cursor in every room: it is done with everything up to there. It pins the rooms in which it is behind, so
    that these stay in the in-flight journal, and recovery resumes it there after a crash.
    """

    def __init__(self, delivery: Consumer, background: Sequence[BackgroundConsumer]) -> None:
        names = [delivery.name, *(consumer.name for consumer in background)]
        if len(set(names)) < len(names):
            raise ValueError(f"two consumers of one name: {', '.join(names)}")
        # Delivery first: people wait for it.
        self._all: list[Consumer] = [delivery, *background]
        self._background = background

    @property
    def names(self) -> list[str]:
        return [consumer.name for consumer in self._all]

    def start(self) -> None:
        for consumer in self._background:
            consumer.start()

    async def close(self) -> None:
        """Stop. What a consumer is not done with stays in the journal for the next start."""
        for consumer in self._background:
            await consumer.close()

    def take(self, stored: Sequence[StoredMessage]) -> None:
        """Each message comes in log order, with one pin on its room, which ends here."""
        for consumer in self._all:
            try:
                consumer.take(stored)
            except Exception:
                log.exception("log consumer failed consumer=%s messages=%d", consumer.name, len(stored))
        for one in stored:
            one.room.pins -= 1

    def take_changes(self, stored: Sequence[StoredChange]) -> None:
        """Each change comes in the order of its room, with one pin on its room, which ends here."""
        for consumer in self._all:
            try:
                consumer.take_changes(stored)
            except Exception:
                log.exception("log consumer failed consumer=%s changes=%d", consumer.name, len(stored))
        for one in stored:
            one.room.pins -= 1

    def note_loaded(self, room: RoomState) -> None:
        """A room was read to the end of its log, which may be beyond the cursors."""
        for consumer in self._all:
            consumer.note_loaded(room)

    async def resume(self, room: RoomState) -> set[str]:
        """Go on from the cursors of a room that was in flight at a crash. Returns the users who get messages again."""
        receivers = set[str]()
        for consumer in self._all:
            receivers |= await consumer.resume(room)
        return receivers
