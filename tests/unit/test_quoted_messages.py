"""Messages that the troubleshooting page quotes are messages that the code has."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "phase5" / "configuration" / "troubleshooting.md"
QUOTED = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
#: Stands for what differs, on the page and in the texts of the code.
GAP = "..."


@cache
def texts() -> tuple[str, ...]:
    """Every literal text of the packages, with a gap where a value goes."""
    packages = ("engine", "gates", "chaos", "pytest_phase5")
    files = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    return tuple(text for file in files for text in literals(file.read_text(encoding="utf-8")))


def literals(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def is_said(message: str, said: tuple[str, ...]) -> bool:
    """Whether one text has the parts of a message that do not differ, in order."""
    parts = [part.strip() for part in message.split(GAP) if part.strip(" :;,.()")]
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    return any(pattern.search(text) for text in said)


def test_the_page_quotes_messages() -> None:
    assert len(QUOTED) > 20
    assert len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_one_that_the_code_has(message: str) -> None:
    assert is_said(message, texts())


def test_a_message_that_nobody_says_is_found_out() -> None:
    assert not is_said("the flux of ... is reversed", texts())
    assert not is_said("port ... cannot listen on", ("cannot listen on ... port ...",))
