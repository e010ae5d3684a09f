"""What goes to standard error: lines for a person, or one JSON object a line for a collector.

Neither form ever holds the message of an exception that was logged with its traceback, since
such a message may quote a prompt: where it happened and its type are enough to find it.
"""

import asyncio
import logging
import sys
import traceback
from contextvars import ContextVar
from copy import copy
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal

import msgspec

#: The request that this task serves; None outside of one.
REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request id", default=None)

#: One line for each request that generates, where lines are for a collector.
access: Final = logging.getLogger("engine.access")

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class TextFormatter(logging.Formatter):
    """For a person."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """Without the traceback that another handler may have written into the record."""
        own = copy(record)
        own.exc_text = None
        return super().format(own)

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's name
        """Where, not what."""
        return "" if ei[1] is None else where(ei[1])


class JsonFormatter(logging.Formatter):
    """For a collector. `fields` of a record become members of its object."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request_id := REQUEST_ID.get()) is not None:
            document["request_id"] = request_id
        document |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            document["exception"] = where(record.exc_info[1])
        return msgspec.json.encode(document).decode()


def where(error: BaseException) -> str:
    """The type of an exception and the lines that it came through, without its message."""
    lines = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__}\n{lines}".rstrip()


def configure() -> logging.Handler:
    """Let everything of ours, and warnings of others, go to standard error, for a person."""
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    logging.getLogger("engine").setLevel(logging.INFO)
    set_format(handler, "text")
    return handler


def set_format(handler: logging.Handler, form: Literal["text", "json"]) -> None:
    """Write as `server.log_format` says."""
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    access.setLevel(logging.INFO if form == "json" else logging.WARNING)


def loop_fault(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's handler of exceptions: its own would print their messages."""
    error = context.get("exception")
    found = "" if error is None else f": {where(error)}"
    logging.getLogger("engine.server").error("%s%s", context["message"], found)
