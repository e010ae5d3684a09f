"""Command lines of the documentation, held against the programs that they call."""

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any, Final

import typer
from doc_blocks import ROOT, Block

from pytest_phase5.cli import app
from pytest_phase5.options import _OPTIONS

#: What stands for something of the reader's: WHY, COMMIT@CONFIG, HOST:PORT, ...
_PLACEHOLDER: Final = re.compile(r"(?:\.\.\.|[^a-z]*[A-Z][^a-z]*)")
_ENDS: Final = frozenset("();<>|&\n")


def script(block: Block) -> str:
    """What a shell is given: of a console, what stands behind its prompts."""
    if block.language != "console":
        return block.text
    return "\n".join(line[2:] for line in block.text.splitlines() if line.startswith(("$ ", "> ")))


def problems(block: Block) -> Iterator[str]:
    """What is wrong with the commands of a block."""
    text = script(block)
    checked = subprocess.run(
        ["bash", "-n"], input=text, capture_output=True, text=True, check=False
    )
    if checked.returncode:
        yield checked.stderr.strip()
        return
    for words in commands(text):
        problem = problem_of(words)
        if problem:
            yield f"{shlex.join(words)}: {problem}"


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a script, word by word; comments and here-documents left out."""
    text = re.sub(r"<<-?\s*'?(\w+)'?(.*?)\n.*?^\s*\1$", r"\2", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    text = re.sub(r"(^|\s)#(\s.*)?$", r"\1", text, flags=re.MULTILINE)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="".join(sorted(_ENDS)))
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    words: list[str] = []
    for word in lexer:
        if set(word) <= _ENDS:
            if words:
                yield words
            words = []
        elif words or not re.match(r"\w+=", word):
            words.append(word)
    if words:
        yield words


def problem_of(words: Sequence[str]) -> str | None:
    """Why a program of ours would not take these words; None where it would, or is not ours."""
    program, *rest = words
    if program == "phase5":
        return phase5_problem(rest)
    if program == "./dev":
        return _dev_problem(rest)
    if program.rpartition("/")[2] in {"python", "python3"}:
        return _python_problem(rest)
    return _pytest_problem(rest) if program == "pytest" else None


def phase5_problem(words: Sequence[str], *, whole: bool = True) -> str | None:
    """Why `phase5` would call this a usage error, had it been called so.

    Of words that are not the `whole` line, as in a sentence, only the names count.
    """
    command: Any = typer.main.get_command(app)
    rest, name = list(words), "phase5"
    while rest and hasattr(command, "commands"):
        name = rest.pop(0)
        if name in {"--help", "--version"}:
            return None
        if name not in command.commands:
            return f"there is no command {name!r}"
        command = command.commands[name]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    for word in rest:
        if word.startswith("--") and word.partition("=")[0] not in known:
            return f"there is no option {word}"
    if not whole or any(_PLACEHOLDER.fullmatch(word.partition("=")[2] or word) for word in rest):
        return None  # its options are there; the reader puts in what it is about
    return _refused(command, name, rest)


def _refused(command: Any, name: str, words: list[str]) -> str | None:
    """What typer says of the words, without calling the command."""
    try:
        command.make_context(name, words)
    except Exception as error:  # noqa: BLE001 - typer's own click and the other have no common class
        said = getattr(error, "format_message", None)
        return said() if said else None  # without one: `--help` was asked for
    return None


def _dev_problem(words: Sequence[str]) -> str | None:
    listed = re.findall(r"^\./dev (\w+)", (ROOT / "dev").read_text("utf-8"), re.MULTILINE)
    if words and words[0] not in listed:
        return f"./dev has no command {words[0]!r}"
    if words[:1] == ["run"]:
        return problem_of(words[1:])
    return _pytest_problem(words[1:]) if words[:1] == ["gate"] else None


def _python_problem(words: Sequence[str]) -> str | None:
    words = [word for word in words if word != "-P"]
    if words[:2] == ["-m", "pytest"]:
        return _pytest_problem(words[2:])
    if words[:1] == ["-m"]:
        found = importlib.util.find_spec(words[1])
        return None if found else f"there is no module {words[1]}"
    ours = words and words[0].startswith(("tests/", "docs/", ".github/"))
    return f"there is no {words[0]}" if ours and not (ROOT / words[0]).exists() else None


def _pytest_problem(words: Sequence[str]) -> str | None:
    known = {f"--phase5-{option.name}" for option in _OPTIONS}
    given = {word.partition("=")[0] for word in words if word.startswith("--phase5")}
    return f"pytest has no option {sorted(given - known)}" if given - known else None
