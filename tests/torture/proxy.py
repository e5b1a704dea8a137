"""A TCP proxy that delays, stalls, refuses and cuts, between people and server or between server and stores."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

CHUNK = 65536
Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Proxy:
    """Listens on one free port for its whole life; `dial` opens the other side, wherever that is now."""

    def __init__(self, dial: Dial) -> None:
        self.dial = dial
        self.delay = 0.0
        # What becomes of the bytes that come from the side that connects.
        self.rewrite: Callable[[bytes], bytes] = lambda data: data
        self.port = 0
        # A connection waits at the gate of its time; an open one is an event that is set.
        self._gates = [_open_gate()]
        self._refusing = False
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.WriteTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    def stall(self) -> None:
        """Keep connections open, but let nothing through."""
        self._gates[-1].clear()

    def strand(self) -> None:
        """Hold back what is under way on the connections of now; new ones are free. It arrives at the healing."""
        self._gates[-1].clear()
        self._gates.append(_open_gate())

    def refuse(self) -> None:
        """Cut everything, and every new connection at once."""
        self._refusing = True
        self.cut()

    def heal(self) -> None:
        self.delay = 0.0
        self._refusing = False
        for gate in self._gates:
            gate.set()
        del self._gates[:-1]

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        for transport in list(self._transports):
            transport.abort()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.heal()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await self.dial()
        except OSError:
            writer.transport.abort()
            return
        transports = {writer.transport, far_writer.transport}
        self._transports |= transports
        try:
            gate = self._gates[-1]
            await asyncio.gather(
                self._pump(reader, far_writer, gate, self.rewrite), self._pump(far_reader, writer, gate, None)
            )
        except (OSError, RuntimeError):
            # uvloop's way to say that the transport was cut meanwhile.
            pass
        finally:
            self._transports -= transports
            for transport in transports:
                transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gate: asyncio.Event,
        rewrite: Callable[[bytes], bytes] | None,
    ) -> None:
        """One direction; its end is passed on as an end, so that a goodbye arrives as one."""
        while data := await reader.read(CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            await gate.wait()
            writer.write(data if rewrite is None else rewrite(data))
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            await gate.wait()
            writer.write_eof()


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


def dial_tcp(host: str, port: int) -> Dial:
    return lambda: asyncio.open_connection(host, port)


def dial_unix(path: str) -> Dial:
    return lambda: asyncio.open_unix_connection(path)
