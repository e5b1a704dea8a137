"""Detects the type of a file by its first bytes, and cleans file names."""

import unicodedata
from typing import Final

import msgspec

# Enough for every signature below (tar has its own at 257) and to tell text from other bytes.
HEAD_BYTES: Final = 4096
NAME_BYTES: Final = 255
MAX_EXTENSION: Final = 10


# The only table of picture extensions. The first of each kind is used in addresses. Pictures of `OTHER_PICTURES` are
# not examined, and never shown inline.
PICTURE_EXTENSIONS: Final = {
    "PNG": ("png", "apng"),
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp"),
    "GIF": ("gif",),
    "WEBP": ("webp",),
}
OTHER_PICTURES: Final = (
    "avif", "bmp", "cur", "dib", "heic", "heif", "ico", "jp2", "jxl", "svg", "svgz", "tif", "tiff",
)  # fmt: skip
IMAGE_EXTENSIONS: Final = frozenset(OTHER_PICTURES).union(*PICTURE_EXTENSIONS.values())


class FileKind(msgspec.Struct, frozen=True):
    """`is_picture`: examined and shown inline. `is_container`: only the name tells what it contains."""

    mime_type: str
    extension: str
    is_picture: bool = False
    is_container: bool = False


PICTURES: Final = {
    name: FileKind(f"image/{name.lower()}", extensions[0], is_picture=True)
    for name, extensions in PICTURE_EXTENSIONS.items()
}
BINARY: Final = FileKind("application/octet-stream", "bin", is_container=True)
TEXT: Final = FileKind("text/plain", "txt", is_container=True)
WAVE: Final = FileKind("audio/wav", "wav")
# Office documents, e-books and programs are zip or OLE files.
SIGNATURES: Final[list[tuple[int, bytes, FileKind]]] = [
    (0, b"\x89PNG\r\n\x1a\n", PICTURES["PNG"]),
    (0, b"\xff\xd8\xff", PICTURES["JPEG"]),
    (0, b"GIF87a", PICTURES["GIF"]),
    (0, b"GIF89a", PICTURES["GIF"]),
    (0, b"%PDF-", FileKind("application/pdf", "pdf")),
    (0, b"PK\x03\x04", FileKind("application/zip", "zip", is_container=True)),
    (0, b"PK\x05\x06", FileKind("application/zip", "zip", is_container=True)),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind("application/x-ole-storage", "bin", is_container=True)),
    (0, b"\x1f\x8b\x08", FileKind("application/gzip", "gz")),
    (4, b"1AY&SY", FileKind("application/x-bzip2", "bz2")),
    (0, b"\xfd7zXZ\x00", FileKind("application/x-xz", "xz")),
    (0, b"\x28\xb5\x2f\xfd", FileKind("application/zstd", "zst")),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("application/x-7z-compressed", "7z")),
    (0, b"Rar!\x1a\x07", FileKind("application/vnd.rar", "rar")),
    (257, b"ustar", FileKind("application/x-tar", "tar")),
    (0, b"OggS", FileKind("application/ogg", "ogg")),
    (0, b"fLaC", FileKind("audio/flac", "flac")),
    (0, b"ID3", FileKind("audio/mpeg", "mp3")),
    (0, b"\xff\xfb", FileKind("audio/mpeg", "mp3")),
    (0, b"\x1aE\xdf\xa3", FileKind("video/webm", "webm")),
    (0, b"SQLite format 3\x00", FileKind("application/vnd.sqlite3", "sqlite")),
    (0, b"{\\rtf", FileKind("application/rtf", "rtf")),
]
# After `ftyp` at offset 4. Pictures of these kinds cannot be examined here, so they are handled as plain files.
BRANDS: Final = {
    b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif", b"avif": "image/avif",
    b"M4A ": "audio/mp4", b"qt  ": "video/quicktime",
}  # fmt: skip
BRAND_EXTENSIONS: Final = {"audio/mp4": "m4a", "video/quicktime": "mov", "video/mp4": "mp4"}
# Not for other contents: extensions of pictures, and of what a browser would run.
REFUSED_EXTENSIONS: Final = IMAGE_EXTENSIONS | frozenset(
    ["htm", "html", "xhtml", "xht", "shtml", "xml", "js", "mjs", "css"]
)
# Bidirectional controls: `photo<RLO>gnp.exe` reads as `photoexe.png`.
BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
PLAIN_CONTROLS: Final = frozenset(b"\t\n\f\r\x1b")


def detect_kind(head: bytes) -> FileKind:
    """The kind of a file that begins with `head` (`HEAD_BYTES` of it, or all of a shorter file)."""
    for offset, signature, kind in SIGNATURES:
        if head.startswith(signature, offset):
            return kind
    if head.startswith(b"RIFF"):
        return {b"WEBP": PICTURES["WEBP"], b"WAVE": WAVE}.get(head[8:12], BINARY)
    if head[4:8] == b"ftyp":
        mime_type = BRANDS.get(head[8:12], "video/mp4")
        return FileKind(mime_type, BRAND_EXTENSIONS.get(mime_type, "bin"))
    return TEXT if _is_text(head) else BINARY


def choose_extension(kind: FileKind, file_name: str) -> str:
    """The extension for a file's address: that of its name if the kind is a container and it is harmless."""
    _, dot, extension = file_name.lower().rpartition(".")
    is_plain = 1 <= len(extension) <= MAX_EXTENSION and extension.isascii() and extension.isalnum()
    if kind.is_container and dot and is_plain and extension not in REFUSED_EXTENSIONS:
        return extension
    return kind.extension


def picture_name(file_name: str, mime_type: str) -> str:
    """The name under which a picture is served: always with an extension of its kind."""
    extensions = PICTURE_EXTENSIONS[mime_type.removeprefix("image/").upper()]
    stem, dot, extension = file_name.rpartition(".")
    if dot and extension.lower() in extensions:
        return file_name
    return _shorten(f"{stem if stem and len(extension) <= MAX_EXTENSION else file_name}.{extensions[0]}")


def clean_name(raw: bytes, extension: str) -> str:
    """The name for display: without folders and controls, at most 255 bytes; `file.<extension>` if it is empty."""
    name = unicodedata.normalize("NFC", raw.decode("utf-8", "replace")).replace("\\", "/").rpartition("/")[2]
    # Browsers encode a quotation mark in a form like this.
    name = name.replace("%22", '"')
    name = "".join(
        character
        for character in name
        if character not in BIDI_CONTROLS and unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
    )
    name = name.strip().rstrip(". ")
    if not name:
        return f"file.{extension}"
    return _shorten(name)


def _shorten(name: str) -> str:
    """At most `NAME_BYTES` bytes of UTF-8; the extension stays."""
    if len(name.encode()) <= NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = dot + extension if stem and len(extension.encode()) <= 4 * MAX_EXTENSION else ""
    room = NAME_BYTES - len(ending.encode())
    return (stem if ending else name).encode()[:room].decode("utf-8", "ignore") + ending


def _is_text(head: bytes) -> bool:
    if not head or any(byte < 32 and byte not in PLAIN_CONTROLS for byte in head) or b"\x7f" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut.
        return len(head) >= HEAD_BYTES and error.start > len(head) - 4
    return True
