"""Runs the server until a stop signal: context, Socket.IO and routes on one HTTP server."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, TypeVar

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from handlers.acceptor import Acceptor
from handlers.base import UnknownPath
from handlers.connection_limits import ConnectionLimits, bounds
from handlers.description.documents import make_documents
from handlers.descriptors import raise_limit
from handlers.reloading import reloading
from handlers.routes import ROUTES, pattern_of
from handlers.socket.engine.gateway import Gateway
from handlers.socket.engine.http_handler import make_socket_handler
from handlers.socket.engine.sessions import EngineSessions
from server.config.settings import Settings
from server.context import Context, open_context
from server.services.room_log.background_consumer import LogConsumer

log = logging.getLogger(__name__)
T = TypeVar("T")

IDLE_TIMEOUT: Final = 60.0
BODY_TIMEOUT: Final = 60.0
# The longest query that a declared type allows, with each of its characters as four percent-encoded bytes.
MAX_HEADER: Final = 128 * 1024
# After a restart all clients reconnect at once.
BACKLOG: Final = 4096
# At shutdown, requests in progress get this long to end.
CONNECTIONS_TIMEOUT: Final = 2.0
# Messages create few reference cycles: Python's default thresholds (700, 10, 10) cost a sixth of the throughput.
COLLECTIONS: Final = (20_000, 20, 50)


async def serve(
    settings: Settings,
    *,
    ready: Callable[[str], None],
    reload: Callable[[], Settings] | None = None,
    consumers: Sequence[LogConsumer] = (),
) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is called with the address once requests are answered.

    On SIGHUP, `reload` reads the configuration again.

    Raises `StartFailed` if a store does not start and `OSError` if the address is taken.
    """
    descriptors = raise_limit()
    with _stop_signals() as stopped:
        sockets = bind_sockets(settings.server.port, settings.server.host, backlog=BACKLOG)
        async with contextlib.AsyncExitStack() as stack:
            # A database upgrade takes minutes and can be interrupted.
            context = await _run_unless(stopped, stack.enter_async_context(open_context(settings, consumers)))
            if context is None:
                return
            gateway = Gateway(context)
            gateway.attach()
            server = HTTPServer(
                make_application(context, gateway.sessions),
                idle_connection_timeout=IDLE_TIMEOUT,
                body_timeout=BODY_TIMEOUT,
                max_body_size=settings.server.max_payload,
                max_header_size=MAX_HEADER,
            )
            max_total, max_per_address = bounds(settings, descriptors)
            connections = ConnectionLimits(max_total, max_per_address, settings.server.trusted_proxies)
            acceptor = Acceptor(sockets, connections, server.handle_stream, context.metrics.note_limit)
            acceptor.start()
            log.info("connection limits max=%d max_per_address=%s", max_total, max_per_address or "unlimited")
            # What is allocated now lives until the end; scanning it again would only cost pauses.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*COLLECTIONS)
            host, port = sockets[0].getsockname()[:2]
            with reloading(context, reload, stopped.set):
                ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
                await stopped.wait()
            log.info("stopping")
            acceptor.stop()
            await context.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.close_all_connections(), CONNECTIONS_TIMEOUT)


def make_application(context: Context, sessions: EngineSessions) -> Application:
    """The Tornado application: all routes, Socket.IO, and a 404 problem document for unknown paths."""
    routes: list[tuple[str, type[RequestHandler], dict[str, Any]]] = [
        (pattern_of(route.path), route.handler, {"context": context, "endpoints": route.endpoints}) for route in ROUTES
    ]
    socket_handler = make_socket_handler(sessions, lambda: context.settings, context.metrics.note_refusal)
    return Application(
        [(r"/socket\.io/?", socket_handler), *routes],
        default_handler_class=UnknownPath,
        default_handler_args={"context": context, "endpoints": {}},
        websocket_max_message_size=context.settings.server.max_payload,
        log_function=_log_nothing,
        documents=make_documents(context.settings),
    )


def _log_nothing(_handler: RequestHandler) -> None:
    """Requests are not logged: their paths name rooms and users."""


async def _run_unless(stopped: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None if `stopped` is set first; `work` is then cancelled."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stopped.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return None


@contextlib.contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """An event that is set by SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
