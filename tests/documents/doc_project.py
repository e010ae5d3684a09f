"""A project in a scratch folder, in which the blocks of a page are run as a reader would."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from doc_blocks import ROOT, Block, blocks
from doc_commands import script

#: Where the pages say that the engine is.
DOCUMENTED: Final = "127.0.0.1:8080"

#: Seconds after which a block is stopped: far above what any may take. A whole gate takes
#: minutes, and is only run as the page has it when everything is run in full.
LONGEST: Final = 1_200.0 if os.environ.get("PHASE5_FULL") else 60.0

#: `./dev run` of a checkout, for a project that is none.
_DEV: Final = '#!/bin/sh\n[ "$1" = run ] || exit 64\nshift\nexec "$@"\n'

#: Python that pytest has to run.
_TESTS: Final = re.compile(r"^(async )?def test_", re.MULTILINE)
#: Python that belongs into a `conftest.py`: fixtures or hooks, and no test.
_FOR_CONFTEST: Final = re.compile(r"^def pytest_|^@pytest\.", re.MULTILINE)

#: What the shell of a page does for each block; behind it stands the status that is meant.
_STEP: Final = ". ./.block </dev/null; echo 0 >&{0}\n"
_STEP_THAT_FAILS: Final = "set +e; (set -e; . ./.block) </dev/null; echo $? >&{0}; set -e\n"


class Project:
    """A folder, the engine that its configuration names, and the one shell of its reader.

    So a folder that a block enters, a variable that it sets and a process that it leaves in the
    background are there for the next block. At the end of the `with`, all of it ends.
    """

    def __init__(self, folder: Path, address: str) -> None:
        """Take a folder and the HOST:PORT of the engine."""
        self.folder = folder
        self.address = address
        dev = folder / "dev"
        dev.write_text(_DEV, "utf-8")
        dev.chmod(0o755)

    def __enter__(self) -> Self:
        """Start the shell."""
        self._said = (self.folder / ".said").open("w+", encoding="utf-8")
        self._statuses, self._pipe = os.pipe()
        self._shell = subprocess.Popen(
            ["bash", "-euo", "pipefail"],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "COLUMNS": "200",
            },
            stdin=subprocess.PIPE,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            pass_fds=[self._pipe],
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End the shell and whatever it left running."""
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        assert self._shell.stdin is not None
        with suppress(BrokenPipeError):
            self._shell.stdin.close()
        self._said.close()
        os.close(self._pipe)
        os.close(self._statuses)

    def run(self, block: Block, given: Mapping[str, str] | None = None) -> str:
        """Run a block and return what it said on both outputs.

        Args:
            block: of a shell or of Python.
            given: what a reader would put in, by the placeholder.

        Raises:
            AssertionError: it ended otherwise than its mark says, or said something else.
        """
        text = block.text
        for placeholder, value in (given or {}).items():
            assert placeholder in text, f"{block}: no {placeholder}"
            text = text.replace(placeholder, value)
        text = text.replace(DOCUMENTED, self.address)
        if block.language == "python":
            text = self._python(block, text)
        commands = script(replace(block, text=text))
        status, said = self._step(commands, block.exits)
        assert status == block.exits, f"{block} ended with {status}, not {block.exits}:\n{said}"
        if block.language == "console":
            missing = unsaid(text, said)
            assert missing is None, f"{block}: {missing!r} did not come out, in its place:\n{said}"
        return said

    def _python(self, block: Block, text: str) -> str:
        """The command that runs a script, or the tests in it."""
        folder = self.folder / f"block_{block.line}"
        folder.mkdir()
        path = folder / f"test_block_{block.line}.py"
        path.write_text(text, "utf-8")
        if _FOR_CONFTEST.search(text) and not _TESTS.search(text):
            path.rename(folder / "conftest.py")
            path.write_text("def test_it_is_accepted(): pass\n", "utf-8")
        elif not _TESTS.search(text):
            return f"python -P '{path}'"
        options = "-p phase5 -p no:cacheprovider --phase5-model=tiny"
        # Other plugins of the environment take seconds to start, and belong to no page.
        return f"PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python -m pytest --quiet {options} '{path}'"

    def _step(self, commands: str, exits: int) -> tuple[int, str]:
        """The status of some commands, and their words."""
        (self.folder / ".block").write_text(commands, "utf-8")
        before = self._said.seek(0, os.SEEK_END)
        step = (_STEP_THAT_FAILS if exits else _STEP).format(self._pipe)
        assert self._shell.stdin is not None
        self._shell.stdin.write(step.replace("./.block", f"'{self.folder}/.block'"))
        self._shell.stdin.flush()
        status = self._status()
        self._said.seek(before)
        return status, self._said.read()

    def _status(self) -> int:
        """What the shell says of its step; its own end, where the step ended it."""
        deadline = time.monotonic() + LONGEST
        while time.monotonic() < deadline:
            if select.select([self._statuses], [], [], 0.05)[0]:
                return int(os.read(self._statuses, 64))
            if self._shell.poll() is not None:
                return self._shell.returncode
        raise AssertionError(f"not done after {LONGEST:g} s")


def unsaid(console: str, said: str) -> str | None:
    """The first line of a console's output that did not come, in its order; None when all did."""
    rest = said
    for line in console.splitlines():
        if line.strip() and not line.startswith(("$ ", "> ")):
            pattern = ".*".join(map(re.escape, line.strip().split("...")))
            found = re.search(pattern, rest)
            if found is None:
                return line
            rest = rest[found.end() :]
    return None


@dataclass
class Page:
    """The blocks of a page that are still to be run, in their order."""

    name: str
    left: list[Block] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = list(scripts(self.name))

    def next(self, words: str) -> Block:
        """The next block, which has to contain these words."""
        block = self.left.pop(0)
        assert words in block.text, f"{block} comes next, without {words!r}"
        return block


def scripts(page: str) -> Iterator[Block]:
    """The blocks of a page that something has to run, as a process."""
    assert (ROOT / page).exists(), page
    for block in blocks("bash", "console", "python"):
        if block.page == page and block.runs:
            yield block
