"""Streaming parser for `multipart/form-data`: returns pieces of parts as they arrive and buffers none."""

import logging
import re
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from server.errors import UnsupportedMediaType, ValidationFailed

# The upload form has three parts and few headers; many tiny ones would only cost time.
MAX_PARTS: Final = 20
MAX_HEADERS: Final = 8
MAX_HEADER_BYTES: Final = 4096
# RFC 7578 forbids this form, but some clients send non-ASCII names only so.
EXTENDED_NAME: Final = re.compile(r";\s*filename\*=utf-8'[^']*'([^;\s]+)", re.IGNORECASE)

logging.getLogger("python_multipart").setLevel(logging.WARNING)


class PartBegin(msgspec.Struct, frozen=True):
    """A part begins; `file_name` is None if it is a plain field."""

    name: str
    file_name: bytes | None


class PartData(msgspec.Struct, frozen=True):
    data: bytes


class PartEnd(msgspec.Struct, frozen=True):
    """The current part is complete."""


Piece = PartBegin | PartData | PartEnd


class FormReader:
    """Parses one body. Raises `UnsupportedMediaType` for a content type other than multipart/form-data."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise UnsupportedMediaType("The body must be multipart/form-data with a boundary")
        self._pieces: list[Piece] = []
        self._parts = 0
        self._field = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_part_data": self._take_data,
                    "on_part_end": self._end_part,
                    "on_header_field": self._take_field,
                    "on_header_value": self._take_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError:
            raise UnsupportedMediaType("The boundary is too long") from None

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces in the next bytes of the body. Raises `ValidationFailed` for a malformed body."""
        self._pieces = []
        try:
            self._parser.write(data)
        except FormParserError:
            raise ValidationFailed.at("", "malformed multipart body") from None
        return self._pieces

    def finish(self) -> None:
        """End the body. Raises `ValidationFailed` if it is incomplete."""
        if self._parser.state != MultipartState.END:
            raise ValidationFailed.at("", "the multipart body is cut short")

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise ValidationFailed.at("", f"the form may have at most {MAX_PARTS} parts")
        self._headers = {}

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(PartData(data[start:end]))

    def _end_part(self) -> None:
        self._pieces.append(PartEnd())

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _end_headers(self) -> None:
        # Latin-1 keeps every byte; the encoding of the file name is decided later.
        disposition = self._headers.get(b"content-disposition", b"").decode("latin-1")
        _, options = parse_options_header(disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        file_name = options.get(b"filename")
        if file_name is None and (extended := EXTENDED_NAME.search(disposition)):
            file_name = unquote_to_bytes(extended[1])
        self._pieces.append(PartBegin(name, file_name))
