"""`/` and `/web/…`: the browser client, plain files with no build step, and the settings that it reads."""

import errno
import re
from pathlib import Path
from typing import Final

from handlers.base import ApiHandler
from server.errors import NotFound, Unavailable

FOLDER: Final = Path(__file__).resolve().parents[2] / "web"
START_PAGE: Final = "index.html"
NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
# A part begins with a letter or digit, so that none is `..`, and is short enough for any file system.
FILE_NAME: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}/){0,4}[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Pictures in messages and profiles may be web addresses; everything else comes from this server. No inline script.
# The page asks first, unless `web.load_remote_images`; once somebody has clicked it must be able to load them.
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
    """One file of the client, checked again at every use by its ETag. 404 where `web.enabled` is off."""

    public = True

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
        # The files are few and small, so that reading them from the system's cache holds nobody up.
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


class WebSettingsHandler(ApiHandler):
    """What the client must know of the server's settings before somebody signs in. 404 where `web.enabled` is off."""

    public = True

    def get(self) -> None:
        settings = self.context.settings.web
        if not settings.enabled:
            raise NotFound("No such path")
        self.answer({"loadRemoteImages": settings.load_remote_images})
