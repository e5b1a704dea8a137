"""Secrets that the server generates at its first start, kept in files that only their owner may read."""

import os
import secrets
from pathlib import Path
from typing import Final

from server.config.settings import Settings

RANDOM_BYTES: Final = 32


def read_signing_secret(settings: Settings) -> str:
    """The key that signs tokens: the configured one, or that which the first start made. Raises as below."""
    return settings.auth.secret or read_or_make_secret(Path(settings.data_dir) / "jwt_secret")


def read_or_make_secret(path: Path) -> str:
    """The secret in the file, generated if there is none: at least 32 characters of `A-Za-z0-9_-`.

    If several processes generate it at once, all get the same value. Raises `OSError` if the folder is not writable,
    `ValueError` if the file holds no such secret.
    """
    if not path.exists():
        _make(path)
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    secret = path.read_text("utf-8", "replace").strip()
    if len(secret) < RANDOM_BYTES or "\ufffd" in secret:
        raise ValueError(f"{path} holds no secret of at least {RANDOM_BYTES} characters; remove it to get a new one")
    return secret


def _make(path: Path) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(RANDOM_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, never replaces a secret that another process made in the meantime.
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()
