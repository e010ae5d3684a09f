"""JSON files that say what they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, schema: str, document: Mapping[str, Any]) -> None:
    """Write a JSON object under its schema, at once or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"schema": schema, **document}), encoding="utf-8")
    partial.rename(path)


def check_schema(given: Any, allowed: str) -> None:
    """Refuse a file of another schema.

    Raises:
        ValueError: naming both.
    """
    if given != allowed:
        raise ValueError(f"schema {given!r}; allowed: {allowed!r}")
