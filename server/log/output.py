"""Logging: entries name their request, hold no client input, and are limited to one a minute and kind."""

import logging
import sys
import threading
import time
from typing import Final, TextIO

from server.config.settings import LogFormat
from server.log.context import CONNECTION, REQUEST, USER
from server.log.formats import JsonFormatter, LineFormatter

PERIOD: Final = 60.0
# Their INFO entries print whole packets, tokens included.
VERBOSE_LOGGERS: Final = ("socketio", "socketio.server", "engineio", "engineio.server", "pymongo", "asyncio")
# Limited by message instead of place: clients cause none of these entries, and one must not hide another.
LIMITED_BY_MESSAGE: Final = ("handlers.reloading", "server.embedded", "server.services.upgrades")


def start_logging(level: str, form: LogFormat = "text") -> None:
    """Log to standard error at this level and above."""
    logging.basicConfig(level=level, handlers=[OncePerMinute(sys.stderr)])
    set_logging(level, form)


def set_logging(level: str, form: LogFormat) -> None:
    """Log at this level and above, and in this form, from now on."""
    root = logging.getLogger()
    root.setLevel(level)
    for handler in root.handlers:
        if isinstance(handler, OncePerMinute):
            handler.setFormatter(JsonFormatter() if form == "json" else LineFormatter())
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
        record.request, record.connection, record.user = REQUEST.get(), CONNECTION.get(), USER.get()
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
