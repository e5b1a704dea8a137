"""Dispatches events of connected clients: starts them in order of arrival and answers each exactly once."""

import asyncio
import logging
from collections import deque
from typing import Any, Final, NamedTuple

from handlers.socket.events import EVENTS, Event
from handlers.socket.packets import UNREADABLE, BinaryPacket, EventPacket, read_packet
from server.concurrency.tasks import Tasks
from server.context import Context
from server.errors import ChatError, Internal, NotFound, Unavailable
from server.inbound import parse_json
from server.protocol import EXCEPTION, SendMessage
from server.realtime.connection import Connection
from server.realtime.frames import ack_frame, event_frame
from server.services.room_log.pending import PendingMessage

log = logging.getLogger(__name__)

# Well below the ping timeout, so that a hanging handler never costs a live connection.
EVENT_TIMEOUT: Final = 15.0
SEND: Final = "message:send"


class Call(NamedTuple):
    """One event in progress. `ack_id` is None if the client wants no ack; the `payload` of a send is `Admitted`."""

    name: str
    ack_id: int | None
    event: Event
    payload: Any


class Dispatcher:
    """One per server. Events of a connection run one by one, but the next one need not wait for a send to be stored."""

    def __init__(self, context: Context, tasks: Tasks) -> None:
        self._context = context
        self._max_pending = context.settings.socket.max_pending
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks

    def receive(self, connection: Connection, data: str) -> "asyncio.Future[None] | None":
        """Handle one packet of a connected client.

        Returns a future if the client has `socket.max_pending` events in progress; it resolves when more may be read.
        """
        packet = read_packet(data)
        if isinstance(packet, EventPacket):
            self._take_event(connection, packet)
        elif isinstance(packet, BinaryPacket):
            self._refuse_binary(connection, packet)
        elif packet is not None:
            connection.acknowledge(packet.ack_id)
        if connection.pending_events < self._max_pending:
            return None
        if connection.capacity_freed is None:
            connection.capacity_freed = self._loop.create_future()
        return connection.capacity_freed

    def _take_event(self, connection: Connection, packet: EventPacket) -> None:
        ack_id, name = packet.ack_id, ""
        try:
            name, raw = self._read(connection, packet)
            event, payload = self._admit(connection.user_id, name, raw, len(packet.arguments))
            call = Call(name, ack_id, event, payload)
            connection.pending_events += 1
            if connection.inbox is not None:
                connection.inbox.append(call)
            elif name != SEND or not self._send_now(connection, call):
                connection.inbox = deque((call,))
                self._tasks.run(self._process(connection, connection.inbox))
        except ChatError as error:
            self._fail(connection, name, ack_id, error)

    def _read(self, connection: Connection, packet: EventPacket) -> tuple[str, Any]:
        try:
            return packet.read()
        except UNREADABLE:
            # Counted before the costly search for the mistake.
            self._context.limits.check_event(connection.user_id, len(packet.arguments))
            raise packet.explain() from None

    def _admit(self, user_id: str, name: str, raw: Any, size: int) -> tuple[Event, Any]:
        """Count the event against the limits, then parse its payload."""
        if name == SEND:
            return EVENTS[SEND], self._context.messages.admit(user_id, lambda: parse_json(raw, SendMessage))
        self._context.limits.check_event(user_id, size)
        event = EVENTS.get(name)
        if event is None:
            raise NotFound(f"There is no event {name[:100]!r}")
        return event, parse_json(raw, event.payload)

    def _refuse_binary(self, connection: Connection, packet: BinaryPacket) -> None:
        name = ""
        try:
            self._context.limits.check_event(connection.user_id, len(packet.arguments))
            name, refusal = packet.read_refusal()
            raise refusal
        except ChatError as error:
            self._fail(connection, name, packet.ack_id, error)

    def _send_now(self, connection: Connection, call: Call) -> bool:
        """Handle a send without a task, the common case; False if it has to wait for more than the store."""
        try:
            message = self._context.messages.place_now(call.payload)
        except ChatError as error:
            self._end_event(connection)
            self._fail(connection, call.name, call.ack_id, error)
            return True
        if message is None:
            return False
        self._answer_when_sent(connection, call, message)
        return True

    async def _process(self, connection: Connection, inbox: deque[Call]) -> None:
        """Run queued events one by one. After a send, the next starts once the message has its position in the room."""
        try:
            while inbox:
                call = inbox.popleft()
                try:
                    async with asyncio.timeout(EVENT_TIMEOUT):
                        answer = await call.event.handle(self._context, connection, call.payload)
                except BaseException as error:
                    self._end_event(connection)
                    self._fail(connection, call.name, call.ack_id, _client_error(error, call.name))
                    if isinstance(error, asyncio.CancelledError):
                        raise
                    continue
                if isinstance(answer, PendingMessage):
                    self._answer_when_sent(connection, call, answer)
                else:
                    self._end_event(connection)
                    self._answer(connection, call.ack_id, answer)
        finally:
            connection.inbox = None

    def _answer_when_sent(self, connection: Connection, call: Call, message: PendingMessage) -> None:
        message.result.add_done_callback(lambda _done: self._answer_send(connection, call, message))

    def _answer_send(self, connection: Connection, call: Call, message: PendingMessage) -> None:
        self._end_event(connection)
        result = message.result
        if result.cancelled():
            self._fail(connection, call.name, call.ack_id, Unavailable())
        elif (error := result.exception()) is not None:
            self._fail(connection, call.name, call.ack_id, _client_error(error, call.name))
        elif call.ack_id is not None and connection.is_open:
            self._answer(connection, call.ack_id, {"message": message.view()})

    def _answer(self, connection: Connection, ack_id: int | None, answer: dict[str, Any]) -> None:
        if ack_id is not None:
            connection.send(ack_frame(ack_id, {"ok": True, **answer}))

    def _fail(self, connection: Connection, name: str, ack_id: int | None, error: ChatError) -> None:
        if ack_id is not None:
            connection.send(ack_frame(ack_id, {"ok": False, "error": error.body()}))
        else:
            connection.send(event_frame(EXCEPTION, {**error.body(), "event": name}))

    def _end_event(self, connection: Connection) -> None:
        connection.pending_events -= 1
        waiting = connection.capacity_freed
        if waiting is not None and connection.pending_events < self._max_pending:
            connection.capacity_freed = None
            if not waiting.done():
                waiting.set_result(None)


def _client_error(error: BaseException, name: str) -> ChatError:
    """The error to send for a failed event. Unexpected errors are logged and sent as `Internal`."""
    if isinstance(error, ChatError):
        return error
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return Unavailable("It took too long")
    log.error("event failed event=%s", name, exc_info=error)
    return Internal()
