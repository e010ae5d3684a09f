"""What the API answers when it does not answer: OpenAI's error object with a status."""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from engine.server.documents import ErrorAnswer, Problem

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "overloaded_error",
    504: "timeout_error",
    507: "storage_error",
}


# Not frozen, since Python writes the traceback into it; compared by identity, as exceptions are.
@dataclass(kw_only=True, eq=False)
class ApiError(Exception):
    """An answer other than success.

    Attributes:
        status: the HTTP status.
        message: says what was given and what is allowed.
        param: the field of the request that is wrong, where one is.
        code: a short machine-readable name.
        retry_after: whole seconds for `Retry-After`.
        shed: turned away by load while a replica was ready; not counted as an error.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: int | None = None
    shed: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The error object as JSON."""
        return msgspec.json.encode(
            ErrorAnswer(
                error=Problem(
                    message=self.message,
                    type=_TYPES.get(self.status, "invalid_request_error"),
                    param=self.param,
                    code=self.code,
                )
            )
        )

    def event(self) -> bytes:
        """The error object as a server-sent event, for a response that has begun."""
        return b"data: " + self.body() + b"\n\n"

    def all_headers(self) -> dict[str, str]:
        """Headers of the answer, `Retry-After` among them where it applies."""
        retry = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return {**self.headers, **retry}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Status 400 with the field named."""
    return ApiError(status=400, message=message, param=param, code=code)
