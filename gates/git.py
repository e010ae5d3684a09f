"""Git's command line: argument lists, a time limit for each command, no shell, no questions."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Seconds for a command. Those that stay on this machine take milliseconds; a fetch or a push of a
#: few lines that takes longer than the guard's interval has failed for our purpose.
SECONDS: Final = 15.0

#: Seconds for the first fetch, which may bring the whole history of a project.
FIRST_SECONDS: Final = 300.0

#: No housekeeping in the background: a clone of a few files needs none.
_QUIET: Final = ("-c", "gc.auto=0", "-c", "maintenance.auto=false")

#: What would lead a command to another repository than the one that it is given.
_LOCAL: Final = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
)

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+@")


#: How Git answers no.
_NO: Final = 1


class GitError(RuntimeError):
    """A command that failed or took too long; the message says why, without credentials.

    Attributes:
        status: of the command; None when it was stopped, or never ran.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def redacted(text: str) -> str:
    """A text without the credentials of URLs."""
    return _CREDENTIALS.sub("", text)


class Repository:
    """A bare repository in a folder of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make it where it is missing, and take away the locks of commands that were killed.

        The caller sees to it that no other process of ours uses it.

        Raises:
            GitError: it cannot be made.
        """
        if not (self.folder / "HEAD").exists():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            make = ["git", "init", "--quiet", "--bare", "--template=", str(self.folder)]
            _run(make, {}, b"", SECONDS)
        for left in (*self.folder.glob("*.lock"), *self.folder.glob("refs/**/*.lock")):
            left.unlink(missing_ok=True)

    def run(
        self,
        *arguments: str,
        given: bytes = b"",
        seconds: float = SECONDS,
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        """The output of a command.

        Raises:
            GitError: it failed, or took longer than `seconds`.
        """
        command = ["git", f"--git-dir={self.folder}", *_QUIET, *arguments]
        return _run(command, environment or {}, given, seconds)

    def asks(self, *arguments: str) -> bool:
        """Whether a command that answers by its status says yes.

        Raises:
            GitError: it says neither yes nor no.
        """
        try:
            self.run(*arguments)
        except GitError as error:
            if error.status != _NO:
                raise
            return False
        return True

    def line(
        self,
        *arguments: str,
        given: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """The one line that a command prints."""
        return self.run(*arguments, given=given, environment=environment).decode().strip()

    def blobs(self, *names: str) -> list[bytes | None]:
        """The contents of files, such as `COMMIT:PATH`; None for one that is not there."""
        answer = self.run("cat-file", "--batch", given="".join(f"{n}\n" for n in names).encode())
        found: list[bytes | None] = []
        for name in names:
            head, _, answer = answer.partition(b"\n")
            if head == f"{name} missing".encode():
                found.append(None)
                continue
            size = int(head.split()[-1])
            found.append(answer[:size])
            answer = answer[size + 1 :]
        return found


def _run(command: list[str], environment: Mapping[str, str], given: bytes, seconds: float) -> bytes:
    # A session of its own: helpers that git starts hold its pipes, and end with it.
    try:
        process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise GitError(f"git cannot be started: {error.strerror}") from error
    with process:
        try:
            out, err = process.communicate(given, timeout=seconds)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise GitError(f"git {_verb(command)}: no answer in {seconds:g} s") from error
            raise
    if process.returncode:
        reason = _reason(err, process.returncode)
        raise GitError(f"git {_verb(command)}: {reason}", process.returncode)
    return out


def _environment(further: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    quiet = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    return {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes", **own, **quiet, **further}


def _verb(command: list[str]) -> str:
    parts = (part for part in command[1:] if not part.startswith("-") and part not in _QUIET)
    return next(parts)


def _reason(err: bytes, status: int) -> str:
    """The lines that say what went wrong, as one."""
    lines = [line.strip() for line in err.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("hint:")]
    return redacted("; ".join(telling[:3])) or f"status {status}"
