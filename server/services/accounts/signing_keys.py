"""Keys that verify tokens from somewhere else: a shared secret, a public key in a file, or a key set behind a URL."""

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any, Final, Protocol

import jwt

from server.config.public_keys import check_size, read_public_key
from server.errors import Unavailable

log = logging.getLogger(__name__)

# Type of key (RFC 7517) by the beginning of the algorithm. A key of another type is never tried.
KEY_TYPES: Final = {"HS": "oct", "RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
# Unknown key ids ask for the set again, but not more often than this: in seconds.
SHORTEST_PAUSE: Final = 30.0
FETCH_SECONDS: Final = 5.0
MOST_BYTES: Final = 1024 * 1024
MOST_KEYS: Final = 100

Fetch = Callable[[str], bytes]


class SigningKeys(Protocol):
    """Where keys come from."""

    async def find(self, algorithm: str, key_id: str | None) -> Sequence[Any]:
        """The keys that may have signed a token. Raises `Unavailable` if they are not known yet."""


class SharedSecret:
    """A secret for HS256, HS384 and HS512."""

    def __init__(self, secret: str) -> None:
        self._keys = (secret,)

    async def find(self, algorithm: str, _key_id: str | None) -> Sequence[Any]:
        return self._keys if algorithm.startswith("HS") else ()


class PublicKeyFile:
    """One public key. Raises `OSError` or `ValueError` if the file cannot be read or holds none."""

    def __init__(self, path: str) -> None:
        self._keys = (read_public_key(path),)

    async def find(self, algorithm: str, _key_id: str | None) -> Sequence[Any]:
        return () if algorithm.startswith("HS") else self._keys


def fetch(url: str) -> bytes:
    """Read a URL, without following redirects. Blocks; raises `OSError`, `ValueError` or `HTTPException`."""
    opener = urllib.request.build_opener(_NoRedirect)
    with opener.open(url, timeout=FETCH_SECONDS) as answer:
        content: bytes = answer.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    return content


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        """The answer counts as an error."""


class KeySet:
    """The keys behind a URL (RFC 7517). A URL that does not answer does no harm to keys that are known."""

    def __init__(self, url: str, fetch: Fetch = fetch) -> None:
        self._url = url
        self._fetch = fetch
        self._keys: list[Mapping[str, Any]] = []
        self._has_answered = False
        self._is_failing = False
        self._asked_at = -SHORTEST_PAUSE
        self._fetching = asyncio.Lock()
        self._ready: dict[tuple[int, str], Any] = {}

    async def find(self, algorithm: str, key_id: str | None) -> Sequence[Any]:
        """Asks for the set again if the key id is unknown, at most once in `SHORTEST_PAUSE`."""
        if algorithm.startswith("HS"):
            return ()
        found = self._matching(algorithm, key_id)
        if not found:
            async with self._fetching:
                # Another caller may have asked while this one waited for the lock.
                if time.monotonic() - self._asked_at >= SHORTEST_PAUSE:
                    await self._ask()
            found = self._matching(algorithm, key_id)
        if not found and not self._has_answered:
            raise Unavailable("The keys that verify tokens are not known yet")
        return found

    async def refresh(self) -> None:
        """Ask for the set. A failure is logged, and the known keys stay."""
        async with self._fetching:
            await self._ask()

    async def _ask(self) -> None:
        self._asked_at = time.monotonic()
        try:
            keys = _read_keys(await asyncio.to_thread(self._fetch, self._url))
        # What speaks no HTTP, and what is nested beyond reason, is an outage too.
        except (OSError, ValueError, HTTPException, RecursionError) as error:
            if not self._is_failing:
                log.warning("key set unavailable url=%s known_keys=%d error=%s", self._url, len(self._keys), error)
            self._is_failing = True
            return
        if self._is_failing or not self._has_answered:
            log.info("key set read url=%s keys=%d", self._url, len(keys))
        self._keys, self._has_answered, self._is_failing = keys, True, False
        self._ready.clear()

    def _matching(self, algorithm: str, key_id: str | None) -> list[Any]:
        found = []
        for place, key in enumerate(self._keys):
            fits = key.get("kty") == KEY_TYPES.get(algorithm[:2]) and key.get("alg") in (None, algorithm)
            if fits and (key_id is None or key.get("kid") in (None, key_id)):
                ready = self._prepare(place, key, algorithm)
                if ready is not None:
                    found.append(ready)
        return found

    def _prepare(self, place: int, key: Mapping[str, Any], algorithm: str) -> Any:
        """The key for this algorithm, made once; None if it is of no use for it."""
        if (place, algorithm) not in self._ready:
            try:
                self._ready[place, algorithm] = check_size(jwt.PyJWK(dict(key), algorithm).key)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
                log.warning("key of a key set is of no use url=%s kid=%s error=%s", self._url, key.get("kid"), error)
                self._ready[place, algorithm] = None
        return self._ready[place, algorithm]


def _read_keys(content: bytes) -> list[Mapping[str, Any]]:
    """The keys for signatures. Raises `ValueError` if it is no key set. Secrets have no place in a public set."""
    document = json.loads(content)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("no key set")
    return [
        key
        for key in keys[:MOST_KEYS]
        if isinstance(key, dict) and key.get("kty") != "oct" and key.get("use") in (None, "sig")
    ]
