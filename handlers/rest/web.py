"""`/` and `/web/…`: the files of the browser client, and the settings that it reads."""

import errno
import re
from pathlib import Path
from typing import Final

from handlers.base import ApiHandler
from server.errors import NotFound, Unavailable
from server.protocol import PageSettings

FOLDER: Final = Path(__file__).resolve().parents[2] / "web"
START_PAGE: Final = "index.html"
DOCS_PAGE: Final = "docs.html"
NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
# Path parts begin with a letter or digit, so that none is `..`, and fit any file system.
FILE_NAME: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}/){0,4}[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Images may come from any https address, as messages and profiles link to them; everything else only from this server.
# The page loads remote images after a click, or at once if `web.load_remote_images` is set.
SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob: https:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


class WebFileHandler(ApiHandler):
    """One file of the client, revalidated by ETag at every use. 404 if `web.enabled` is off."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", SECURITY_POLICY)
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")

    def get(self, name: str = START_PAGE) -> None:
        self.set_header("Content-Type", CONTENT_TYPES.get(Path(name).suffix, ""))
        self.set_header("Cache-Control", "no-cache")
        self.write(self._read(name))

    def _read(self, name: str) -> bytes:
        # Few small files in the system's cache: reading them does not block the event loop noticeably.
        known = FILE_NAME.fullmatch(name) and Path(name).suffix in CONTENT_TYPES
        if not known or not self.context.settings.web.enabled:
            raise NotFound("No such path")
        try:
            return (FOLDER / name).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFound("No such path") from None
        except OSError as error:
            if error.errno not in NO_DESCRIPTORS:
                raise
            raise Unavailable from error


class DocsHandler(WebFileHandler):
    """The page of both descriptions of the contract."""

    def get(self, name: str = DOCS_PAGE) -> None:
        super().get(name)


class WebSettingsHandler(ApiHandler):
    """The settings that the client needs before login. 404 if `web.enabled` is off."""

    def get(self) -> None:
        settings = self.context.settings
        if not settings.web.enabled:
            raise NotFound("No such path")
        registration = "closed" if settings.auth.mode == "external" else settings.auth.registration
        self.answer(PageSettings(settings.web.load_remote_images, registration))
