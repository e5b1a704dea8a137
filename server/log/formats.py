"""How a log entry is written: as a line of text, or as a JSON object."""

import functools
import logging
import re
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from server.log.events import OF_LIBRARY

# Messages of these loggers are known to hold no client input.
OWN_LOGGERS: Final = ("handlers", "madang", "server")
CONVERSION: Final = re.compile(r"%(?:\(\w+\))?[-+ #0-9.]*[a-zA-Z]")
# The words before the first field or remark name the event.
EVENT: Final = re.compile(r"(.+?)(?: [a-z_]+=|[:,;]|$)")
FIELD: Final = re.compile(rf"(?:^| )([a-z_]+)=({CONVERSION.pattern}|[^\s;:,]+)")
# Longest chain of exceptions that is printed.
MAX_CAUSES: Final = 10


class Template(NamedTuple):
    """A message without its values: the event, and its fields. A field without a value takes that of an argument."""

    event: str
    fields: tuple[tuple[str, str | None], ...]


@functools.lru_cache(maxsize=256)
def read_template(message: str) -> Template:
    """`"store unavailable store=redis error=%s"` is the event `store_unavailable` with two fields."""
    found = EVENT.match(message)
    event = re.sub(r"[^a-z0-9]+", "_", found.group(1).lower()) if found else ""
    fields = ((name, None if CONVERSION.fullmatch(value) else value) for name, value in FIELD.findall(message))
    return Template(event, tuple(fields))


class LineFormatter(logging.Formatter):
    """`TIME LEVEL LOGGER [CALLER]: MESSAGE`, times in UTC; tracebacks hold places and types, but no values.

    The caller is the id of a request, `connection=` with the id of a socket, and `user=`, as far as they are known.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_moment(record)} {record.levelname} {record.name}"
        caller = _caller(record)
        request = caller.pop("request", "")
        named = " ".join(filter(None, [request, *(f"{name}={value}" for name, value in caller.items())]))
        line += f" [{named}]: {_message(record)}" if named else f": {_message(record)}"
        if repeated := getattr(record, "repeated", 0):
            return f"{line} (and {repeated} like it within a minute)"
        trace = _exception(record)
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(logging.Formatter):
    """One object in a line: `time`, `level`, `logger`, `event`, `message`, and where there is any, `request`,
    `connection`, `user`, `fields`, `repeated` (how many more there were within a minute) and `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _event(record)
        entry = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "event": event,
            "message": _message(record),
            **_caller(record),
            "fields": fields,
            "repeated": getattr(record, "repeated", 0),
        }
        if not entry["repeated"]:
            entry["exception"] = _exception(record)
        return msgspec.json.encode({name: value for name, value in entry.items() if value}).decode()


def _event(record: logging.LogRecord) -> tuple[str, Mapping[str, Any]]:
    """The event's name and its fields; of libraries neither, since values may be client input."""
    if not _is_own(record) or not isinstance(record.msg, str):
        return OF_LIBRARY, {}
    template = read_template(record.msg)
    values = iter(record.args if isinstance(record.args, tuple) else ())
    fields = {name: next(values, None) if value is None else value for name, value in template.fields}
    return template.event, {
        name: value if isinstance(value, bool | int | float) else str(value) for name, value in fields.items()
    }


def _caller(record: logging.LogRecord) -> dict[str, str]:
    named = {name: getattr(record, name, "") for name in ("request", "connection", "user")}
    return {name: value for name, value in named.items() if value}


def _moment(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _is_own(record: logging.LogRecord) -> bool:
    return record.name.split(".")[0] in OWN_LOGGERS


def _message(record: logging.LogRecord) -> str:
    """The message; for third-party loggers only its constant text, since values may be client input."""
    if _is_own(record):
        return record.getMessage()
    if record.args and isinstance(record.msg, str):
        return CONVERSION.sub("…", record.msg).partition("\n")[0]
    return f"in {record.module}.{record.funcName}, line {record.lineno}"


def _exception(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return "" if error is None else "".join(_trace(error, MAX_CAUSES)).rstrip("\n")


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
