"""Everything that arrives on `/chat`: connecting, events in order with an ack for each, disconnecting."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Final, NamedTuple

from engineio import packet as engine_packet
from socketio.exceptions import ConnectionRefusedError as RefusedError

from handlers.socket.events import EVENTS, Event
from handlers.socket.packets import BinaryPacket, EventPacket, read_packet
from server.connection import Connection
from server.context import Context
from server.errors import ChatError, Internal, NotFound, Unauthorized, Unavailable, ValidationFailed
from server.frames import ack_frame, event_frame
from server.inbound import parse_json
from server.protocol import EXCEPTION, NAMESPACE, SendMessage
from server.services.room_log import Sent

log = logging.getLogger(__name__)

# Well below the ping window, so that a handler that hangs never costs a living connection.
EVENT_TIMEOUT: Final = 15.0
SEND: Final = "message:send"


class Call(NamedTuple):
    """One event on its way: `ack_id` is None where the client asked for no ack."""

    name: str
    ack_id: int | None
    event: Event
    payload: Any


class Gateway:
    """Events of one connection begin in the order in which they arrived. Each is answered once, whatever happens."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._realtime = context.realtime
        self._max_pending = context.settings.socket.max_pending
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def attach(self) -> None:
        """Take over what Socket.IO's server receives, except for CONNECT and DISCONNECT themselves."""
        server, engine = self._realtime.server, self._realtime.engine
        server.on("connect", self._connect, namespace=NAMESPACE)
        server.on("disconnect", self._disconnect, namespace=NAMESPACE)
        self._receive_other = engine.handlers["message"]
        self._open_engine_socket = engine.handlers["connect"]
        self._close_engine_socket = engine.handlers["disconnect"]
        engine.on("message", self._receive_polled)
        engine.on("connect", self._engine_connect)
        engine.on("disconnect", self._engine_disconnect)

    def receive(self, connection: Connection, data: str) -> Awaitable[None] | None:
        """Take one packet of a connected client. What is returned, if anything, ends when it may send more."""
        packet = read_packet(data)
        if isinstance(packet, EventPacket):
            self._take_event(connection, packet)
        elif isinstance(packet, BinaryPacket):
            self._fail(connection, "", packet.ack_id, ValidationFailed.at("", "binary data is not accepted"))
        elif packet is not None:
            connection.acknowledge(packet.ack_id)
        if connection.in_work < self._max_pending:
            return None
        if connection.room_for_more is None:
            connection.room_for_more = self._loop.create_future()
        return connection.room_for_more

    # Connections

    async def _engine_connect(self, engine_sid: str, environ: dict[str, Any]) -> Any:
        handler = environ["tornado.handler"]
        if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
            handler.bind(engine_sid)
        self._watch_for_login(engine_sid)
        return await self._open_engine_socket(engine_sid, environ)

    async def _engine_disconnect(self, engine_sid: str, reason: str) -> None:
        socket = self._realtime.engine.sockets.get(engine_sid)
        if socket is not None and not socket.upgraded:
            # A poll that waits is answered now, not at the next ping; after the CLOSE packet, where there is one.
            self._loop.call_soon(socket.queue.put_nowait, engine_packet.Packet(engine_packet.NOOP))
        await self._close_engine_socket(engine_sid, reason)

    def _watch_for_login(self, engine_sid: str) -> None:
        self._loop.call_later(
            self._context.settings.socket.connect_timeout,
            lambda: self._run(self._end_without_login(engine_sid)),
        )

    async def _end_without_login(self, engine_sid: str) -> None:
        if self._realtime.find(engine_sid) is None:
            await self._realtime.drop(engine_sid)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        request = environ["tornado.handler"].request
        engine_sid = self._realtime.server.manager.eio_sid_from_sid(sid, NAMESPACE)
        try:
            identity = await asyncio.wait_for(
                self._context.accounts.authenticate(_token_of(auth, request.headers.get("Authorization"))),
                self._context.settings.socket.connect_timeout,
            )
        except ChatError as error:
            raise RefusedError(error.code, error.body()) from None
        except TimeoutError:
            raise RefusedError(Unavailable.code, Unavailable().body()) from None
        except Exception:
            log.exception("a connection could not be authenticated")
            raise RefusedError(Internal.code, Internal().body()) from None
        engine_socket = self._realtime.engine.sockets.get(engine_sid)
        if engine_socket is None or engine_socket.closed or engine_socket.closing:
            # Gone while it was authenticated: accepting it now would keep it for ever.
            raise RefusedError(Unavailable.code, Unavailable().body())
        connection = Connection(
            sid,
            engine_sid,
            engine_socket,
            identity,
            request.remote_ip or "",
            max_unsent=self._context.settings.socket.max_unsent,
        )
        # The answer to CONNECT is queued when this returns; nothing may be sent before it.
        self._loop.call_soon(self._open, connection)

    def _open(self, connection: Connection) -> None:
        if self._realtime.engine.sockets.get(connection.engine_sid) is None:
            return
        is_first = self._realtime.add(connection)
        self._realtime.renew(connection, connection.identity)
        self._run(self._context.offline.hand_over(connection))
        if is_first:
            self._run(self._context.presence.come(connection.user_id))

    async def _disconnect(self, sid: str, _reason: str) -> None:
        removed = self._realtime.remove(sid)
        if removed is None:
            return
        connection, was_last = removed
        self._watch_for_login(connection.engine_sid)
        if was_last:
            self._context.typing.end_all(connection.user_id)
            self._context.presence.go(connection.user_id)

    async def _receive_polled(self, engine_sid: str, data: Any) -> None:
        """Whatever comes through Engine.IO itself: all of long-polling, and a WebSocket until it is connected."""
        if not isinstance(data, str):
            return
        if data[:1] in ("0", "1"):
            await self._receive_other(engine_sid, data)
            return
        connection = self._realtime.find(engine_sid)
        if connection is not None:
            more = self.receive(connection, data)
            if more is not None:
                await more

    # Events

    def _take_event(self, connection: Connection, packet: EventPacket) -> None:
        ack_id, name = packet.ack_id, ""
        try:
            name, raw = packet.read()
            event = EVENTS.get(name)
            if event is None:
                raise NotFound(f"There is no event {name[:100]!r}")
            if name != SEND:
                self._context.limits.check_event(connection.user_id)
            call = Call(name, ack_id, event, parse_json(raw, event.payload))
            connection.in_work += 1
            if not connection.is_worked_on and name == SEND and self._send_at_once(connection, call):
                return
            connection.inbox.append(call)
            if not connection.is_worked_on:
                connection.is_worked_on = True
                self._run(self._work(connection))
        except ChatError as error:
            self._fail(connection, name, ack_id, error)

    def _send_at_once(self, connection: Connection, call: Call) -> bool:
        """The common case without a task: a send that has nothing to wait for but the store."""
        try:
            sending = self._context.messages.submit_now(connection.user_id, call.payload)
        except ChatError as error:
            self._finish(connection)
            self._fail(connection, call.name, call.ack_id, error)
            return True
        if sending is None:
            return False
        self._answer_when_sent(connection, call, sending)
        return True

    async def _work(self, connection: Connection) -> None:
        """Begin one event after the other. A send lets the next one begin once its place is certain."""
        try:
            while connection.inbox:
                call = connection.inbox.popleft()
                try:
                    async with asyncio.timeout(EVENT_TIMEOUT):
                        answer = await call.event.handle(self._context, connection, call.payload)
                except BaseException as error:
                    self._finish(connection)
                    self._fail(connection, call.name, call.ack_id, _shown(error, call.name))
                    if isinstance(error, asyncio.CancelledError):
                        raise
                    continue
                if isinstance(answer, asyncio.Future):
                    self._answer_when_sent(connection, call, answer)
                else:
                    self._finish(connection)
                    self._answer(connection, call.ack_id, answer)
        finally:
            connection.is_worked_on = False

    def _answer_when_sent(self, connection: Connection, call: Call, sending: "asyncio.Future[Sent]") -> None:
        sending.add_done_callback(lambda done: self._answer_send(connection, call, done))

    def _answer_send(self, connection: Connection, call: Call, done: "asyncio.Future[Sent]") -> None:
        self._finish(connection)
        if done.cancelled():
            self._fail(connection, call.name, call.ack_id, Unavailable())
        elif (error := done.exception()) is not None:
            self._fail(connection, call.name, call.ack_id, _shown(error, call.name))
        elif call.ack_id is not None and connection.is_open:
            message = done.result().message
            view = self._context.messages.view_now(connection.user_id, message)
            if view is not None:
                self._answer(connection, call.ack_id, {"message": view})
            else:
                self._run(self._answer_send_later(connection, call.ack_id, call.payload, done.result()))

    async def _answer_send_later(self, connection: Connection, ack_id: int, payload: SendMessage, sent: Sent) -> None:
        try:
            view = await self._context.messages.view_sent(connection.user_id, payload.room_id, sent.message)
        except ChatError as error:
            self._fail(connection, SEND, ack_id, error)
        else:
            self._answer(connection, ack_id, {"message": view})

    def _answer(self, connection: Connection, ack_id: int | None, answer: dict[str, Any]) -> None:
        if ack_id is not None:
            connection.send(ack_frame(ack_id, {"ok": True, **answer}))

    def _fail(self, connection: Connection, name: str, ack_id: int | None, error: ChatError) -> None:
        if ack_id is not None:
            connection.send(ack_frame(ack_id, {"ok": False, "error": error.body()}))
        else:
            connection.send(event_frame(EXCEPTION, {**error.body(), "event": name}))

    def _finish(self, connection: Connection) -> None:
        connection.in_work -= 1
        waiting = connection.room_for_more
        if waiting is not None and connection.in_work < self._max_pending:
            connection.room_for_more = None
            if not waiting.done():
                waiting.set_result(None)

    def _run(self, work: Awaitable[None]) -> None:
        task = self._loop.create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _token_of(auth: Any, header: str | None) -> str:
    """The token of `auth`, else of the header. Raises `Unauthorized` where there is neither."""
    token = auth.get("token") if isinstance(auth, dict) else None
    if token is None and header is not None:
        scheme, _, credentials = header.partition(" ")
        token = credentials.strip() if scheme.lower() == "bearer" else None
    if not isinstance(token, str) or not token:
        raise Unauthorized
    return token.removeprefix("Bearer ")


def _shown(error: BaseException, name: str) -> ChatError:
    """What the client may see of a failed event; the unforeseen is logged and stays here."""
    if isinstance(error, ChatError):
        return error
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return Unavailable("It took too long")
    log.error("event %s failed", name, exc_info=error)
    return Internal()


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except ChatError as error:
        log.warning("%s", error)
    except Exception:
        log.exception("a task of the gateway failed")
