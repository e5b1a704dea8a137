"""The messages that were stored or asked for lately, within a bound of their number and of their size."""

import sys
from collections import OrderedDict

from server.models import Message


class RecentMessages:
    """Forgets the oldest beyond `max_messages`, or where their texts take more than `max_bytes` together."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: OrderedDict[str, Message] = OrderedDict()
        self._bytes = 0

    def get(self, message_id: str) -> Message | None:
        return self._messages.get(message_id)

    def put(self, message: Message) -> None:
        """A message never changes: one that is remembered already stays as it is."""
        if message.id in self._messages:
            return
        self._messages[message.id] = message
        self._bytes += sys.getsizeof(message.content)
        while len(self._messages) > self._max_messages or self._bytes > self._max_bytes:
            _, forgotten = self._messages.popitem(last=False)
            self._bytes -= sys.getsizeof(forgotten.content)
