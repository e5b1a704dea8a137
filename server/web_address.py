"""Checks web addresses that users give for pictures and attachments."""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from server.file_types import BIDI_CONTROLS

# Browsers drop or replace some of these, and would request another address than the one that is checked here.
REFUSED: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\\]")


def is_web_address(url: str) -> bool:
    """Whether this is an absolute http(s) URL that does not disguise its host.

    A user name or password in front of the host looks like the host (`https://bank.example@evil.example/`), and
    bidirectional controls let the end of an address look like its beginning.
    """
    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    if not is_complete or "@" in parts.netloc or REFUSED.search(url):
        return False
    return BIDI_CONTROLS.isdisjoint(url) and BIDI_CONTROLS.isdisjoint(unquote(url))
