"""Checks the settings of tokens from somewhere else: what refuses all of them, or trusts too many, stops the start."""

from collections.abc import Mapping
from typing import Final

from server.config.public_keys import read_public_key
from server.config.settings import Auth, External
from server.config.sources import ConfigError, Entry

MODE_KEY: Final = "auth.mode"
ALGORITHMS_KEY: Final = "auth.external.algorithms"
SHARED_KEY: Final = "auth.external.secret"
PUBLIC_KEY_KEY: Final = "auth.external.public_key_file"
JWKS_KEY: Final = "auth.external.jwks_url"
# Bytes of a key, as long as what the algorithm makes of it (RFC 7518, section 3.2).
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}


def check_external(auth: Auth, entries: Mapping[str, Entry]) -> None:
    """Raises `ConfigError` at the setting that is wrong or missing."""
    if auth.mode == "builtin":
        return
    external = auth.external

    def fail(key: str, reason: str) -> None:
        # What is missing is named at the setting that asks for it.
        origin = entries[key].origin if key in entries else entries[MODE_KEY].origin
        raise ConfigError(origin, f"{key}: {reason}")

    if not external.algorithms:
        fail(ALGORITHMS_KEY, f"auth.mode {auth.mode} needs the algorithms that tokens are signed with")
    for algorithm, least in SECRET_BYTES.items():
        if algorithm in external.algorithms and len(external.secret.encode()) < least:
            fail(SHARED_KEY, f"{algorithm} needs at least {least} bytes")
    if "BEGIN" in external.secret and "KEY" in external.secret:
        fail(SHARED_KEY, f"holds a key of another kind: put it into a file and name it in {PUBLIC_KEY_KEY}")
    if external.secret and external.secret == auth.secret:
        fail(SHARED_KEY, "must not be auth.secret: the other service could sign for the accounts of this server")
    if external.public_key_file and external.jwks_url:
        fail(JWKS_KEY, f"cannot go together with {PUBLIC_KEY_KEY}")
    if has_public_algorithm(external) and not (external.public_key_file or external.jwks_url):
        fail(PUBLIC_KEY_KEY, f"these algorithms need a public key: here or by {JWKS_KEY}")


def check_key_file(path: str, origin: str) -> None:
    """Raises `ConfigError` unless the file holds a public key."""
    try:
        read_public_key(path)
    except OSError as error:
        raise ConfigError(origin, f"{PUBLIC_KEY_KEY}: {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(origin, f"{PUBLIC_KEY_KEY}: {path} holds no public key in PEM: {error}") from None


def has_public_algorithm(external: External) -> bool:
    """Whether one of the algorithms verifies with a public key."""
    return any(algorithm not in SECRET_BYTES for algorithm in external.algorithms)
