"""The blocks of each page are run, one after the other, as a reader would run them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from doc_blocks import ROOT, Block, pages
from doc_project import Project, scripts, unsaid
from made_up_gate import judged
from served import alive, serving, until

from pytest_phase5.init import init

#: Pages with a test of their own: the tutorial's reader, and the runbooks' fleets.
ELSEWHERE = {"docs/phase5/tutorial.md"} | {
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
AUTHOR = ("-c", "user.name=A Reader", "-c", "user.email=reader@example.org")


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
            for command in (
                ["init", "-q", "-b", "main"],
                ["add", "config", "tests"],
                ["commit", "-qm", "Begin"],
            ):
                subprocess.run(["git", *AUTHOR, "-C", str(folder), *command], check=True)
            yield folder, served.url.removeprefix("http://")


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_do_what_they_say(
    page: str, template: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = template
    with Project(shutil.copytree(folder, tmp_path / "project"), address) as project:
        for block in scripts(page):
            project.run(block)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project(tmp_path, "host:1") as project:
        yield project


def shell(text: str, *, exits: int = 0) -> Block:
    return Block("page", 1, "bash", text, exits=exits)


def python(text: str, *, line: int) -> Block:
    return Block("page", line, "python", text)


def test_a_block_that_fails_anywhere_fails(project: Project) -> None:
    with pytest.raises(AssertionError, match="ended with 1, not 0"):
        project.run(shell("false | true\ntrue"))


def test_a_block_ends_as_it_says(project: Project) -> None:
    project.run(shell("exit 10", exits=10))
    with pytest.raises(AssertionError, match="ended with 0, not 10"):
        project.run(shell("true", exits=10))


def test_a_block_goes_on_where_the_one_before_ended(project: Project) -> None:
    project.run(shell("mkdir x && cd x\nNAME=y\nsleep 600 &"))
    assert project.run(shell("basename $PWD; echo $NAME; kill %1")) == "x\ny\n"


def test_a_block_is_given_the_engine_and_what_a_reader_puts_in(project: Project) -> None:
    block = shell("./dev run echo http://127.0.0.1:8080/v1/status WHY")
    assert project.run(block, {"WHY": "x"}) == "http://host:1/v1/status x\n"


def test_what_a_block_leaves_running_is_ended(tmp_path: Path) -> None:
    with Project(tmp_path, "host:1") as project:
        pid = int(project.run(shell("sleep 600 & echo $!")))
    until(lambda: not psutil.pid_exists(pid) or not alive(psutil.Process(pid)))


def test_python_is_run_by_what_it_is_for(project: Project) -> None:
    assert project.run(python("print(6 * 7)", line=1)) == "42\n"
    assert "1 passed" in project.run(python("def test_it(): pass", line=2))
    with pytest.raises(AssertionError, match="unknown hook 'pytest_phase5_verdikt'"):
        project.run(python("def pytest_phase5_verdikt(): pass", line=3))


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
