"""API keys: who may use the engine, and whose requests belong together."""

import hmac
import os
import re
from collections.abc import Iterable
from hashlib import blake2b, sha256
from typing import Final, Self

from starlette.datastructures import Headers
from starlette.types import Scope

from engine.server.errors import ApiError

KEYS_VARIABLE: Final = "PHASE5_API_KEYS"


class KeysError(ValueError):
    """Keys that cannot guard an engine."""


class Keys:
    """The keys of an engine; without any, everyone may use it.

    Keys are kept and compared as digests of one length, each request with all of them, so
    that the time of an answer tells nothing of a key.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    @classmethod
    def from_environment(cls) -> Self:
        """The keys of `PHASE5_API_KEYS`, separated by commas or lines.

        Raises:
            KeysError: it is set and holds no key: an engine meant to be guarded would be open.
        """
        given = os.environ.get(KEYS_VARIABLE)
        keys = [key for part in re.split(r"[,\n]", given or "") if (key := part.strip())]
        if given is not None and not keys:
            raise KeysError(f"{KEYS_VARIABLE} is set and holds no key; unset it to serve everyone")
        return cls(keys)

    @property
    def guard(self) -> bool:
        """Whether a key is needed."""
        return bool(self._digests)

    def tenant(self, scope: Scope) -> str:
        """Whose request this is: a short digest of the key, or without keys the address.

        Raises:
            ApiError: 401 for a missing or unknown key.
        """
        if not self.guard:
            client = scope.get("client")
            return str(client[0]) if client else ""
        key = _bearer(Headers(scope=scope).get("authorization", ""))
        if not self._known(key):
            raise ApiError(
                status=401,
                message="this engine needs one of its API keys as the bearer token",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return blake2b(key, digest_size=8).hexdigest()

    def _known(self, key: bytes) -> bool:
        given = sha256(key).digest()
        # All of them: to stop at the first that fits would tell which one it was.
        return sum(hmac.compare_digest(given, digest) for digest in self._digests) > 0


def _bearer(header: str) -> bytes:
    scheme, _, token = header.partition(" ")
    # Starlette reads headers as Latin-1; these are the bytes that came.
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
