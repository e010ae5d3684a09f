"""The OpenAPI document, made from the classes that read requests and write answers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from engine import __version__
from engine.server.documents import ErrorAnswer

Schema = dict[str, Any]

_JSON: Final = "application/json"
_SCHEMAS: Final = "#/components/schemas/{name}"

#: What each status means here, whatever the route.
_MEANINGS: Final = {
    200: "Done.",
    400: "The request is wrong; `param` names the field.",
    401: "A key or token is missing, or is not one of this engine.",
    403: "Administration answers only on loopback while it has no token.",
    404: "No such model.",
    413: "The body is over `server.max_body_bytes`.",
    422: "Prompt and output do not fit into the model's context.",
    429: "No place, and the queue is full: come back after `Retry-After`.",
    500: "A fault of the engine; other requests go on.",
    503: "No replica is ready, or the engine stops: come back after `Retry-After`.",
    504: "The deadline passed.",
    507: "It holds in memory, but not across a restart: the state folder cannot be written.",
}
_HEADERS: Final = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}

_SCHEMES: Final = {
    "api_key": {"type": "http", "scheme": "bearer", "description": "One of `PHASE5_API_KEYS`."},
    "admin": {"type": "http", "scheme": "bearer", "description": "`PHASE5_ADMIN_TOKEN`."},
}


class OpenApi(msgspec.Struct, frozen=True, kw_only=True):
    """The document itself."""

    openapi: str = "3.1.0"
    info: Schema
    paths: dict[str, Schema]
    components: Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route as the document tells of it.

    Attributes:
        answer: class of the body of an answer that is no error; None for plain text.
        body: class of the request's body.
        body_required: whether a request without one is wrong.
        events: class of each event, where the answer may be streamed.
        unready: the status of the same answer when the engine does not live or is not ready.
        errors: statuses that have the error object.
        secured: by which scheme, when the engine has such keys.
    """

    method: Literal["GET", "POST"]
    path: str
    summary: str
    answer: type[msgspec.Struct] | None
    body: type[msgspec.Struct] | None = None
    body_required: bool = True
    events: type[msgspec.Struct] | None = None
    unready: int | None = None
    errors: tuple[int, ...] = ()
    secured: Literal["api_key", "admin"] | None = None

    @property
    def route(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"

    def classes(self) -> Iterator[type[msgspec.Struct]]:
        """Every class that the document must describe."""
        yield from filter(None, (self.answer, self.body, self.events))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What depends on the model that is served."""

    model: str
    context_length: int  #: tokens of prompt and answer
    vocab_size: int  #: tokens that there are


def document(operations: Sequence[Operation], schemes: frozenset[str], limits: Limits) -> OpenApi:
    """The document of an engine; `schemes` are those that guard it."""
    classes = {cls for operation in operations for cls in operation.classes()} | {ErrorAnswer}
    _, schemas = msgspec.json.schema_components(
        sorted(classes, key=lambda cls: cls.__name__), ref_template=_SCHEMAS
    )
    for operation in operations:
        if operation.body is not None:
            schemas[operation.body.__name__]["properties"] |= _narrowed(operation.body, limits)
    return OpenApi(
        info={
            "title": "phase5",
            "version": __version__,
            "description": "An LLM serving engine with OpenAI's API.",
        },
        paths=_paths(operations, schemes),
        components={
            "schemas": schemas,
            "securitySchemes": {name: _SCHEMES[name] for name in sorted(schemes)},
        },
    )


def _narrowed(body: type[msgspec.Struct], limits: Limits) -> Schema:
    """Fields whose allowed values the model decides, or that no annotation can tell."""
    count = {"type": "integer", "minimum": 1, "maximum": limits.context_length - 1}
    text = {"type": "string", "minLength": 1}
    token = {"type": "integer", "minimum": 0, "maximum": limits.vocab_size - 1}
    tokens = {"type": "array", "items": token, "minItems": 1}
    one = {"type": "array", "items": {"anyOf": [text, tokens]}, "minItems": 1, "maxItems": 1}
    fields = {
        "model": {"type": "string", "enum": [limits.model]},
        "max_tokens": {"anyOf": [count, {"type": "null"}], "default": None},
        "max_completion_tokens": {"anyOf": [count, {"type": "null"}], "default": None},
        "prompt": {"anyOf": [text, tokens, one]},
    }
    return {name: told for name, told in fields.items() if name in body.__struct_fields__}


def _paths(operations: Iterable[Operation], schemes: frozenset[str]) -> dict[str, Schema]:
    paths: dict[str, Schema] = {}
    for operation in operations:
        told = paths.setdefault(operation.path, {})
        told[operation.method.lower()] = _operation(operation, schemes)
    return paths


def _operation(operation: Operation, schemes: frozenset[str]) -> Schema:
    told: Schema = {
        "operationId": operation.route.lower().replace(" ", "").replace("/", "_"),
        "summary": operation.summary,
        "responses": _responses(operation, schemes),
    }
    if operation.body is not None:
        content = {_JSON: _content(operation.body)}
        told["requestBody"] = {"required": operation.body_required, "content": content}
    if operation.secured in schemes:
        told["security"] = [{operation.secured: []}]
    return told


def _responses(operation: Operation, schemes: frozenset[str]) -> Schema:
    answer = _answer(operation)
    told = {"200": {"description": _MEANINGS[200], "content": answer}}
    if operation.unready is not None:
        told[str(operation.unready)] = {"description": "Not so.", "content": answer}
    for status in operation.errors:
        if status != 401 or operation.secured in schemes:  # noqa: PLR2004 - HTTP's own number
            told[str(status)] = _error(status)
    return told


def _answer(operation: Operation) -> Schema:
    if operation.answer is None:
        return {"text/plain": {"schema": {"type": "string"}}}
    told = {_JSON: _content(operation.answer)}
    if operation.events is not None:
        told["text/event-stream"] = {"schema": _event(operation.events)}
    return told


def _event(chunk: type[msgspec.Struct]) -> Schema:
    """Each event of a stream, as OpenAPI 3.1 tools read them: the data is text that holds JSON."""
    objects = [_content(cls)["schema"] for cls in (chunk, ErrorAnswer)]
    data = {
        "type": "string",
        "contentMediaType": _JSON,
        "contentSchema": {"anyOf": objects},
    }
    return {
        "description": "With `stream`: chunks, then `[DONE]`; or an error where it fails.",
        "type": "object",
        "properties": {"data": {"anyOf": [data, {"const": "[DONE]"}]}},
        "required": ["data"],
    }


def _error(status: int) -> Schema:
    told: Schema = {
        "description": _MEANINGS[status],
        "content": {_JSON: _content(ErrorAnswer)},
    }
    if name := _HEADERS.get(status):
        told["headers"] = {name: {"required": True, "schema": {"type": "string"}}}
    return told


def _content(cls: type[msgspec.Struct]) -> Schema:
    return {"schema": {"$ref": _SCHEMAS.format(name=cls.__name__)}}
