"""A device: python-socketio's own client on `/chat`, which keeps every event that it gets, in order."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import socketio

from tests.support.contract import contract, note

NAMESPACE = "/chat"
DEADLINE = 30.0  # far above what any answer takes; only a failing test waits for so long
WEBSOCKET = ("websocket",)
POLLING = ("polling",)
UPGRADED = ("polling", "websocket")
TRANSPORTS = {"websocket": WEBSOCKET, "polling": POLLING, "upgraded": UPGRADED}


class Heard(NamedTuple):
    event: str
    data: Any


class _SilentClient(socketio.AsyncClient):
    """Never acknowledges what the server emits, like the guide's browser clients."""

    async def _handle_event(self, namespace: str, _ack_id: int | None, data: list[Any]) -> None:
        await super()._handle_event(namespace, None, data)


def _anything(_data: Any) -> bool:
    return True


class Device:
    """One connection. `acks=False` makes one that never acknowledges the server's events."""

    def __init__(self, url: str, *, acks: bool = True, verifies: bool = True) -> None:
        kind = socketio.AsyncClient if acks else _SilentClient
        self.sio = kind(reconnection=False, handle_sigint=False, request_timeout=DEADLINE, ssl_verify=verifies)
        self.url = url
        self.history: list[Heard] = []
        self.refusal: Any = None
        self._unread: list[Heard] = []
        self._news = asyncio.Event()
        self._gone = asyncio.Event()
        self.sio.on("*", self._hear, namespace=NAMESPACE)
        self.sio.on("connect_error", self._refused, namespace=NAMESPACE)
        self.sio.on("disconnect", self._lost, namespace=NAMESPACE)

    async def _hear(self, event: str, *data: Any) -> None:
        heard = Heard(event, data[0] if data else None)
        self.history.append(heard)
        self._unread.append(heard)
        note(contract().find_in_event(*heard))
        self._news.set()

    async def _refused(self, error: Any = None) -> None:
        self.refusal = error

    async def _lost(self, *_reason: Any) -> None:
        self._gone.set()

    async def connect(
        self,
        token: str | None = None,
        *,
        transports: Sequence[str] = WEBSOCKET,
        auth: Any = None,
        headers: dict[str, str] | None = None,
    ) -> "Device":
        """Connect with `auth.token` (or with `auth`/`headers` as given) and wait for the namespace."""
        await self.sio.connect(
            self.url,
            headers=dict(headers or {}),
            auth={"token": token} if token is not None else auth,
            transports=list(transports),
            namespaces=[NAMESPACE],
            wait_timeout=DEADLINE,
        )
        return self

    async def refused(self, token: str | None = None, **options: Any) -> dict[str, Any]:
        """Connect where that must fail; the data of the client's `connect_error`."""
        try:
            await self.connect(token, **options)
        except socketio.exceptions.ConnectionError as error:
            if self.refusal is None:
                raise AssertionError(f"no connect_error, but {error}") from error
            return dict(self.refusal)
        raise AssertionError("the connection was not refused")

    async def call(self, event: str, data: Any = None) -> dict[str, Any]:
        """Emit with an acknowledgement and return it. Silence is a failure."""
        try:
            ack = await self.sio.call(event, data, namespace=NAMESPACE, timeout=DEADLINE)
        except socketio.exceptions.TimeoutError:
            raise AssertionError(f"{event} was never acknowledged; heard {self.history[-5:]}") from None
        note(contract().find_in_ack(event, ack))
        return ack

    async def emit(self, event: str, data: Any = None) -> None:
        """Emit without asking for an acknowledgement."""
        await self.sio.emit(event, data, namespace=NAMESPACE)

    async def next(self, event: str, where: Callable[[Any], bool] = _anything, timeout: float = DEADLINE) -> Any:
        """The data of the first such event that no `next` has taken yet; waits for it."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    for index, heard in enumerate(self._unread):
                        if heard.event == event and where(heard.data):
                            del self._unread[index]
                            return heard.data
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {event} within {timeout} s; unread: {self._unread[-10:]}") from None

    def heard(self, event: str) -> list[Any]:
        """The data of every such event so far, oldest first."""
        return [heard.data for heard in self.history if heard.event == event]

    async def round_trip(self) -> None:
        """Everything that the server sent to this device before now has been heard when this returns."""
        answer = await self.call("presence:get", {"userIds": []})
        assert answer["ok"], answer

    async def disconnected(self, timeout: float = DEADLINE) -> None:
        """Wait until the server has ended the connection."""
        async with asyncio.timeout(timeout):
            await self._gone.wait()

    @property
    def is_gone(self) -> bool:
        return self._gone.is_set()

    async def leave(self) -> None:
        """Say goodbye and disconnect."""
        if self.sio.connected and self.sio.eio.current_transport == "polling":
            # The client would sit out its last long poll, which may take a whole ping interval.
            await self.sio._send_packet(self.sio.packet_class(socketio.packet.DISCONNECT, namespace=NAMESPACE))
            async with asyncio.timeout(DEADLINE):
                await self.sio.eio.queue.join()
            await self.sio.eio.disconnect(abort=True)
        else:
            await self.sio.disconnect()

    async def vanish(self) -> None:
        """Cut the connection without a word, as a dead phone does."""
        socket = self.sio.eio.ws
        if socket is not None and not socket.closed:
            socket._response.connection.transport.abort()  # aiohttp has no public way to skip the close handshake
        await self.disconnected()

    async def close(self) -> None:
        """Clean up after a test, whatever state the connection is in."""
        await self.leave()
        # A poll that is being sent would outlive the test.
        tasks = [task for task in (self.sio.eio.read_loop_task, self.sio.eio.write_loop_task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.sio.eio.http is not None and not self.sio.eio.http.closed:
            await self.sio.eio.http.close()
