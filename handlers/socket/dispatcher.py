"""Dispatches events of connected clients: starts them in order of arrival and answers each exactly once."""

import asyncio
import time
from collections import deque
from typing import Any, Final, NamedTuple

from handlers.socket.events import EVENTS, Event
from handlers.socket.packets import UNREADABLE, BinaryPacket, EventPacket, read_packet
from server.concurrency.tasks import Tasks
from server.context import Context
from server.errors import ChatError, NotFound, Unavailable
from server.events import EXCEPTION
from server.inbound import parse_json
from server.log.context import note_caller
from server.operations.executor import admit, observe, perform, to_chat_error
from server.operations.operation import Caller, Placed
from server.protocol import Outbound, Refusal
from server.realtime.connection import Connection
from server.realtime.frames import ack_frame, event_frame
from server.requests import NoInput
from server.services.room_log.pending import PendingMessage

# Well below the ping timeout, so that a hanging handler never costs a live connection.
EVENT_TIMEOUT: Final = 15.0


class Call(NamedTuple):
    """One event in progress. `ack_id` is None if the client wants no ack; `admitted` is what `perform` takes."""

    name: str
    ack_id: int | None
    event: Event
    caller: Caller
    admitted: Any


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
            call = self._admit(connection, name, ack_id, raw, len(packet.arguments))
            connection.pending_events += 1
            if connection.inbox is not None:
                connection.inbox.append(call)
            elif call.event.operation.placed is None or not self._place_now(
                connection, call, call.event.operation.placed
            ):
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

    def _admit(self, connection: Connection, name: str, ack_id: int | None, raw: Any, size: int) -> Call:
        """Count the event against the limits, then parse its payload."""
        event = EVENTS.get(name)
        if event is None:
            self._context.limits.check_event(connection.user_id, size)
            raise NotFound(f"There is no event {name[:100]!r}")
        caller = Caller(connection.principal, connection=connection)
        admitted = admit(self._context, caller, event.operation, lambda: _read_payload(event, raw), size=size)
        return Call(name, ack_id, event, caller, admitted)

    def _refuse_binary(self, connection: Connection, packet: BinaryPacket) -> None:
        name = ""
        try:
            self._context.limits.check_event(connection.user_id, len(packet.arguments))
            name, refusal = packet.read_refusal()
            raise refusal
        except ChatError as error:
            self._fail(connection, name, packet.ack_id, error)

    def _place_now(self, connection: Connection, call: Call, placed: Placed) -> bool:
        """Handle a send without a task, the common case; False if it has to wait for more than the store."""
        try:
            message = placed.place_now(self._context, call.admitted)
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
        note_caller(connection.user_id, connection.sid)
        try:
            while inbox:
                call = inbox.popleft()
                try:
                    async with asyncio.timeout(EVENT_TIMEOUT):
                        reply = await self._perform(call)
                except BaseException as error:
                    self._end_event(connection)
                    self._fail(connection, call.name, call.ack_id, to_chat_error(call.event.operation, error))
                    if isinstance(error, asyncio.CancelledError):
                        raise
                    continue
                if isinstance(reply, PendingMessage):
                    self._answer_when_sent(connection, call, reply)
                else:
                    self._end_event(connection)
                    self._answer(connection, call.ack_id, call.event.to_ack(reply))
        finally:
            connection.inbox = None

    async def _perform(self, call: Call) -> Any:
        """The reply of the operation; of a send, the message in its place in the write queue."""
        operation = call.event.operation
        if operation.placed is not None:
            return await operation.placed.place(self._context, call.admitted)
        return await perform(self._context, call.caller, operation, call.admitted)

    def _answer_when_sent(self, connection: Connection, call: Call, message: PendingMessage) -> None:
        begun = time.monotonic()
        message.result.add_done_callback(lambda _done: self._answer_send(connection, call, message, begun))

    def _answer_send(self, connection: Connection, call: Call, message: PendingMessage, begun: float) -> None:
        self._end_event(connection)
        result, operation = message.result, call.event.operation
        error = Unavailable() if result.cancelled() else result.exception()
        known = None if error is None else to_chat_error(operation, error)
        observe(self._context, operation, begun, known)
        if known is not None:
            self._fail(connection, call.name, call.ack_id, known)
        elif call.ack_id is not None and connection.is_open:
            self._answer(connection, call.ack_id, call.event.to_ack(message.view()))

    def _answer(self, connection: Connection, ack_id: int | None, answer: Outbound) -> None:
        if ack_id is not None:
            connection.send(ack_frame(ack_id, answer))

    def _fail(self, connection: Connection, name: str, ack_id: int | None, error: ChatError) -> None:
        self._context.metrics.note_refusal(error)
        if ack_id is not None:
            connection.send(ack_frame(ack_id, Refusal(error.body())))
        else:
            connection.send(event_frame(EXCEPTION, error.body(name)))

    def _end_event(self, connection: Connection) -> None:
        connection.pending_events -= 1
        waiting = connection.capacity_freed
        if waiting is not None and connection.pending_events < self._max_pending:
            connection.capacity_freed = None
            if not waiting.done():
                waiting.set_result(None)


def _read_payload(event: Event, raw: Any) -> Any:
    # Whatever comes with an event that carries nothing is ignored.
    payload = NoInput() if event.payload is NoInput else parse_json(raw, event.payload)
    return payload if event.to_request is None else event.to_request(payload)
