"""Logging: entries name their request, hold no client input, and are limited to one a minute and kind."""

import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, TextIO

# The id of the current request; empty for the server's own work.
REQUEST: Final[ContextVar[str]] = ContextVar("request", default="")

PERIOD: Final = 60.0
# Their INFO entries print whole packets, tokens included.
VERBOSE_LOGGERS: Final = ("socketio", "socketio.server", "engineio", "engineio.server", "pymongo", "asyncio")
# Messages of these loggers are known to hold no client input.
OWN_LOGGERS: Final = ("handlers", "madang", "server")
# Limited by message instead of place: clients cause none of these entries, and one must not hide another.
LIMITED_BY_MESSAGE: Final = ("handlers.reloading", "server.embedded", "server.services.upgrades")
CONVERSION: Final = re.compile(r"%(?:\(\w+\))?[-+ #0-9.]*[a-zA-Z]")
# Longest chain of exceptions that is printed.
MAX_CAUSES: Final = 10


def start_logging(level: str) -> None:
    """Log to standard error at this level and above."""
    logging.basicConfig(level=level, handlers=[OncePerMinute(sys.stderr)])
    set_level(level)


def set_level(level: str) -> None:
    """Log at this level and above from now on."""
    logging.getLogger().setLevel(level)
    for name in VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


class Kind:
    """Entries of one kind: when the next one may be written, how many are held back, and the latest of them."""

    __slots__ = ("count", "latest", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.count = 0
        self.latest: logging.LogRecord | None = None


class OncePerMinute(logging.StreamHandler[TextIO]):
    """Writes the first entry of a kind at once, and after a minute the latest one with the count of those since.

    A kind is a place in the code; for `LIMITED_BY_MESSAGE`, also the message.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(LineFormatter())
        self._kinds: dict[object, Kind] = {}

    def emit(self, record: logging.LogRecord) -> None:
        record.request = REQUEST.get()
        name = (record.name, record.pathname, record.lineno)
        key = (*name, record.getMessage()) if record.name.startswith(LIMITED_BY_MESSAGE) else name
        moment = time.monotonic()
        kind = self._kinds.get(key)
        if kind is None or (moment >= kind.until and not kind.count):
            self._kinds[key] = Kind(moment + PERIOD)
            super().emit(record)
            return
        kind.count += 1
        kind.latest = record
        if kind.count == 1:
            timer = threading.Timer(max(0.0, kind.until - moment), self._write_count, (kind,))
            timer.daemon = True
            timer.start()

    def close(self) -> None:
        for kind in self._kinds.values():
            self._write_count(kind)
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - overridden
        """Python would print the entry with all of its values."""

    def _write_count(self, kind: Kind) -> None:
        with self.lock or threading.RLock():
            record, count = kind.latest, kind.count
            kind.count, kind.latest, kind.until = 0, None, time.monotonic() + PERIOD
            if record is not None:
                record.repeated = count
                super().emit(record)


class LineFormatter(logging.Formatter):
    """`TIME LEVEL LOGGER [REQUEST]: MESSAGE`, times in UTC; tracebacks hold places and types, but no values."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        moment = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        request = getattr(record, "request", "")
        repeated = getattr(record, "repeated", 0)
        line = f"{moment}.{int(record.msecs):03d}Z {record.levelname} {record.name}"
        line += f" [{request}]: {_message(record)}" if request else f": {_message(record)}"
        if repeated:
            return f"{line} (and {repeated} like it within a minute)"
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + self.formatException(record.exc_info)
        return line

    def formatException(  # noqa: N802 - overridden
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        return "" if ei[1] is None else "".join(_trace(ei[1], MAX_CAUSES)).rstrip("\n")


def _message(record: logging.LogRecord) -> str:
    """The message; for third-party loggers only its constant text, since values may be client input."""
    if record.name.split(".")[0] in OWN_LOGGERS:
        return record.getMessage()
    if record.args and isinstance(record.msg, str):
        return CONVERSION.sub("…", record.msg).partition("\n")[0]
    return f"in {record.module}.{record.funcName}, line {record.lineno}"


def _trace(error: BaseException, depth: int) -> Iterator[str]:
    before: Any = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and depth:
        yield from _trace(before, depth - 1)
        yield "which led to:\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    number = f" (errno {error.errno})" if isinstance(error, OSError) and error.errno else ""
    yield f"{type(error).__module__}.{type(error).__qualname__}{number}\n".removeprefix("builtins.")
    if isinstance(error, BaseExceptionGroup) and depth:
        for part in error.exceptions:
            yield from _trace(part, depth - 1)
