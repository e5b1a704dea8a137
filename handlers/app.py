"""Serves until a signal comes: context, Socket.IO and routes on one HTTP server."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from handlers.acceptor import Acceptor
from handlers.base import UnknownPath
from handlers.connection_limits import ConnectionLimits, bounds
from handlers.descriptors import raise_limit
from handlers.routes import ROUTES
from handlers.socket.engine.gateway import Gateway
from handlers.socket.engine.sessions import EngineSessions
from handlers.socket.engine.transport import make_socket_handler
from server.config.settings import Settings
from server.context import Context, open_context

log = logging.getLogger(__name__)
T = TypeVar("T")

IDLE_TIMEOUT: Final = 60.0
BODY_TIMEOUT: Final = 60.0
# After a restart everybody comes back at once.
BACKLOG: Final = 4096
# Requests in flight get this long to end once no new ones are taken.
CONNECTIONS_TIMEOUT: Final = 2.0
# Messages leave few cycles behind: Python's own thresholds (700, 10, 10) cost a relay a sixth of its time.
COLLECTIONS: Final = (20_000, 20, 50)


async def serve(settings: Settings, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. `ready` gets the address once requests are answered.

    Raises `StartFailed` if a store does not start and `OSError` if the address is taken.
    """
    descriptors = raise_limit()
    with _stop_signals() as stopped:
        sockets = bind_sockets(settings.server.port, settings.server.host, backlog=BACKLOG)
        async with contextlib.AsyncExitStack() as stack:
            # Moving a database forward takes minutes, and may be cut off.
            context = await _unless(stopped, stack.enter_async_context(open_context(settings)))
            if context is None:
                return
            gateway = Gateway(context)
            gateway.attach()
            server = HTTPServer(
                make_application(context, gateway.sessions),
                idle_connection_timeout=IDLE_TIMEOUT,
                body_timeout=BODY_TIMEOUT,
                max_body_size=settings.server.max_payload,
            )
            most, most_per_address = bounds(settings, descriptors)
            connections = ConnectionLimits(most, most_per_address, settings.server.trusted_proxies)
            acceptor = Acceptor(sockets, connections, server.handle_stream)
            acceptor.start()
            log.info("at most %d connections, of one address %s", most, most_per_address or "as many")
            # What stands now stays; collecting it again and again costs pauses.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*COLLECTIONS)
            host, port = sockets[0].getsockname()[:2]
            ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
            await stopped.wait()
            log.info("stopping")
            acceptor.stop()
            await context.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.close_all_connections(), CONNECTIONS_TIMEOUT)


def make_application(context: Context, sessions: EngineSessions) -> Application:
    """The routes, and a handler that answers every unknown path with the error shape."""
    routes: list[tuple[str, type[RequestHandler], dict[str, Context]]] = [
        (pattern, handler, {"context": context}) for pattern, handler in ROUTES
    ]
    return Application(
        [(r"/socket\.io/?", make_socket_handler(sessions, context.settings)), *routes],
        default_handler_class=UnknownPath,
        default_handler_args={"context": context},
        websocket_max_message_size=context.settings.server.max_payload,
        log_function=_log_nothing,
    )


def _log_nothing(_handler: RequestHandler) -> None:
    """Requests are not logged: their paths name rooms and people."""


async def _unless(stopped: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None, and `work` is cancelled, where `stopped` is set before."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stopped.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    # How it ends is of no interest any more.
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
