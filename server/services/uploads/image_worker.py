"""Examines pictures in a process of its own: `python image_worker.py PARENT_PID`, started by `images.py`.

A hostile file that crashes the decoder, or makes it use much memory or time, hits this process and not the server. It
is no sandbox: the process runs as the server's user, and may read and write what that user may. It inherits only the
environment variables and open files that it needs.
Requests arrive on standard input and answers go to standard output, each a length of four bytes and JSON.
Request: `{"path", "thumbnail"}`, two paths. Answer: `{"seconds", "picture"}` or `{"seconds", "refused": why}`, where
`seconds` is CPU time. `picture` is `{"format", "width", "height", "thumbnail"}`: the size with the orientation applied,
and the extension of the thumbnail written. A picture that takes more than `CPU_SECONDS` ends the process by SIGPROF.
"""

import contextlib
import ctypes
import json
import mmap
import os
import re
import resource
import signal
import struct
import sys
import time
import warnings
from typing import Any, BinaryIO

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_PIXELS = 25_000_000
# A JPEG may have many scans, each of which covers all pixels. Encoders write about ten, at most a few dozen.
MAX_SCANS = 64
MAX_SCANNED_PIXELS = 16 * MAX_PIXELS
# The slowest honest picture of the largest size takes about two; a slow machine takes three times as long.
CPU_SECONDS = 6.0
# In a JPEG's data 0xff is a marker unless 0x00 or a restart marker follows.
MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)
START_OF_SCAN = 0xDA
END_OF_IMAGE = 0xD9
WITHOUT_LENGTH = (0x01, 0xD8)
THUMBNAIL_SIDE = 480
QUALITY = 80
# The largest picture takes 100 MB as RGBA; decoding and rotating it take a few times that.
MEMORY_BYTES = 1024**3
THUMBNAIL_BYTES = 4 * 1024**2
PR_SET_PDEATHSIG = 1
NICENESS = 5  # messages come first
ORIENTATION = 0x0112  # the EXIF tag
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def main(parent: int) -> None:
    """Answer requests until the input ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    _limit_resources()
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while (request := _read(source)) is not None:
        begun = time.process_time()
        # SIGPROF ends the process even inside of a decoder.
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        found = _answer(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        answer = json.dumps({"seconds": time.process_time() - begun, **found}).encode()
        target.write(struct.pack(">I", len(answer)) + answer)
        target.flush()


def _limit_resources() -> None:
    os.nice(NICENESS)
    warnings.simplefilter("ignore")
    # `_examine` enforces `MAX_PIXELS`; Pillow's own limit would only warn.
    Image.MAX_IMAGE_PIXELS = None
    for kind, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, THUMBNAIL_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (limit, limit))


def _read(source: BinaryIO) -> dict[str, str] | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    request: dict[str, str] = json.loads(source.read(struct.unpack(">I", head)[0]))
    return request


def _answer(request: dict[str, str]) -> dict[str, Any]:
    try:
        return _examine(request["path"], request["thumbnail"])
    except MemoryError:
        return {"refused": "the picture needs too much memory"}
    # Decoders raise any kind of exception for crafted files.
    except Exception:
        return {"refused": "the file is damaged or no picture that can be shown"}


def _examine(path: str, thumbnail: str) -> dict[str, Any]:
    with Image.open(path, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            return {"refused": f"the picture has more than {MAX_PIXELS // 1_000_000} megapixels"}
        kind = "JPEG" if picture.format == "MPO" else picture.format
        if kind == "JPEG":
            scans = count_scans(path)
            if scans > MAX_SCANS or scans * width * height > MAX_SCANNED_PIXELS:
                return {"refused": "the picture has too many scans"}
        transposition = TRANSPOSITIONS.get(_orientation(picture))
        small = _full_tones(picture)
        # Decodes a JPEG at a fraction of its size; raises for a truncated file of any kind.
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        small = _pixels(small)
    if transposition is not None:
        small = small.transpose(transposition)
        if transposition in (TRANSPOSITIONS[5], TRANSPOSITIONS[6], TRANSPOSITIONS[7], TRANSPOSITIONS[8]):
            width, height = height, width
    extension = "webp" if small.mode == "RGBA" else "jpg"
    with open(thumbnail, "wb", opener=_private) as file:
        small.save(file, "WEBP" if extension == "webp" else "JPEG", quality=QUALITY)
    return {"picture": {"format": kind, "width": width, "height": height, "thumbnail": extension}}


def count_scans(path: str) -> int:
    """The number of scans of a JPEG; counting stops after `MAX_SCANS`."""
    scans = 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = 0
        while scans <= MAX_SCANS and (found := MARKER.search(data, place)):
            marker, place = data[found.end() - 1], found.end()
            if marker == END_OF_IMAGE:
                break
            scans += marker == START_OF_SCAN
            if marker not in WITHOUT_LENGTH:
                place += int.from_bytes(data[place : place + 2], "big")
    return scans


def _orientation(picture: Image.Image) -> int:
    # Broken EXIF data is no reason to refuse a picture that can be seen.
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1


def _full_tones(picture: Image.Image) -> Image.Image:
    """The picture in a mode that can be scaled down without losing tones."""
    if picture.mode.startswith("I"):
        # 16 bits of grey: a plain conversion would clip all but the darkest tones.
        return picture.convert("I").point(lambda value: value / 256).convert("L")
    if picture.mode in ("1", "P", "PA"):
        return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    return picture


def _pixels(picture: Image.Image) -> Image.Image:
    """The pixels alone as RGB or RGBA, without comment, EXIF or colour profile."""
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    pixels = Image.new(mode, picture.size)
    pixels.paste(picture.convert(mode))
    return pixels


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


if __name__ == "__main__":
    main(int(sys.argv[1]))
