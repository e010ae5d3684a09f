"""A project in a scratch folder, in which the blocks of a page are run as a reader would."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from doc_blocks import ROOT, Block, blocks
from doc_commands import script

#: Where the pages say that the engine is.
DOCUMENTED: Final = "127.0.0.1:8080"

#: Seconds after which a block is stopped: far above what any may take.
LONGEST: Final = 60.0

#: `./dev run` of a checkout, for a project that is none.
_DEV: Final = '#!/bin/sh\n[ "$1" = run ] || exit 64\nshift\nexec "$@"\n'

#: Python that pytest has to run: it defines a test, a fixture or a hook.
_FOR_PYTEST: Final = re.compile(r"^def (test|pytest)_|^@pytest\.", re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """A folder, and the engine that its configuration names."""

    folder: Path
    address: str  #: HOST:PORT

    def __post_init__(self) -> None:
        dev = self.folder / "dev"
        dev.write_text(_DEV, "utf-8")
        dev.chmod(0o755)

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
            return self._python(block, text)
        return self._shell(block, text)

    def _shell(self, block: Block, text: str) -> str:
        commands = script(Block(block.page, block.line, block.language, text))
        status, said = self._process(["bash", "-euo", "pipefail", "-c", commands])
        assert status == block.exits, f"{block} ended with {status}, not {block.exits}:\n{said}"
        if block.language == "console":
            missing = unsaid(text, said)
            assert missing is None, f"{block}: {missing!r} did not come out, in its place:\n{said}"
        return said

    def _python(self, block: Block, text: str) -> str:
        path = self.folder / f"test_block_{block.line}.py"
        path.write_text(text, "utf-8")
        command = [sys.executable, "-P", str(path)]
        if _FOR_PYTEST.search(text):
            options = ["--quiet", "-p", "no:cacheprovider", "--phase5-model=tiny"]
            command = [sys.executable, "-m", "pytest", *options, str(path)]
        status, said = self._process(command)
        assert status == block.exits, f"{block} ended with {status}, not {block.exits}:\n{said}"
        return said

    def _process(self, command: list[str]) -> tuple[int, str]:
        """The status of a process and its words; whatever it left behind is ended."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with (self.folder / ".said").open("w+", encoding="utf-8") as said:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, "PATH": path, "COLUMNS": "200"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(LONGEST)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            said.seek(0)
            return status, said.read()


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
