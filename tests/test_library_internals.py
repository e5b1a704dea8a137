"""What the server assumes of python-socketio, python-engineio, Tornado and redis-py beyond their public interfaces.

`docs/sockets.md` lists these assumptions. A release that breaks one fails here first. Those about polled sessions are
in `tests/test_engine_internals.py`.
"""

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import engineio
import pytest
import socketio
from engineio.async_drivers.tornado import translate_request
from engineio.async_socket import AsyncSocket
from engineio.packet import CLOSE, MESSAGE, OPEN, Packet
from engineio.payload import Payload
from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPServerRequest, RequestStartLine
from tornado.iostream import IOStream, UnsatisfiableReadError
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from handlers.slow_clients import buffered_size
from handlers.socket.engine.polling import PACKETS_PER_BODY
from handlers.socket.engine.sessions import EngineSessions, SessionManager
from handlers.socket.engine.websocket import unmask
from handlers.socket.engine.websocket_session import EngineSession
from server.protocol import NAMESPACE
from server.storage.redis import client as redis_client

ENGINE_SID = "an engine session"
OTHER_SID = "another engine session"


def socketio_server(manager: Any) -> Any:
    return socketio.AsyncServer(
        async_mode="tornado", namespaces=[NAMESPACE], client_manager=manager, monitor_clients=False
    )


async def lookups(manager: Any) -> list[Any]:
    """What the library finds of two sessions at each step of a connection's life, with ids in place of names."""
    socketio_server(manager)
    first = await manager.pre_connect(ENGINE_SID, NAMESPACE)
    second = await manager.pre_connect(OTHER_SID, NAMESPACE)
    names = {first: "first", second: "second", None: None}
    found: list[Any] = []

    def look() -> None:
        found.append([names[manager.sid_from_eio_sid(sid, NAMESPACE)] for sid in (ENGINE_SID, OTHER_SID)])
        found.append([manager.eio_sid_from_sid(sid, NAMESPACE) for sid in (first, second)] if manager.rooms else [])
        found.append([manager.is_connected(sid, NAMESPACE) for sid in (first, second)])
        found.append([len(manager.pending_connect), len(manager.pending_disconnect), len(manager.callbacks)])

    look()
    # One session enters a namespace once.
    found.append(await manager.pre_connect(ENGINE_SID, NAMESPACE))
    await manager.connect(first, NAMESPACE)
    look()
    # The second is refused while it connects, and the first disconnects.
    await manager.disconnect(second, NAMESPACE, ignore_queue=True)
    look()
    manager.callbacks[first] = {1: look}
    manager.pre_disconnect(first, NAMESPACE)
    look()
    await manager.disconnect(first, NAMESPACE, ignore_queue=True)
    look()
    found.append(list(manager.rooms))
    return found


async def test_the_manager_without_rooms_finds_the_same_as_the_librarys_own() -> None:
    expected = await lookups(socketio.AsyncManager())
    assert await lookups(SessionManager()) == expected
    # The room of the whole namespace is the only one.
    manager = SessionManager()
    socketio_server(manager)
    await manager.pre_connect(ENGINE_SID, NAMESPACE)
    assert list(manager.rooms[NAMESPACE]) == [None]


def test_the_manager_knows_all_that_the_library_keeps_of_a_connection() -> None:
    """`SessionManager.basic_disconnect` clears these; one that is new would leak."""
    kept = {name for name, value in vars(socketio.AsyncManager()).items() if isinstance(value, dict)}
    assert kept == {"rooms", "eio_to_sid", "callbacks", "pending_connect", "pending_disconnect"}
    # Nothing writes to this one.
    assert "eio_to_sid[" not in inspect.getsource(socketio.AsyncManager)


def engine_sessions() -> EngineSessions:
    hub: Any = None
    return EngineSessions(hub, ping_interval=0.3, ping_timeout=20.0, max_payload=1024)


async def test_a_payload_holds_as_many_packets_as_its_class_says() -> None:
    sessions = engine_sessions()
    assert sessions.server.eio is sessions.engine
    body = "\x1e".join(["4"] * PACKETS_PER_BODY)
    assert len(Payload(encoded_payload=body).packets) == PACKETS_PER_BODY
    with pytest.raises(ValueError, match="Too many packets"):
        Payload(encoded_payload=f"{body}\x1e4")


async def test_clients_are_told_a_ping_interval_that_is_no_shorter_than_the_real_one() -> None:
    sessions = engine_sessions()
    opened: list[Packet] = []

    async def note(engine_sid: str, _environ: Any) -> None:
        opened.append(sessions.engine.sockets[engine_sid].queue._queue[0])

    sessions.engine.on("connect", note)
    await sessions.engine._handle_connect({}, "polling")
    assert [packet.packet_type for packet in opened] == [OPEN]
    assert opened[0].data["pingInterval"] == 1000
    assert sessions.engine.ping_interval == 0.3


async def test_the_handlers_of_the_engine_can_be_put_behind_others() -> None:
    """`Gateway.attach` keeps the handlers of Socket.IO's server and calls them itself."""
    sessions = engine_sessions()
    engine, server, environ = sessions.engine, sessions.server, {"HTTP_AUTHORIZATION": "a token"}
    for event, arguments in (("connect", 2), ("message", 2), ("disconnect", 2)):
        assert len(inspect.signature(engine.handlers[event]).parameters) == arguments
    await engine.handlers["connect"](ENGINE_SID, environ)
    # Emptying the request's environment frees what the library keeps of it.
    assert server.environ[ENGINE_SID] is environ
    calls: list[tuple[str, tuple[Any, ...]]] = []
    for event in ("connect", "message", "disconnect"):

        async def note(*arguments: Any, event: str = event) -> None:
            calls.append((event, arguments))

        engine.on(event, note)
        await engine._trigger_event(event, ENGINE_SID, "argument", run_async=False)
    assert calls == [(event, (ENGINE_SID, "argument")) for event in ("connect", "message", "disconnect")]


class Session:
    """Has what Engine.IO's server may use of a session; anything else is an `AttributeError`."""

    __slots__ = ("calls", "closed", "closing", "connected", "sid", "upgraded")

    def __init__(self) -> None:
        self.sid = ENGINE_SID
        self.connected = self.upgraded = True
        self.closing = self.closed = False
        self.calls: list[tuple[str, Any]] = []

    async def send(self, packet: Packet) -> None:
        self.calls.append(("send", packet.encode()))

    async def close(self, *, abort: bool = False, reason: str | None = None, **wait: bool) -> None:
        self.calls.append(("close", (abort, reason)))
        assert set(wait) <= {"wait"}


async def test_the_engine_uses_no_more_of_a_session_than_ours_has() -> None:
    sessions = engine_sessions()
    engine: Any = sessions.engine
    server = sessions.server
    engine.sockets[ENGINE_SID] = session = Session()
    assert set(Session.__slots__) - {"calls"} <= set(dir(EngineSession))
    entered: list[str] = []

    async def connect(sid: str, _environ: Any, _auth: Any) -> None:
        entered.append(sid)
        # What is scheduled here runs when the answer to CONNECT has been sent, and the session has entered.
        asyncio.get_running_loop().call_soon(
            lambda: entered.append(f"{len(session.calls)} {server.manager.is_connected(sid, NAMESPACE)}")
        )

    async def disconnect(sid: str, _reason: str) -> None:
        entered.append(sid)

    server.on("connect", connect, namespace=NAMESPACE)
    server.on("disconnect", disconnect, namespace=NAMESPACE)
    await engine.handlers["connect"](ENGINE_SID, {})
    await engine.handlers["message"](ENGINE_SID, f"0{NAMESPACE},")
    await asyncio.sleep(0)
    sid = entered[0]
    assert entered == [sid, "1 True"]
    assert session.calls == [("send", f'40{NAMESPACE},{{"sid":"{sid}"}}')]
    await server.disconnect(sid, namespace=NAMESPACE)
    assert session.calls[1:] == [("send", f"41{NAMESPACE},")]
    assert entered[2:] == [sid]
    await engine.handlers["message"](ENGINE_SID, f"0{NAMESPACE},")
    await engine.handlers["disconnect"](ENGINE_SID, engine.reason.TRANSPORT_CLOSE)
    assert entered[-1] == entered[3] != sid and server.environ == {}
    await engine.send_packet(ENGINE_SID, Packet(MESSAGE, "text"))
    assert session.calls[-1] == ("send", "4text")
    assert engine.transport(ENGINE_SID) == "websocket"
    await engine.disconnect(ENGINE_SID)
    assert session.calls[-1] == ("close", (False, engine.reason.SERVER_DISCONNECT))
    assert ENGINE_SID not in engine.sockets
    assert Packet(CLOSE).encode() == "1"


async def test_a_closed_session_is_dropped_by_the_engine() -> None:
    sessions = engine_sessions()
    sessions.engine.sockets[ENGINE_SID] = session = Session()
    session.closed = True
    with pytest.raises(KeyError):
        sessions.engine._get_socket(ENGINE_SID)
    assert ENGINE_SID not in sessions.engine.sockets


def test_the_driver_is_made_of_a_method_of_the_session() -> None:
    """`use_websockets` takes the session from it, and the request from the environment."""
    engine = engineio.AsyncServer(async_mode="tornado", monitor_clients=False)
    session = AsyncSocket(engine, ENGINE_SID)
    assert session._websocket_handler.__self__ is session
    connection: Any = HTTPConnection()
    request = HTTPServerRequest(start_line=RequestStartLine("GET", "/", "HTTP/1.0"), connection=connection)
    handler = RequestHandler(Application(), request)
    assert translate_request(handler)["tornado.handler"] is handler


def test_the_adapter_is_a_websocket_handler() -> None:
    """`SocketHandler` replaces what the adapter does in these."""
    adapter: Any = socketio.get_tornado_handler(socketio_server(SessionManager()))
    assert issubclass(adapter, WebSocketHandler)
    replaced = {"open", "on_message", "on_close", "check_origin", "get_compression_options"}
    assert replaced <= set(vars(adapter))
    # Whatever else it has is used as it is.
    assert set(vars(adapter)) - {"__module__", "__doc__", "__abstractmethods__", "_abc_impl", "__qualname__"} <= {
        *replaced,
        *("__init__", "get", "post", "options", "get_next_message"),
        *("__firstlineno__", "__static_attributes__"),
    }


class HTTPConnection:
    """As much of Tornado's as a handler needs to write an answer."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def set_close_callback(self, _callback: object) -> None: ...

    def write_headers(self, _start_line: object, _headers: object, chunk: bytes) -> "asyncio.Future[None]":
        return self.write(chunk)

    def write(self, chunk: bytes) -> "asyncio.Future[None]":
        self.written.append(chunk)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def finish(self) -> None: ...


async def test_what_a_handler_has_written_waits_in_its_write_buffer() -> None:
    """`ApiHandler`, `SocketHandler` and the upload take the size of an answer from it."""
    sizes: list[int] = []

    class Answer(RequestHandler):
        async def get(self) -> None:
            self.write("four")
            self.note_size()
            await self.flush()
            self.note_size()
            self.write(b"the rest")

        def note_size(self) -> None:
            sizes.append(buffered_size(self))

        def finish(self, chunk: Any = None) -> "asyncio.Future[None]":
            self.note_size()
            return super().finish(chunk)

    connection: Any = HTTPConnection()
    request = HTTPServerRequest(start_line=RequestStartLine("GET", "/", "HTTP/1.0"), connection=connection)
    Application([("/", Answer)]).find_handler(request).execute()
    async with asyncio.timeout(5):
        while len(sizes) < 3:
            await asyncio.sleep(0)
    assert sizes == [4, 0, 8]
    assert connection.written == [b"four", b"the rest"]


def test_payloads_are_unmasked_as_the_rfc_says() -> None:
    # RFC 6455, 5.7: "Hello" in a masked frame.
    assert unmask(bytes.fromhex("37fa213d"), bytes.fromhex("7f9f4d5158")) == b"Hello"
    assert unmask(b"\1\2\3\4", b"") == b""


async def test_a_head_without_an_end_is_the_reason_of_its_streams_end() -> None:
    """`CountedStream.close` answers such a client, and `close_fd` frees its place."""
    reasons: list[Any] = []
    ends: list[str] = []

    class Stream(IOStream):
        def close(self, exc_info: Any = False) -> None:
            reasons.append(exc_info)
            super().close(exc_info)

        def close_fd(self) -> None:
            ends.append("closed")
            super().close_fd()

    server_end, client_end = socket.socketpair()
    stream = Stream(server_end)
    with client_end:
        client_end.sendall(b"x" * 100)
        reading = asyncio.ensure_future(stream.read_until(b"\n", max_bytes=10))
        await asyncio.wait([reading], timeout=5)
    assert isinstance(reading.exception(), Exception)
    assert isinstance(reasons[0], UnsatisfiableReadError)
    assert stream.closed() and ends == ["closed"]


async def test_a_requests_connection_has_its_stream_and_its_limits() -> None:
    server_end, client_end = socket.socketpair()
    with client_end:
        stream = IOStream(server_end)
        connection = HTTP1Connection(stream, is_client=False)
        # `slot_of`, and how an answer that is not taken is ended.
        assert connection.stream is stream
        connection.set_max_body_size(1)
        connection.set_body_timeout(1.0)
        connection.close()
        assert stream.closed()


@asynccontextmanager
async def broken_redis(error: str) -> AsyncIterator[Any]:
    """A client of a server that answers every command with this error."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readline():
                for _ in range(2 * int(head[1:])):
                    await reader.readline()
                writer.write(f"-{error}\r\n".encode())
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    # As little as possible at the begin of a connection: whatever is said there gets the error, too.
    pool: Any = ConnectionPool(host=host, port=port, protocol=2, driver_info=None)
    client: Any = Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose(close_connection_pool=True)
        server.close()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("MISCONF Redis is configured to save RDB snapshots", "MISCONF"),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS"),
        ("BUSY Redis is busy running a script.", "BUSY"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE"),
    ],
)
async def test_a_refusal_without_a_class_begins_with_its_code(text: str, code: str) -> None:
    async with broken_redis(text) as client:
        with pytest.raises(redis_errors.ResponseError) as alone:
            await client.get("key")
        pipeline = client.pipeline(transaction=False)
        pipeline.set("key", "a value")
        [answer] = await pipeline.execute(raise_on_error=False)
        pipeline.set("key", "a value")
        with pytest.raises(redis_errors.ResponseError) as raised:
            await pipeline.execute()
    for error in (alone.value, answer, raised.value):
        assert redis_client.code_of(error) == code
        assert redis_client._trips_circuit(error) is (code in redis_client.TRIPPING_CODES)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", redis_errors.OutOfMemoryError),
        ("READONLY You can't write against a read only replica.", redis_errors.ReadOnlyError),
        ("NOPERM this user has no permissions", redis_errors.NoPermissionError),
        ("CLUSTERDOWN The cluster is down", redis_errors.ClusterDownError),
        ("TRYAGAIN Multiple keys request during rehashing of slot", redis_errors.TryAgainError),
    ],
)
async def test_a_refusal_with_a_class_is_of_that_class(text: str, kind: type[Exception]) -> None:
    async with broken_redis(text) as client:
        with pytest.raises(kind) as alone:
            await client.get("key")
    assert redis_client._trips_circuit(alone.value) is (kind is not redis_errors.OutOfMemoryError)
