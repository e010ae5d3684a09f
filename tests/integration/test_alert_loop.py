"""A real engine's flag breaks, the real alert fires, and ends when it is mended.

The rules are the written ones with windows of an hour shortened to 12 s.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from monitored import prometheus
from probe import body, eventually
from rollout_parts import PHASE5, Running, flawed, phase5, started
from served import PATIENCE

from engine.config import packaged

ROOT = Path(__file__).resolve().parents[2]
FLAG = "ttft_pipeline"
#: An hour in 12 s, five minutes in one: four scrapes and evaluations.
SCALE = 1 / 300
#: Half of the streams of a flag fail. With this limit 21 answers are enough to say so: as many
#: come on the slowest machine.
LIMIT = "1 %"
#: Requests at once.
CLIENTS = 4

FAST = "Phase5ErrorBudgetBurnsFast"


@dataclass
class Loop:
    """All parts, running."""

    server: str
    guard: Running
    broken: Path

    def firing(self, name: str) -> list[dict[str, Any]]:
        """Alerts of a name that fire now."""
        answer = httpx.get(f"{self.server}/api/v1/alerts", timeout=PATIENCE).json()
        return [
            alert
            for alert in answer["data"]["alerts"]
            if alert["labels"]["alertname"] == name and alert["state"] == "firing"
        ]


def policy() -> str:
    document = yaml.safe_load(packaged("gates.yaml").read_text("utf-8"))
    document["criteria"]["live_error_rate"]["limit"] = LIMIT
    return yaml.safe_dump(document)


@contextmanager
def pressed(url: str) -> Iterator[None]:
    """Requests of ever other clients, one after the other, until the block ends."""
    over, numbers = Event(), count()

    def press() -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            while not over.is_set():
                key = {"X-Phase5-Key": f"client {next(numbers)}"}
                client.post("/v1/completions", content=body("Where is Paris?", 1), headers=key)

    with ThreadPoolExecutor(CLIENTS) as pool:
        pressing = [pool.submit(press) for _ in range(CLIENTS)]
        try:
            yield
        finally:
            over.set()
    for each in pressing:
        each.result()


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    folder = tmp_path_factory.mktemp("loop")
    broken = folder / "broken"
    # No stage has this share: somebody's hand.
    share = f"phase4_rollout: {{{FLAG}: {{enabled: true, rollout_percentage: 40}}}}\n"
    with ExitStack() as stack:
        engine = stack.enter_context(flawed(folder / "engine", FLAG, broken, share))
        config = folder / "runtime.yaml"
        config.write_text(f"rollout: {json.dumps({'engines': [engine.url]})}\n")
        config.with_name("gates.yaml").write_text(policy())
        watch = [*PHASE5, "watch", "--config", str(config), "--poll-seconds", "1"]
        guard = stack.enter_context(started(watch, folder / "guard.log"))
        rules = folder / "rules"
        done, said = phase5(
            *("monitoring", str(rules), "--config", str(config), "--window-scale", f"{SCALE}"),
            *("--guard", urlsplit(guard.url).netloc),
        )
        assert done == 0, said
        server = stack.enter_context(prometheus(folder / "data", config=rules / "prometheus.yml"))
        stack.enter_context(pressed(engine.url))
        yield Loop(server, guard, broken)


def resolves(link: str) -> bool:
    """Whether a page has the section that a link names, by its heading."""
    path, _, anchor = link.partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    return anchor in {heading.lower() for heading in headings}


def test_a_flag_that_breaks_is_told_of_until_it_is_mended(loop: Loop) -> None:
    # It was raised by hand, which is the first thing to hear of; nothing else is wrong.
    eventually(lambda: bool(loop.firing("Phase5UnmanagedRaise")), "a raise by hand is told")
    assert loop.firing(FAST) == []

    loop.broken.touch()
    eventually(lambda: bool(loop.firing(FAST)), "the alert fires")
    eventually(
        lambda: FLAG in {alert["labels"]["flag"] for alert in loop.firing(FAST)},
        "it names the flag",
    )
    alert = next(each for each in loop.firing(FAST) if each["labels"]["flag"] == FLAG)
    told = alert["annotations"]
    assert told["command"] == f"phase5 rollback --flag {FLAG} --reason WHY"
    assert re.search(rf"\d% of the answers of \dh are errors \(flag: {FLAG}\)", told["summary"])
    assert "times the limit of 1 %" in told["description"]
    assert resolves(told["runbook_url"])

    loop.broken.unlink()
    eventually(lambda: not loop.firing(FAST), "the alert ends")


def test_a_guard_that_was_killed_is_missed(loop: Loop) -> None:
    eventually(lambda: not loop.firing("Phase5GuardAbsent"), "the guard is scraped")
    loop.guard.kill()
    eventually(lambda: bool(loop.firing("Phase5GuardAbsent")), "its absence is told")
    (alert,) = loop.firing("Phase5GuardAbsent")
    assert (alert["labels"]["severity"], alert["annotations"]["command"]) == (
        "page",
        "phase5 watch",
    )
    assert resolves(alert["annotations"]["runbook_url"])
