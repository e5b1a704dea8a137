"""Public keys that verify tokens: read from PEM, and bounded in size."""

from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

# In bits. Verifying with a longer key takes milliseconds of the event loop; PyJWT refuses shorter ones by itself.
LONGEST_RSA: Final = 8192
SHORTEST_RSA: Final = 2048


def read_public_key(path: str) -> Any:
    """The key in a PEM file. Raises `OSError` or `ValueError`."""
    try:
        return check_size(load_pem_public_key(Path(path).read_bytes()))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None


def check_size(key: Any) -> Any:
    """The key. Raises `ValueError` for an RSA key that is too short or too long."""
    if isinstance(key, RSAPublicKey) and not SHORTEST_RSA <= key.key_size <= LONGEST_RSA:
        raise ValueError(f"an RSA key of {key.key_size} bits; {SHORTEST_RSA} to {LONGEST_RSA} are taken")
    return key
