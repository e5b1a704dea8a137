"""Events of connected clients: begun in the order in which they arrived, and each answered once, whatever happens."""

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

# Well below the ping window, so that a handler that hangs never costs a living connection.
EVENT_TIMEOUT: Final = 15.0
SEND: Final = "message:send"


class Call(NamedTuple):
    """One event on its way: `ack_id` is None where the client asked for no ack, `payload` of a send is `Admitted`."""

    name: str
    ack_id: int | None
    event: Event
    payload: Any


class Dispatcher:
    """One per server. Only a send may be passed by what follows it, once its place in its room is certain."""

    def __init__(self, context: Context, tasks: Tasks) -> None:
        self._context = context
        self._max_pending = context.settings.socket.max_pending
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks

    def receive(self, connection: Connection, data: str) -> "asyncio.Future[None] | None":
        """Take one packet of a connected client. What is returned, if anything, ends when it may send more."""
        packet = read_packet(data)
        if isinstance(packet, EventPacket):
            self._take_event(connection, packet)
        elif isinstance(packet, BinaryPacket):
            self._refuse_binary(connection, packet)
        elif packet is not None:
            connection.acknowledge(packet.ack_id)
        if connection.in_work < self._max_pending:
            return None
        if connection.room_for_more is None:
            connection.room_for_more = self._loop.create_future()
        return connection.room_for_more

    def _take_event(self, connection: Connection, packet: EventPacket) -> None:
        ack_id, name = packet.ack_id, ""
        try:
            name, raw = self._read(connection, packet)
            event, payload = self._admit(connection.user_id, name, raw, len(packet.arguments))
            call = Call(name, ack_id, event, payload)
            connection.in_work += 1
            if connection.inbox is not None:
                connection.inbox.append(call)
            elif name != SEND or not self._send_at_once(connection, call):
                connection.inbox = deque((call,))
                self._tasks.run(self._work(connection, connection.inbox))
        except ChatError as error:
            self._fail(connection, name, ack_id, error)

    def _read(self, connection: Connection, packet: EventPacket) -> tuple[str, Any]:
        try:
            return packet.read()
        except UNREADABLE:
            # Counted too, and before anybody looks for the mistake in it.
            self._context.limits.check_event(connection.user_id, len(packet.arguments))
            raise packet.explain() from None

    def _admit(self, user_id: str, name: str, raw: Any, size: int) -> tuple[Event, Any]:
        """Count the event, and only then look at what it holds."""
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

    def _send_at_once(self, connection: Connection, call: Call) -> bool:
        """The common case without a task: a send that has nothing to wait for but the store."""
        try:
            message = self._context.messages.place_now(call.payload)
        except ChatError as error:
            self._finish(connection)
            self._fail(connection, call.name, call.ack_id, error)
            return True
        if message is None:
            return False
        self._answer_when_sent(connection, call, message)
        return True

    async def _work(self, connection: Connection, inbox: deque[Call]) -> None:
        """Begin one event after the other. A send lets the next one begin once its place is certain."""
        try:
            while inbox:
                call = inbox.popleft()
                try:
                    async with asyncio.timeout(EVENT_TIMEOUT):
                        answer = await call.event.handle(self._context, connection, call.payload)
                except BaseException as error:
                    self._finish(connection)
                    self._fail(connection, call.name, call.ack_id, _shown(error, call.name))
                    if isinstance(error, asyncio.CancelledError):
                        raise
                    continue
                if isinstance(answer, PendingMessage):
                    self._answer_when_sent(connection, call, answer)
                else:
                    self._finish(connection)
                    self._answer(connection, call.ack_id, answer)
        finally:
            connection.inbox = None

    def _answer_when_sent(self, connection: Connection, call: Call, message: PendingMessage) -> None:
        message.result.add_done_callback(lambda _done: self._answer_send(connection, call, message))

    def _answer_send(self, connection: Connection, call: Call, message: PendingMessage) -> None:
        self._finish(connection)
        result = message.result
        if result.cancelled():
            self._fail(connection, call.name, call.ack_id, Unavailable())
        elif (error := result.exception()) is not None:
            self._fail(connection, call.name, call.ack_id, _shown(error, call.name))
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

    def _finish(self, connection: Connection) -> None:
        connection.in_work -= 1
        waiting = connection.room_for_more
        if waiting is not None and connection.in_work < self._max_pending:
            connection.room_for_more = None
            if not waiting.done():
                waiting.set_result(None)


def _shown(error: BaseException, name: str) -> ChatError:
    """What the client may see of a failed event; the unforeseen is logged and stays here."""
    if isinstance(error, ChatError):
        return error
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return Unavailable("It took too long")
    log.error("event %s failed", name, exc_info=error)
    return Internal()
