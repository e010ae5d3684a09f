"""Arrivals from a file: recorded traffic, one request per line, as CSV or JSON lines.

Each line has `at`, the seconds from the start, and may have:

- `words`, `tokens`: sizes of prompt and answer, instead of those of the workload;
- `kind`: the class of the request;
- `leave_tokens` or `leave_seconds`: when the client leaves;
- `body` (JSON lines only): fields of the request's body, which replace those made here.

An empty field of CSV is an absent one. No prompt need be in the file: what is asked is made
as the workload has it.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pytest_phase5.load.plan import LeaveAfter, Request
from pytest_phase5.load.workload import Workload
from pytest_phase5.load.workload import requests as make_requests

_NUMBERS: Final[Mapping[str, type]] = {
    "at": float,
    "words": int,
    "tokens": int,
    "leave_tokens": int,
    "leave_seconds": float,
}
_FIELDS: Final = (*_NUMBERS, "kind", "body")


def read_trace(path: Path, workload: Workload, seed: int) -> tuple[tuple[float, Request], ...]:
    """Moments and requests of a trace, for `shaped.replayed`.

    Args:
        path: `.csv` with a header, or `.jsonl`.
        workload: what is asked where the trace does not say.
        seed: of the prompts.

    Raises:
        ValueError: for what is not a trace; it names file and line.
        OSError: when the file cannot be read.
    """
    calls: list[tuple[float, Request]] = []
    for number, line in _lines(path):
        where = f"{path.name}:{number}"
        try:
            at, request = _call(line, workload, seed, len(calls))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: {error}") from error
        if calls and at < calls[-1][0]:
            raise ValueError(f"{where}: at {at} is before {calls[-1][0]}; allowed: in order")
        calls.append((at, request))
    if not calls:
        raise ValueError(f"{path.name}: no request in it")
    return tuple(calls)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    readers = {".csv": _csv, ".jsonl": _json}
    if path.suffix not in readers:
        raise ValueError(f"{path.name}: suffix {path.suffix!r}; allowed: {', '.join(readers)}")
    return readers[path.suffix](path)


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            yield rows.line_num, {name: value for name, value in row.items() if value != ""}


def _json(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path.name}:{number}: not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{path.name}:{number}: {fields!r}; allowed: an object")  # noqa: TRY004 - a file's fault
        yield number, {name: value for name, value in fields.items() if value is not None}


def _call(line: dict[str, Any], workload: Workload, seed: int, place: int) -> tuple[float, Request]:
    strange = [name for name in line if name not in _FIELDS]
    if strange:
        raise ValueError(f"field {strange[0]!r}; allowed: {', '.join(_FIELDS)}")
    if "at" not in line:
        raise ValueError("no field 'at'")
    given = {
        name: _number(name, line[name], kind) for name, kind in _NUMBERS.items() if name in line
    }
    sizes: dict[str, Any] = {
        name: (int(given[name]),) * 2 for name in ("words", "tokens") if name in given
    }
    name = f"{workload.name}-{place}"  # each request its own prompt, wherever the trace is cut
    (made,) = make_requests(replace(workload, name=name, **sizes), 1, seed)
    body, kind = line.get("body", {}), line.get("kind")
    if kind is not None and not isinstance(kind, str):
        raise ValueError(f"kind {kind!r}; allowed: a name")
    if not isinstance(body, dict):
        raise ValueError(f"body {body!r}; allowed: an object")  # noqa: TRY004 - a file's fault
    return given["at"], replace(
        made,
        body={**made.body, **body},
        kind=made.kind if kind is None else kind,
        leave_after=_leaving(given) or made.leave_after,
    )


def _number(name: str, value: Any, kind: type) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError  # noqa: TRY301 - one message for all that is no number
        number: float = kind(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} {value!r}; allowed: {_ALLOWED[kind]}") from None
    # A fraction in JSON would lose its end.
    if not 0 <= number < float("inf") or (isinstance(value, float) and number != value):
        raise ValueError(f"{name} {value!r}; allowed: {_ALLOWED[kind]}")
    return number


_ALLOWED: Final[Mapping[type, str]] = {
    int: "a whole number, zero or more",
    float: "a number, zero or more",
}


def _leaving(given: Mapping[str, Any]) -> LeaveAfter | None:
    tokens, seconds = given.get("leave_tokens"), given.get("leave_seconds")
    if tokens is None and seconds is None:
        return None
    return LeaveAfter(tokens=tokens, seconds=seconds)
