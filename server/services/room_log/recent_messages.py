"""Recent-message cache, bounded by number and by size."""

import sys
from collections import OrderedDict

from server.models import Message


class RecentMessages:
    """Drops the oldest if there are more than `max_messages`, or if their texts take more than `max_bytes`."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: OrderedDict[str, Message] = OrderedDict()
        self._bytes = 0

    def get(self, message_id: str) -> Message | None:
        return self._messages.get(message_id)

    def put(self, message: Message) -> None:
        """A message that is cached stays as it is: the store may have been read before its last change."""
        if message.id in self._messages:
            return
        self._messages[message.id] = message
        self._bytes += sys.getsizeof(message.content)
        while len(self._messages) > self._max_messages or self._bytes > self._max_bytes:
            _, dropped = self._messages.popitem(last=False)
            self._bytes -= sys.getsizeof(dropped.content)

    def replace(self, message: Message) -> None:
        """Replace the message, if it is cached, by its later state."""
        before = self._messages.get(message.id)
        if before is not None:
            self._messages[message.id] = message
            self._bytes += sys.getsizeof(message.content) - sys.getsizeof(before.content)
