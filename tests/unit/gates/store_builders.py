"""Small builders of standings, records and stores."""

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gate_builders import policy

from engine.core.flags import FLAGS
from gates.file_store import FileStore
from gates.git_store import CONFIG_FILE, GitStore
from gates.history import Record
from gates.stages import OFF, UNMANAGED, Event
from gates.standing import Standing, candidate
from gates.store import Snapshot, Store
from gates.transitions import moved

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOUND = candidate("c0ffee", "ab" * 32)
OTHER = candidate("facade", "ab" * 32)
GOVERNOR, HTTP2, PIPELINE, QOS = FLAGS

#: The two example configurations of the requirements, with comments of an operator's.
EXAMPLES = Path(__file__).parents[1] / "examples"
MINIMAL = (EXAMPLES / "canary.yaml").read_text(encoding="utf-8")
PRODUCTION = (EXAMPLES / "production.yaml").read_text(encoding="utf-8")


def at(stage: str, **changes: Any) -> Standing:
    """A flag that stands at a stage, with its share, since some epochs."""
    shares = {OFF: 0.0, UNMANAGED: 7.0} | {n: s.percentage for n, s in policy().stages.items()}
    standing = Standing(
        stage=stage,
        enabled=stage != OFF,
        percentage=shares[stage],
        entered_at=NOW,
        epoch=3,
        salt="salt",
    )
    return replace(standing, **changes)


def record(event: Event, reason: str = "a reason") -> Record:
    """What a test writes into a history."""
    return Record(event=event, reason=reason, who="a test", at=NOW)


def step(
    store: Store, event: Event, *flags: str, before: Snapshot | None = None, **given: Any
) -> Snapshot:
    """Read a store, move flags, write it."""
    before = before or store.read()
    given = {"now": NOW, "candidate": SOUND, "reason": "a reason", **given}
    after = moved(policy(), before.flags, flags or (GOVERNOR,), event, **given)
    return store.write(before, after, record(event))


def names(folder: Path) -> list[str]:
    """What stands in a folder."""
    return sorted(path.name for path in folder.iterdir())


def file_store(folder: Path, text: str = MINIMAL, **options: Any) -> FileStore:
    """A store in a new file."""
    path = folder / "runtime.yaml"
    path.write_text(text, encoding="utf-8")
    return FileStore(path, policy(), **options)


def git(*arguments: str | Path, given: str | None = None) -> str:
    """The output of a command of Git."""
    ours = ("-c", "user.name=operator", "-c", "user.email=operator@localhost")
    command = ["git", *ours, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, input=given)
    return done.stdout.strip()


def remote(folder: Path, text: str = MINIMAL) -> Path:
    """A bare repository with a configuration on its branch `main`."""
    bare = folder / "remote.git"
    git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", bare)
    start = (
        "commit refs/heads/main\ncommitter operator <operator@localhost> 0 +0000\n"
        f"data 5\nstart\nM 100644 inline {CONFIG_FILE}\ndata {len(text.encode())}\n{text}\n"
    )
    git(f"--git-dir={bare}", "fast-import", "--quiet", given=start)
    return bare


def clone(bare: Path) -> Path:
    """A person's clone beside it, up to date."""
    work = bare.with_name("work")
    if not work.exists():
        git("clone", "--quiet", "--template=", bare, work)
    git("-C", work, "pull", "--quiet", "--ff-only")
    return work


def push(work: Path) -> None:
    """Commit and push all that a person changed in a clone."""
    git("-C", work, "add", "--all")
    git("-C", work, "commit", "--quiet", "--message=by hand")
    git("-C", work, "push", "--quiet")


def git_store(bare: Path, place: Path, **options: Any) -> GitStore:
    """A store on that branch, as another machine would have it."""
    place.mkdir(exist_ok=True)
    return GitStore(str(bare), "main", place / "runtime.yaml", policy(), **options)
