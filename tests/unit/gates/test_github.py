"""How a step speaks: whatever stands in a value, it stays in that value."""

import os
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates import github
from gates.github import GithubError, Level, add_summary, annotate, plain, set_output

TEXTS = st.text() | st.sampled_from(
    [
        "a\nverdict=promote",
        "x\nEOF\nverdict=promote",
        "::error::no\n##[error]no",
        "%0A::x::",
        "\r\n",
    ]
)


def outputs(path: Path) -> dict[str, str]:
    """The file of outputs as the runner reads it."""
    found, lines = {}, path.read_bytes().decode().split(os.linesep)
    while lines and (head := lines.pop(0)):
        name, _, delimiter = head.partition("<<")
        end = lines.index(delimiter)
        found[name] = os.linesep.join(lines[:end])
        lines = lines[end + 1 :]
    return found


@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_an_output_holds_its_value_and_sets_no_other(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("outputs") / "file"
    path.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_OUTPUT", str(path))
        for number, text in enumerate(texts):
            set_output(f"name-{number}", text)
    assert outputs(path) == {f"name-{number}": text for number, text in enumerate(texts)}


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a=b", "a<<b", "1a"])
def test_a_name_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(GithubError, match="allowed"):
        set_output(name, "x")


def test_without_a_file_nothing_is_printed_in_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
    with pytest.raises(GithubError, match="names no file"):
        set_output("verdict", "promote")
    assert capsys.readouterr().out == ""


@given(message=TEXTS, title=TEXTS, file=TEXTS)
def test_an_annotation_is_one_command(message: str, title: str, file: str) -> None:
    import io
    from contextlib import redirect_stdout

    with redirect_stdout(io.StringIO(newline="")) as said:
        annotate(Level.ERROR, message, title=title, file=file, line=3)
    (line,) = said.getvalue().removesuffix(os.linesep).split("\n")
    head, _, told = line.removeprefix("::").partition("::")
    assert head.split(" ")[0] == "error"
    assert told.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%") == message


def test_an_annotation_without_a_place_has_no_empty_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    annotate(Level.NOTICE, "fine", line=3)
    annotate(Level.WARNING, "look", title="t", file="a,b.py", line=3)
    assert capsys.readouterr().out.splitlines() == [
        "::notice::fine",
        "::warning title=t,file=a%2Cb.py,line=3::look",
    ]


@given(TEXTS)
def test_plain_text_is_one_line_without_markup(text: str) -> None:
    found = plain(text)
    assert len(found.splitlines()) <= 1
    assert "<" not in found
    for mark in "|`[*_":
        assert found.count(mark) == found.count(f"\\{mark}")


def test_a_summary_ends_at_what_github_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.setattr(github, "SUMMARY_BYTES", 300)
    add_summary("# one")
    add_summary("ä" * 400)
    text = path.read_bytes().decode()
    assert text.startswith("# one\nää")
    assert "ends at 1 MiB" in text
    assert len(text.encode()) <= 300
    add_summary("no more")
    assert len(path.read_bytes()) <= 300


def test_a_measured_program_gets_none_of_the_steps_rights() -> None:
    given = {"GITHUB_OUTPUT": "f", "INPUT_TOKEN": "t", "GITHUB_TOKEN": "t", "PATH": "p"}
    assert github.without_ours(given) == {"PATH": "p"}


def test_nothing_between_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with github.commands_stopped():
        sys.stdout.write("::set-output name=a::b\n")
    first, middle, last = capsys.readouterr().out.splitlines()
    token = first.removeprefix("::stop-commands::")
    assert (len(token), middle, last) == (32, "::set-output name=a::b", f"::{token}::")


def test_our_tests_are_not_shadowed_by_those_of_the_toolkit() -> None:
    """actions-toolkit installs a package `tests`, which an import by name would find."""
    root = Path(__file__).resolve().parents[3]
    theirs = [file for file in files("actions-toolkit") or () if file.parts[0] == "tests"]
    assert theirs
    assert __name__ == "tests.unit.gates.test_github"
    assert [Path(path) for path in sys.modules["tests"].__path__] == [root / "tests"]


def test_loading_it_does_not_load_the_toolkits_client() -> None:
    """`actions_toolkit.github` edits sys.path when it is imported."""
    code = (
        "import sys; before = list(sys.path); from actions_toolkit import core; "
        "import gates.github, gates.actions.gate, gates.actions.apply; "
        "print('actions_toolkit.github' in sys.modules, 'tests' in sys.modules, sys.path == before)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "True"]
