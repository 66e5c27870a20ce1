"""Check API keys by name. Without configured keys, requests need none.

`make key NAME=acme` creates a key and prints it once. The service stores only its hash,
in the setting API_KEYS or the file /run/secrets/api_keys: one `name:hash` for each key,
separated by commas or white space. A name may have several keys, so that a client can
switch to a new one before the old one is removed.
"""

import hashlib
import hmac
import re
import secrets
import sys
from collections.abc import Awaitable
from typing import Any, NamedTuple

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import docs
from serving.build import Application
from serving.problems import UNAUTHORIZED, ProblemError, documented, problem_response
from serving.requests import TENANT, UNLIMITED
from serving.settings import SECRETS, SettingsError

# Paths that are read without a key: probes, metrics and the documentation of the API.
PUBLIC = UNLIMITED | docs.PATHS | {"/openapi.json"}
READS = frozenset({"GET", "HEAD", "OPTIONS"})
SCHEME = "ApiKey"

_is_name = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?").fullmatch
_is_hash = re.compile(r"[0-9a-f]{64}").fullmatch


class ApiKey(NamedTuple):
    """The name of a key and its SHA-256."""

    name: str
    hash: bytes


def hash_key(key: bytes) -> bytes:
    """Return the hash of a key that the service stores.

    A fast hash without salt is safe, because a key is 256 random bits.
    """
    return hashlib.sha256(key).digest()


def read_keys(text: str) -> list[ApiKey]:
    """Parse `name:hash` entries. Raises SettingsError, which quotes no entry."""
    keys = []
    for number, entry in enumerate(re.split(r"[,\s]+", text.strip()), 1):
        if not entry:
            continue
        name, _, digest = entry.partition(":")
        if not _is_name(name) or not _is_hash(digest):
            raise SettingsError(
                f"API_KEYS, or the file {SECRETS}/api_keys, is invalid: entry {number} "
                "is not name:hash, with a name of a-z, 0-9 and hyphens and the 64 "
                "hexadecimal digits that `make key NAME=…` prints."
            )
        keys.append(ApiKey(name, bytes.fromhex(digest)))
    if text and not keys:
        raise SettingsError(
            f"API_KEYS, or the file {SECRETS}/api_keys, has no entry: give name:hash, "
            "or leave it out."
        )
    return keys


def guard(app: Application, keys: list[ApiKey]) -> None:
    """Require a key for all but reads of `PUBLIC`, if there are keys."""
    if not keys:
        app.start_notes.append(
            "API keys are off: requests need no key (make key NAME=…)."
        )
        return
    names = sorted({key.name for key in keys})
    app.start_notes.append(f"API keys are on, for: {', '.join(names)}.")
    # Inside all other middleware: CORS answers a preflight, which has no key.
    app.user_middleware.append(Middleware(ApiKeyLayer, keys=keys, owner=app))
    app.document_edits.append(document_keys)


class ApiKeyLayer:
    """ASGI middleware that rejects (401) requests without a known key.

    It reads only the headers, and runs before the body is read. It stores the name of
    the key in the scope, which logs and metrics show as the tenant.
    """

    def __init__(self, app: ASGIApp, keys: list[ApiKey], owner: Application) -> None:
        """`owner` is the application that the layer guards, with its routes."""
        self.app = app
        self._keys = keys
        self._public = PUBLIC - {"/"} if docs.is_root_yours(owner) else PUBLIC

    # Not `async def`: another coroutine would cost as much as the hash.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self.app(scope, receive, send)
        if scope["path"] in self._public and scope.get("method") in READS:
            return self.app(scope, receive, send)
        given = bearer_token(scope)
        tenant = self._name_of(given) if given else None
        if tenant is None:
            return reject(given, scope, receive, send)
        scope[TENANT] = tenant
        return self.app(scope, receive, send)

    def _name_of(self, key: bytes) -> str | None:
        """Return the name of a key, in a time that reveals nothing about the keys."""
        digest = hash_key(key)
        found = None
        for name, known in self._keys:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def bearer_token(scope: Scope) -> bytes | None:
    """Return the token of an `Authorization: Bearer …` header, or None."""
    for header, value in scope["headers"]:
        if header == b"authorization":
            scheme, _, token = value.partition(b" ")
            return token.strip() if scheme.lower() == b"bearer" else None
    return None


async def reject(
    given: bytes | None, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer 401; a websocket is closed before it opens."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await problem_response(unauthorized(given))(scope, receive, send)


def unauthorized(given: bytes | None) -> ProblemError:
    """Return a 401 with the challenge of RFC 6750."""
    if given is None:
        detail, challenge = "Send a key: `Authorization: Bearer …`.", "Bearer"
    else:
        detail, challenge = "The key is unknown.", 'Bearer error="invalid_token"'
    return ProblemError(UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})


def document_keys(document: dict[str, Any]) -> None:
    """Add the security scheme and the 401 responses to an OpenAPI document."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[SCHEME] = {"type": "http", "scheme": "bearer"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path in PUBLIC - {"/"} and method.upper() in READS:
                continue
            # In addition to what a route of yours asks for.
            others = operation.get("security", [{}])
            operation["security"] = [{SCHEME: [], **other} for other in others]
            operation["responses"]["401"] = documented(401)[401]


def main(arguments: list[str]) -> int:
    """Create a key, print it with its entry, and return the exit code."""
    name = arguments[0] if arguments else ""
    if not _is_name(name):
        print(
            f"NAME={name!r} is not a valid name: use up to 63 of a-z, 0-9 and hyphens, "
            "as in `make key NAME=acme`.",
            file=sys.stderr,
        )
        return 2
    key = secrets.token_urlsafe(32)
    print(f"The key of {name}, shown this once (clients send it as a bearer token):\n")
    print(f"  {key}\n")
    print("Its entry in API_KEYS, or in the file /run/secrets/api_keys:\n")
    print(f"  {name}:{hash_key(key.encode()).hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
