"""A zip archive that is written piece by piece and never held as a whole."""

import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final

# JSON shrinks to a fifth with it; files are mostly compressed already.
LEVEL: Final = 1


class _Sink:
    """Takes what the archive writes. It cannot be rewound, so that zipfile writes sizes behind the entries."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


class ZipStream:
    """Write entries one after another; `take` returns the bytes since the last call."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._archive = zipfile.ZipFile(self._sink, "w")  # type: ignore[call-overload]

    @contextmanager
    def entry(self, name: str, *, is_text: bool) -> Iterator[IO[bytes]]:
        info = zipfile.ZipInfo(name, time.gmtime()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED
        info._compresslevel = LEVEL if is_text else None  # type: ignore[attr-defined]
        with self._archive.open(info, "w", force_zip64=True) as file:
            yield file

    def take(self) -> bytes:
        data = b"".join(self._sink.pieces)
        self._sink.pieces.clear()
        return data

    def close(self) -> bytes:
        """The end of the archive."""
        self._archive.close()
        return self.take()
