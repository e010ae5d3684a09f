"""The blocks of each page are run, one after the other, as a reader would run them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_blocks import ROOT, Block, pages
from doc_project import Project, scripts, unsaid
from made_up_gate import judged
from served import serving

from pytest_phase5.init import init

#: Pages whose steps have a fleet and a test of their own: see `test_runbook_steps.py`.
ELSEWHERE = {
    f"docs/phase5/runbooks/{name}.md"
    for name in (
        "rollout-procedure",
        "rollback-procedure",
        "monitoring-checklist",
        "incident-response",
        "store",
    )
}
PAGES = [
    page
    for page in (str(path.relative_to(ROOT)) for path in pages())
    if page not in ELSEWHERE and any(scripts(page))
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A project with a verdict, and the address of the engine that it names."""
    folder, engine = tmp_path_factory.mktemp("template"), tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHASE5_COMMIT", "c0ffee")
        with serving(engine, flags=None) as served:
            init(folder)
            config = folder / "config" / "runtime.yaml"
            config.write_text(f"generation: 0\nrollout: {{engines: [{served.url}]}}\n", "utf-8")
            judged(folder / "phase5-report", config, served.status())
            subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
            yield folder, served.url.removeprefix("http://")


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_do_what_they_say(
    page: str, template: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = template
    project = Project(shutil.copytree(folder, tmp_path / "project"), address)
    for block in scripts(page):
        project.run(block)


def shell(text: str, *, language: str = "bash", exits: int = 0) -> Block:
    return Block("page", 1, language, text, exits=exits)


def test_a_block_that_fails_anywhere_fails(tmp_path: Path) -> None:
    project = Project(tmp_path, "host:1")
    with pytest.raises(AssertionError, match="ended with 1, not 0"):
        project.run(shell("false | true\ntrue"))
    project.run(shell("exit 10", exits=10))
    with pytest.raises(AssertionError, match="ended with 0, not 10"):
        project.run(shell("true", exits=10))


def test_a_block_is_given_the_engine_and_what_a_reader_puts_in(tmp_path: Path) -> None:
    block = shell("./dev run echo http://127.0.0.1:8080/v1/status WHY")
    assert Project(tmp_path, "host:1").run(block, {"WHY": "x"}) == "http://host:1/v1/status x\n"


def test_what_a_block_leaves_running_is_ended(tmp_path: Path) -> None:
    said = Project(tmp_path, "host:1").run(shell("sleep 600 & echo $!"))
    assert not Path("/proc", said.strip(), "cmdline").exists() or _zombie(said.strip())


def _zombie(pid: str) -> bool:
    return Path("/proc", pid, "cmdline").read_bytes() == b""


def test_python_is_run_by_what_it_is_for(tmp_path: Path) -> None:
    project = Project(tmp_path, "host:1")
    assert project.run(shell("print(6 * 7)", language="python")) == "42\n"
    assert "1 passed" in project.run(shell("def test_it(): pass", language="python"))
    with pytest.raises(AssertionError, match="ended with 1"):
        project.run(shell("def test_it(): assert False", language="python"))


@pytest.mark.parametrize(
    ("console", "missing"),
    [
        ("$ x\none ... three\nfour", None),
        ("$ x\nfour\none ... three", "one ... three"),
        ("$ x\nfive", "five"),
    ],
)
def test_a_console_says_what_comes_out_in_its_order(console: str, missing: str | None) -> None:
    assert unsaid(console, "zero\none two three\nfour\n") == missing
