"""The runbooks, step by step, each beside a real engine that it is about.

What a page cannot be given, three minutes of gate, is replaced by a verdict about the same engine
with numbers that are made up.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from doc_blocks import Block
from doc_project import Page, Project
from made_up_gate import judged
from receiver import Receiver, receiving
from served import PATIENCE, Served, serving, until

from pytest_phase5.init import init

FLAG = "ttft_pipeline"
RUNBOOKS = "docs/phase5/runbooks"


@dataclass
class Site:
    """A project, the engine that it names, and what its guard tells."""

    project: Project
    served: Served
    told: Receiver

    def run(self, text: str, exits: int = 0) -> str:
        """What somebody else types, on no page."""
        return self.project.run(Block("nobody's page", 0, "bash", text, exits=exits))

    @property
    def config(self) -> Path:
        """The configuration, which is the store as well."""
        return self.project.folder / "config" / "runtime.yaml"

    def judge(self, *flags: str) -> None:
        """A verdict into canary, in place of a gate."""
        report = self.project.folder / "phase5-report"
        judged(report, self.config, self.served.status(), *flags)

    def effective(self) -> float:
        """The share that the engine serves of the flag."""
        share: float = self.flag()["effective"]
        return share

    def flag(self) -> dict[str, Any]:
        """The flag, as the engine shows it."""
        document: Any = self.served.status()
        flag: dict[str, Any] = document["flags"][FLAG]
        return flag

    def barred(self) -> list[str]:
        """The candidates that the store does not let in."""
        document = json.loads(self.run("phase5 status --json"))
        barred: list[str] = document["flags"][FLAG]["tombstones"]
        return barred

    def wait_until_told(self, words: str) -> None:
        """Wait until the guard has told this."""
        until(lambda: any(words in body["text"] for body in self.told.got.get("/told", [])))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("PHASE5_COMMIT", "c0ffee")
    (tmp_path / "engine").mkdir()
    (tmp_path / "project").mkdir()
    with receiving() as told, serving(tmp_path / "engine", flags=None) as served:
        init(tmp_path / "project")
        rollout = {
            "engines": [served.url],
            "approval": ["canary"],
            "webhook": f"{told.url}/told",
        }
        config = tmp_path / "project" / "config" / "runtime.yaml"
        config.write_text(f"generation: 0\nrollout: {json.dumps(rollout)}\n", "utf-8")
        with Project(tmp_path / "project", served.url.removeprefix("http://")) as project:
            yield Site(project, served, told)


@pytest.fixture
def promoted(site: Site) -> Site:
    """One whose flag stands at canary."""
    site.judge(FLAG)
    site.run(f"phase5 approve --flag {FLAG} --reason 'a test' && phase5 promote --flag {FLAG}")
    assert site.effective() == 1.0
    return site


def test_the_rollout_procedure(site: Site) -> None:
    page = Page(f"{RUNBOOKS}/rollout-procedure.md")
    assert FLAG in site.project.run(page.next("phase5 status"))
    site.judge(FLAG)
    site.run(f"phase5 promote --flag {FLAG}", exits=1)  # not without the approval
    site.project.run(page.next("phase5 approve"))
    site.project.run(page.next("phase5 promote"))
    assert (site.effective(), site.flag()["stage"]) == (1.0, "canary")
    site.project.run(page.next("phase5 hold"))
    assert (site.effective(), site.flag()["held"]) == (1.0, None)  # and resumed
    site.run("phase5 rollback --reason 'the disk is full'")
    (candidate,) = site.barred()
    site.project.run(page.next("--clear"), {"COMMIT@CONFIG": candidate})
    assert site.barred() == []
    assert page.left == []


def test_the_rollback_procedure(promoted: Site) -> None:
    page = Page(f"{RUNBOOKS}/rollback-procedure.md")
    said = promoted.project.run(page.next("phase5 rollback --reason"))
    assert re.search(r"every engine at 0 % after \d+\.\d+ s", said)
    assert (promoted.effective(), promoted.flag()["cause"]) == (0.0, "manual")
    assert promoted.served.url in promoted.project.run(page.next("--dry-run"))
    promoted.project.run(page.next("curl"))
    assert promoted.flag()["braked"]
    (candidate,) = promoted.barred()
    assert candidate in promoted.project.run(page.next("phase5 status"))
    assert page.left == []


def test_the_monitoring_checklist(promoted: Site) -> None:
    page = Page(f"{RUNBOOKS}/monitoring-checklist.md")
    watch = page.next("phase5 watch")
    promoted.project.run(watch, {"--port 9105": "--port 0 --poll-seconds 0.5 >guard.log 2>&1 &"})
    url = ready(promoted.project.folder / "guard.log")
    text = (Path(__file__).parents[2] / watch.page).read_text("utf-8")
    named = set(re.findall(r"phase5_guard_\w+", text))
    until(lambda: polled(url))
    shown = metrics(url)
    assert [name for name in named if f"# TYPE {name} " not in shown] == []
    assert "phase5_lease_expires_seconds" in metrics(promoted.served.url)
    promoted.run("kill %1; wait %1 || true")
    once = page.next("phase5 watch --once")
    assert page.left == []
    promoted.run("phase5 rollback --reason 'the watch is over'")
    promoted.project.run(once)


def metrics(url: str) -> str:
    """What a program shows to Prometheus."""
    with urlopen(f"{url}/metrics", timeout=PATIENCE) as answer:  # noqa: S310 - our own process
        text: str = answer.read().decode()
        return text


def polled(url: str) -> bool:
    """Whether a guard has read the store, whose generation the promotion has raised."""
    return re.search(r"^phase5_guard_generation [1-9]", metrics(url), re.MULTILINE) is not None


def ready(log: Path) -> str:
    """The address in the first line of a guard in the background."""
    until(lambda: "ready http" in read(log))
    return read(log).partition("ready ")[2].split()[0]


def read(log: Path) -> str:
    """What a command in the background has said; its shell makes the file when it comes to it."""
    return log.read_text("utf-8") if log.exists() else ""


def test_the_incident_response(promoted: Site) -> None:
    """Somebody brakes the engine by hand; then a second guard comes, and the engine goes."""
    page = Page(f"{RUNBOOKS}/incident-response.md")
    promoted.run("phase5 watch --poll-seconds 0.5 >guard.log 2>&1 &")
    url = ready(promoted.project.folder / "guard.log")
    until(lambda: polled(url))
    (curl,) = (b for b in Page(f"{RUNBOOKS}/rollback-procedure.md").left if "curl" in b.text)
    promoted.project.run(curl)
    assert (promoted.effective(), promoted.flag()["braked"]) == (0.0, True)
    promoted.wait_until_told(f"rollback of {FLAG} (manual)")
    until(
        lambda: "tombstones" in promoted.config.read_text("utf-8")
    )  # the guard has told the store
    (candidate,) = promoted.barred()
    assert candidate in promoted.project.run(page.next("phase5 status"))
    promoted.project.run(page.next("phase5 rollback"), {"WHY": "'clients suffer'"})
    told = {"COMMIT@CONFIG": candidate, "WHY": "'it was a test'"}
    promoted.project.run(page.next("phase5 resume"), told)
    assert (promoted.barred(), page.left) == ([], [])

    promoted.run("phase5 watch --poll-seconds 0.5 >second.log 2>&1 &")
    second = promoted.project.folder / "second.log"
    until(lambda: "another guard works here" in read(second))

    psutil.Process(promoted.served.process.pid).kill()
    promoted.wait_until_told(f"engine {promoted.served.url} does not answer")
