"""Another service that has accounts: it signs tokens, and serves its public keys over HTTP."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.people import Person, Town, unique
from tests.support.rest import API

ISSUER: Final = "https://accounts.example.com/realms/shop"
AUDIENCE: Final = "chat"
LIFE: Final = 600.0
SHARED_SECRET: Final = "a secret that the shop and the chat server share, and nobody else"
# Accounts here and there.
ALSO_EXTERNAL: Final = {
    "auth.mode": "both",
    "auth.external.algorithms": ["HS256"],
    "auth.external.secret": SHARED_SECRET,
}
PEM: Final = serialization.Encoding.PEM
PUBLIC: Final = serialization.PublicFormat.SubjectPublicKeyInfo


def make_key(algorithm: str, *, bits: int = 2048) -> Any:
    """A private key for this algorithm."""
    if algorithm[:2] in ("RS", "PS"):
        return rsa.generate_private_key(public_exponent=65537, key_size=bits)
    curves = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
    return ec.generate_private_key(curves[algorithm]()) if algorithm in curves else ed25519.Ed25519PrivateKey.generate()


def public_pem(key: Any) -> str:
    return str(key.public_key().public_bytes(PEM, PUBLIC).decode())


def public_jwk(algorithm: str, key: Any, key_id: str, **fields: Any) -> dict[str, Any]:
    known = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**known, "kid": key_id, "use": "sig", "alg": algorithm, **fields}


def sign(
    user_id: str,
    key: Any,
    algorithm: str,
    *,
    header: dict[str, Any] | None = None,
    life: float = LIFE,
    **claims: Any,
) -> str:
    """A token for a user, for so many seconds. Claims of None are left out."""
    moment = time.time()
    known = {"iss": ISSUER, "aud": AUDIENCE, "sub": user_id, "iat": int(moment), "exp": int(moment + life), **claims}
    payload = {name: value for name, value in known.items() if value is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers=header)


async def granted_person(town: Town, *scopes: str) -> Person:
    """Somebody who is made by a token that grants scopes, `users:write` if none is named, on a server that takes it."""
    scope = " ".join(scopes or ("users:write",))
    token = sign(unique("granted"), SHARED_SECRET, "HS256", scope=scope, aud=None, exp=int(time.time() + 86_400))
    answer = await town.rest.call("GET", f"{API}/users/me", token=token)
    assert answer.status == 200, answer
    return Person(town, answer.body, token, "")


class Issuer:
    """Its keys, by their ids: what the address answers is made of `keys` at each request, which `asked` counts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str, tuple[str, Any]] = {}
        self.extra: list[dict[str, Any]] = []
        self.asked = 0
        self.is_down = False
        self.speaks_http = True

    def add(self, key_id: str, algorithm: str) -> None:
        self.keys[key_id] = algorithm, make_key(algorithm)

    def token(self, user_id: str, key_id: str, **claims: Any) -> str:
        algorithm, key = self.keys[key_id]
        return sign(user_id, key, algorithm, header={"kid": key_id}, **claims)

    def document(self) -> bytes:
        known = [public_jwk(algorithm, key, key_id) for key_id, (algorithm, key) in self.keys.items()]
        return json.dumps({"keys": [*known, *self.extra]}).encode()


@contextmanager
def run_issuer() -> Iterator[Issuer]:
    """An issuer whose key set is served at `url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            if not issuer.speaks_http:
                self.wfile.write(b"nothing that HTTP knows\r\n\r\n")
                return
            self.send_response(503 if issuer.is_down else 200)
            self.end_headers()
            self.wfile.write(b"" if issuer.is_down else issuer.document())

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = Issuer(f"http://127.0.0.1:{server.server_port}/jwks.json")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield issuer
        finally:
            server.shutdown()
