"""Reads WebSocket frames out of whole chunks of the stream; the rules for frames stay Tornado's."""

from typing import Any, Final

from tornado.websocket import WebSocketProtocol13

CHUNK: Final = 64 * 1024


class ChunkedReader(WebSocketProtocol13):
    """Tornado asks the stream three times for each frame, and has the event loop look away and back in between.

    This takes what has arrived at once and hands the parts on from memory.
    """

    # Two more entries would double the size of each connection's dictionary.
    __slots__ = ("_arrived", "_taken")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._arrived = b""
        self._taken = 0

    async def _read_bytes(self, n: int) -> bytes:
        stop = self._taken + n
        if stop > len(self._arrived):
            await self._read_more(n)
            stop = n
        data = self._arrived[self._taken : stop]
        if stop == len(self._arrived):
            # Nothing is kept for a connection that rests.
            self._arrived, self._taken = b"", 0
        else:
            self._taken = stop
        self._wire_bytes_in += n
        return data

    async def _read_more(self, n: int) -> None:
        """Have at least `n` bytes from the first that is not taken. Raises `StreamClosedError`."""
        chunks = [self._arrived[self._taken :]]
        size = len(chunks[0])
        while size < n:
            chunks.append(await self.stream.read_bytes(CHUNK, partial=True))
            size += len(chunks[-1])
        self._arrived, self._taken = b"".join(chunks), 0
