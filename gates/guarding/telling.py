"""Telling people: one webhook, in the format that its address asks for.

The address is of `rollout.webhook`, and of the two variables that engines use as well. It may be
a secret, so it is never logged. Everything is told at least once: what a receiver did not take is
sent again at the next poll. The log and the guard's metrics tell in any case.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from gates.guarding.next_step import next_step
from gates.guarding.situation import Tell

ALERTMANAGER: Final = "PHASE5_ALERTMANAGER_URL"
SLACK: Final = "PHASE5_SLACK_URL"

#: For an address that is a secret, in place of `rollout.webhook`.
WEBHOOK: Final = "PHASE5_WEBHOOK_URL"

#: Whatever the guard tells of, somebody has to look at it.
SEVERITY: Final = "page"

#: A receiver that takes longer is tried again at the next poll; nothing waits for it.
TIMEOUT_SECONDS: Final = 5.0

#: Until when an Alertmanager believes what is not heard of again: a guard that dies ends nothing.
EXPIRES: Final = timedelta(hours=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that began or ended."""

    tell: Tell
    store: str  #: which rollout it is about
    began: datetime
    ended: datetime | None = None

    @property
    def text(self) -> str:
        """In a sentence."""
        return f"{self.tell.ended}: {self.tell.text}" if self.ended else self.tell.text

    @property
    def lines(self) -> str:
        """With what to do about it, while it lasts."""
        step = next_step(self.tell)
        return self.text if self.ended else f"{self.text}\nnext: {step.command} ({step.runbook})"


def plain(notes: Sequence[Note]) -> dict[str, Any]:
    """For a receiver of one's own, and for Slack, which reads `text`."""
    return {
        "text": "\n".join(note.lines for note in notes),
        "notes": [
            {
                "key": note.tell.key,
                "severity": SEVERITY,
                "text": note.tell.text,
                "next": next_step(note.tell).command,
                "runbook": next_step(note.tell).runbook,
                "store": note.store,
                "began": note.began.isoformat(),
                "ended": note.ended.isoformat() if note.ended else None,
            }
            for note in notes
        ],
    }


def slack(notes: Sequence[Note]) -> dict[str, Any]:
    """For an incoming webhook of Slack, which refuses what it does not know."""
    return {"text": "\n".join(f"{note.lines} (store {note.store})" for note in notes)}


def alertmanager(notes: Sequence[Note]) -> list[dict[str, Any]]:
    """The body of `POST /api/v2/alerts`."""
    return [
        {
            "labels": {
                "alertname": "Phase5Rollout",
                "what": note.tell.key,
                "severity": SEVERITY,
                "store": note.store,
            },
            "annotations": {
                "summary": note.tell.text,
                "next": next_step(note.tell).command,
                "runbook": next_step(note.tell).runbook,
            },
            "startsAt": note.began.isoformat(),
            "endsAt": (note.ended or note.began + EXPIRES).isoformat(),
        }
        for note in notes
    ]


Body = Callable[[Sequence[Note]], Any]


def receivers(webhook: str | None, environment: Mapping[str, str] = os.environ) -> dict[str, Body]:
    """Where to tell, and in which format; an address that is given twice is told once."""
    found: dict[str, Body] = {}
    for address in filter(None, (webhook, environment.get(WEBHOOK))):
        found[address] = alertmanager if address.endswith("/api/v2/alerts") else plain
    for name, body in ((ALERTMANAGER, alertmanager), (SLACK, slack)):
        if environment.get(name):
            found[environment[name]] = body
    return found


@dataclass(slots=True)
class Telling:
    """Owns what people were told: each condition once when it begins and once when it ends."""

    store: str
    receivers: Mapping[str, Body]
    began: dict[str, Note] = field(default_factory=dict)  #: what they know, by its key

    def due(self, present: Sequence[Tell], now: datetime) -> list[Note]:
        """What began or ended since people were told last."""
        keys = {tell.key for tell in present}
        new = [
            Note(tell=tell, store=self.store, began=now)
            for tell in present
            if tell.key not in self.began
        ]
        over = [
            Note(tell=note.tell, store=self.store, began=note.began, ended=now)
            for key, note in self.began.items()
            if key not in keys
        ]
        return [*new, *over]

    def told(self, notes: Sequence[Note]) -> None:
        """People know."""
        for note in notes:
            if note.ended:
                self.began.pop(note.tell.key, None)
            else:
                self.began[note.tell.key] = note

    async def send(self, notes: Sequence[Note]) -> list[str]:
        """Send notes to every receiver; why it failed, without the address, where it did."""
        failed = []
        for number, (address, body) in enumerate(self.receivers.items(), start=1):
            why = await _post(address, body(notes))
            if why:
                failed.append(f"receiver {number} {why}")
        if not failed:
            self.told(notes)
        return failed

    def dump(self) -> dict[str, Any]:
        """What people know, for the next guard."""
        return {
            key: {
                "ended": note.tell.ended,
                "text": note.tell.text,
                "began": note.began.isoformat(),
            }
            for key, note in self.began.items()
        }

    def load(self, known: Mapping[str, Any]) -> None:
        """What the last guard told. What cannot be read is told again."""
        for key, entry in known.items():
            try:
                tell = Tell(key=key, text=entry["text"], ended=entry["ended"])
                began = datetime.fromisoformat(entry["began"])
            except (KeyError, TypeError, ValueError):
                continue
            self.began[key] = Note(tell=tell, store=self.store, began=began)


async def _post(address: str, body: Any) -> str:
    """Why it failed; empty when it was taken."""
    import httpx

    # Making a client reads the certificates of the machine, which takes half a second.
    async with await asyncio.to_thread(httpx.AsyncClient, timeout=TIMEOUT_SECONDS) as client:
        try:
            answer = await client.post(address, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"cannot be reached: {type(error).__name__}"
    return "" if answer.is_success else f"answered {answer.status_code}"
