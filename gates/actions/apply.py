"""The action `apply-stage`: a verdict moves the store, or nothing changes and the job is red.

With a Git store a move is one commit, pushed without force. A promotion is decided once, on what
its verdict saw: when others wrote meanwhile it is refused. A rollback is decided anew and tried
again until it is in.
"""

import io
import json
import os
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

from engine.core.flags import FLAGS
from gates.actions.deployments import note_promotion, note_rollback
from gates.actions.pushing import newest, pushing
from gates.actions.session import InputError
from gates.evidence import EvidenceError
from gates.exits import DONE, ERROR
from gates.fleet import base_url
from gates.github import GithubError, Level, add_summary, annotate, get_input, plain, set_output
from gates.moving import promoted_by
from gates.promote_cli import Order as Promotion
from gates.promote_cli import promote
from gates.rollback_cli import Order as Rollback
from gates.rollback_cli import rollback
from gates.stages import FULL
from gates.standing import Cause
from gates.verdict import Verdict, digest, from_json

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

#: Characters of a reason that the history keeps of a workflow's input.
_REASON: Final = 400


class RefusedError(Exception):
    """The move is not made. One line: the field, what was given, what is wanted."""


def apply() -> int:
    """Do what the inputs say; 0 when the store has it."""
    try:
        with pushing(get_input("token"), os.environ):
            return _applied()
    except (RefusedError, InputError, GithubError, EvidenceError, OSError, ValueError) as error:
        return _refuse(str(error))


def _applied() -> int:
    action = get_input("action")
    if action == "promote":
        return _promote()
    if action == "rollback":
        return _roll_back()
    raise InputError(f"action {action!r}; allowed: promote, rollback")


def _promote() -> int:
    path = Path(get_input("verdict", "phase5-report/verdict.json"))
    verdict = _whole(path, get_input("digest"))
    newest(os.environ)
    order = Promotion(
        config=_config(),
        verdict=path,
        flags=_flags() or _at_once(verdict),
        engines=_engines(),
        reason=_reason(),
        dry_run=get_input("dry_run", "false") != "false",
    )
    status, said = _told(lambda: promote(order, as_json=True))
    if status != DONE:
        raise RefusedError(said.get("error", f"promote ended with {status}"))
    moves = {flag: (step["from"], step["to"]) for flag, step in said["promoted"].items()}
    _report("promoted" if not order.dry_run else "would promote", moves, said)
    _warn_of_engines(
        {url: engine["reason"] for url, engine in said["engines"].items() if not engine["taken"]}
    )
    if not order.dry_run:
        note_promotion(get_input("token"), moves)
    return DONE


def _roll_back() -> int:
    """The store decides: where it has the rollback, the guard brings it to every engine."""
    order = Rollback(
        config=_config(),
        flags=_flags(),
        engines=_engines(),
        reason=_reason(),
        cause=Cause.VERDICT.value if get_input("digest") else Cause.MANUAL.value,
        dry_run=get_input("dry_run", "false") != "false",
    )
    status, said = _told(lambda: rollback(order, as_json=True))
    if order.dry_run:
        return status
    store = said.get("store", {})
    moves = {flag: (step["from"], step["to"]) for flag, step in store.get("flags", {}).items()}
    _report("rolled back", moves, {**said, **store})
    _warn_of_engines(
        {url: e["error"] for url, e in said.get("engines", {}).items() if not e["confirmed"]}
    )
    if store.get("error") or "store" not in said:
        raise RefusedError(f"store not written: {store.get('error') or said.get('error')}")
    note_rollback(get_input("token"), moves)
    return DONE


def _whole(path: Path, wanted: str) -> Verdict:
    """The verdict that the gate's job told of: its digest came by another way than the file.

    Raises:
        RefusedError, EvidenceError, OSError: it is another one, or none.
    """
    if not _DIGEST.fullmatch(wanted):
        raise RefusedError(f"digest: given {wanted!r}, wanted 64 hexadecimal digits")
    text = path.read_bytes().decode(errors="replace")
    if digest(text) != wanted:
        raise RefusedError(f"digest: given a verdict of {digest(text)}, wanted {wanted}")
    return from_json(text, str(path))


def _at_once(verdict: Verdict) -> tuple[str, ...]:
    """What a verdict promotes; of those that it brings to full the first, one a day."""
    chosen = [flag for flag in FLAGS if flag in promoted_by(verdict)]
    last = [flag for flag in chosen if verdict.transition["each"][flag]["to"] == FULL]
    return tuple(flag for flag in chosen if flag not in last[1:])


def _told(command: Callable[[], int]) -> tuple[int, dict[str, Any]]:
    """Run a command that prints one JSON object; its status, and the object."""
    with redirect_stdout(io.StringIO()) as said:
        status = command()
    found: dict[str, Any] = json.loads(said.getvalue())
    return status, found


def _report(done: str, moves: dict[str, tuple[str, str]], said: dict[str, Any]) -> None:
    lines = [f"{flag}: {origin} -> {target}" for flag, (origin, target) in moves.items()]
    where = f"store {said['where'] if 'where' in said else said.get('store')}"
    generation = said.get("generation")
    text = "; ".join(lines) or "nothing to change"
    add_summary(f"## phase5: {done}\n\n{plain(text)}\n\n{plain(f'{where}: {generation}')}")
    annotate(Level.NOTICE, f"{text} ({where}: generation {generation})", title=f"phase5: {done}")
    if said.get("unrecorded"):
        annotate(Level.WARNING, f"history not written: {said['unrecorded']}", title="phase5")
    set_output("moved", ",".join(moves))
    set_output("generation", str(generation))


def _warn_of_engines(missing: dict[str, str | None]) -> None:
    for url, reason in missing.items():
        message = f"{url} has not confirmed, the guard will bring it there: {reason}"
        annotate(Level.WARNING, message, title="phase5")


def _refuse(reason: str) -> int:
    text = " ".join(reason.split())
    annotate(Level.ERROR, text, title="phase5: refused")
    add_summary(f"## phase5: refused\n\n{plain(text)}")
    return ERROR


def _config() -> Path:
    path = Path(get_input("config", "config/runtime.yaml"))
    if not path.exists():
        raise InputError(f"config {str(path)!r}: there is no such file")
    return path


def _flags() -> tuple[str, ...]:
    names = tuple(dict.fromkeys(filter(None, re.split(r"[\s,+]+", get_input("flags")))))
    unknown = [name for name in names if name not in FLAGS]
    if unknown and names != ("all",):
        raise InputError(f"flags {unknown[0]!r}; allowed: all, {', '.join(FLAGS)}")
    return () if unknown else names


def _engines() -> tuple[str, ...]:
    return tuple(base_url(url) for url in get_input("engines").split())


def _reason() -> str:
    return " ".join(get_input("reason").split())[:_REASON]
