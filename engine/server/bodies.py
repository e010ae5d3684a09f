"""JSON bodies, read strictly: whatever cannot be understood in one way only is refused.

The decoder of the standard library, not a faster one, since it lets us see a name that is
given twice and the field that holds a number or text which cannot be.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec

from engine.server.errors import ApiError, bad_request

Kind = TypeVar("Kind", bound=msgspec.Struct)

#: The deepest request that we take has 4 levels: body, messages, message, part. The rest is
#: for parameters that are only looked at to be refused.
MAX_DEPTH: Final = 32
#: Longer integers fit no number that a field may hold; Python takes long to convert them.
_MAX_DIGITS: Final = 20
#: Below this, a floating-point number is the integer that was written.
_EXACT: Final = 2**53


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a request's body.

    Raises:
        ApiError: 400. Code `invalid_json` when it is no JSON object; otherwise with the field:
            a name given twice, a number that is not finite, text that is no text, or too
            many levels.
    """
    try:
        document = json.loads(
            body.decode(),
            object_pairs_hook=_without_duplicates,
            parse_int=_integer,
            parse_float=_number,
        )
    except UnicodeDecodeError as error:
        raise _not_json(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _not_json(f"{error.msg} (character {error.pos})") from None
    except RecursionError:
        raise _not_json(f"more than {MAX_DEPTH} levels") from None
    if not isinstance(document, dict):
        raise bad_request("the body must be a JSON object", code="invalid_json")
    for path, fault in _faults(document):
        raise bad_request(f"{path}: {fault}", path, "invalid_value")
    return document


def converted(document: dict[str, Any], kind: type[Kind]) -> Kind:
    """A body as the class that tells its fields.

    Raises:
        ApiError: 400 that names the field.
    """
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None


def _explained(message: str) -> ApiError:
    """A validation message of msgspec as an error with its field, such as `messages[0].role`."""
    text, _, path = message.partition(" - at `$")
    field = path.removesuffix("`").lstrip(".")
    named = re.search(r"(?:unknown field|missing required field) `(.+)`", text)
    if named:
        field = f"{field}.{named[1]}" if field else named[1]
    return bad_request(f"{field}: {text}" if field else text, field or None, "invalid_value")


def _not_json(reason: str) -> ApiError:
    return bad_request(f"the body is not JSON: {reason}", code="invalid_json")


def _without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in members:
        if name in document:
            raise bad_request(
                f"{_shown(name)} is given twice in one object", _shown(name), "invalid_value"
            )
        document[name] = value
    return document


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _number(text: str) -> float:
    """JSON has one kind of number: 4.0 is 4."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _faults(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Paths of values that no field may hold. Without recursion: depth is up to the client."""
    todo: list[tuple[str, int, Any]] = [("", 1, document)]
    while todo:
        path, depth, value = todo.pop()
        if isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                yield path.partition(".")[0].partition("[")[0], f"more than {MAX_DEPTH} levels"
            todo += ((name, depth + 1, item) for name, item in _members(path, value))
        elif isinstance(value, float) and not math.isfinite(value):
            yield path, "the number is not finite, or too large"
        elif isinstance(value, str) and (fault := _text_fault(value)):
            yield path, fault


def _members(path: str, value: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    """What needs a look: integers and truth values can do no harm, and prompts hold many."""
    if isinstance(value, list):
        yield from (
            (f"{path}[{index}]", item)
            for index, item in enumerate(value)
            if not isinstance(item, int)
        )
        return
    for name, item in value.items():
        if _text_fault(name):
            yield _shown(name), name
        yield f"{path}.{name}" if path else name, item


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "the text holds a null character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "the text holds half of a surrogate pair"
    return None


def _shown(name: str) -> str:
    """A name that came from outside, as it may stand in an answer."""
    return name.encode(errors="backslashreplace").decode()
