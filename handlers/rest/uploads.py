"""`POST /api/v1/upload`: streams a file from the socket to disk and refuses it as early as possible."""

import asyncio
import sys
import time
from typing import Any, Final

from handlers.base import DRAIN_LIMIT, ApiHandler
from handlers.multipart import FormReader, PartBegin, PartData, PartEnd, Piece
from handlers.problems import to_chat_error
from handlers.slow_clients import buffered_size
from server.errors import PayloadTooLarge, ValidationFailed
from server.operations.executor import authorise
from server.operations.operation import Caller
from server.operations.others import UPLOAD
from server.services.uploads.receive import Upload

# Size of the form without the file: boundaries, headers, other fields.
FORM_BYTES: Final = 64 * 1024
FIELD_BYTES: Final = 1024
FIELDS: Final = ("type", "purpose")
# Timeouts in seconds: for the whole upload, and without any data.
UPLOAD_TIMEOUT: Final = 6 * 3600.0
IDLE_TIMEOUT: Final = 60.0
# A refused body is discarded for so many seconds, so that the client gets to read the answer.
DRAIN_TIMEOUT: Final = 20.0


class UploadHandler(ApiHandler):
    _upload: Upload | None = None
    _form: FormReader | None = None
    _answered_at: float | None = None
    _idle_timer: asyncio.TimerHandle | None = None

    @property
    def max_body(self) -> int:
        return self._max_file() + FORM_BYTES

    def too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge.over("A file", self._max_file())

    async def prepare(self) -> None:
        if self.request.method != "POST":
            await super().prepare()
            return
        self._fields: dict[str, bytes] = {}
        self._part: PartBegin | None = None
        self._file_name: bytes | None = None
        self._received_at = time.monotonic()
        try:
            self.slot.begin(self.request.headers)
            await self.admit()
            authorise(Caller(self.principal), UPLOAD)
            self._check_size(self._declared_size())
            self._form = FormReader(self.request.headers.get("Content-Type", ""))
            self._upload = await self.context.uploads.begin(self.principal.user_id)
        except Exception as error:
            if self.request.headers.get("Expect"):
                # The client waits for `100 Continue`: nothing may be read before the answer is sent.
                raise
            self._leaves_body = False
            await self._refuse(error)
            return
        self._leaves_body = False
        connection: Any = self.request.connection
        connection.set_body_timeout(UPLOAD_TIMEOUT)
        self._check_idle()

    async def data_received(self, chunk: bytes) -> None:
        if self.request.method != "POST":
            # The body is discarded.
            return
        self._received_at = time.monotonic()
        self._received += len(chunk)
        if self._answered_at is not None:
            if self._received > DRAIN_LIMIT or self._received_at - self._answered_at > DRAIN_TIMEOUT:
                await self.finish()
            return
        # Raising here would close the connection without an answer.
        try:
            self._check_size(self._received)
            if self._form is not None:
                for piece in self._form.feed(chunk):
                    await self._take(piece)
        except Exception as error:
            await self._refuse(error)

    async def post(self) -> None:
        self._stop_idle_timer()
        if self._answered_at is not None or self._form is None or self._upload is None:
            return
        try:
            self._form.finish()
            if self._file_name is None:
                raise ValidationFailed.at("file", "is required, as a file with a name")
            view = await self._upload.finish(self._file_name, self._field("type"), self._field("purpose"))
        finally:
            self.context.uploads.abandon(self._upload)
        self.answer(view, 201)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._stop_idle_timer()
        if self._upload is not None:
            self.context.uploads.abandon(self._upload)

    async def _take(self, piece: Piece) -> None:
        """Process one piece of the form. The first part of a name counts; unknown parts are ignored."""
        if isinstance(piece, PartBegin):
            self._part = piece
            if piece.name == "file" and piece.file_name is not None and self._file_name is None:
                self._file_name = piece.file_name
            elif piece.name in FIELDS and piece.name not in self._fields:
                self._fields[piece.name] = b""
            else:
                self._part = None
        elif isinstance(piece, PartEnd):
            self._part = None
        elif self._part is not None:
            await self._take_data(self._part, piece)

    async def _take_data(self, part: PartBegin, piece: PartData) -> None:
        if part.name == "file" and self._upload is not None:
            await self._upload.write(piece.data)
            return
        self._fields[part.name] += piece.data
        if len(self._fields[part.name]) > FIELD_BYTES:
            raise ValidationFailed.at(part.name, f"must hold at most {FIELD_BYTES} bytes")

    def _max_file(self) -> int:
        uploads = self.context.settings.uploads
        return max(uploads.max_image, uploads.max_file)

    def _field(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is None:
            return None
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValidationFailed.at(name, "must be UTF-8") from None
        if not text.isprintable():
            raise ValidationFailed.at(name, "must not contain control characters")
        return text.strip() or None

    async def _refuse(self, error: Exception) -> None:
        """Answer before the end of the body; `post` or `data_received` ends the request later."""
        self.log_exception(type(error), error, error.__traceback__)
        self._answered_at = time.monotonic()
        self._received = 0
        if self._upload is not None:
            self.context.uploads.abandon(self._upload)
        connection: Any = self.request.connection
        connection.set_max_body_size(sys.maxsize)
        self.write_error(to_chat_error(error).status, exc_info=(type(error), error, error.__traceback__))
        self.set_header("Connection", "close")
        self.set_header("Content-Length", buffered_size(self))
        await self.flush()

    def _check_idle(self) -> None:
        remaining = self._received_at + IDLE_TIMEOUT - time.monotonic()
        if remaining <= 0:
            connection: Any = self.request.connection
            connection.close()
            return
        self._idle_timer = asyncio.get_running_loop().call_later(remaining, self._check_idle)

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
