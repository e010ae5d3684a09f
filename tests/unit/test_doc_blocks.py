"""Every code block of the documentation is run or says why not, and says what is so either way.

Examples of files are read here; scripts and Python are run by `test_doc_pages.py`, with an engine.
"""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import doc_claims
import doc_commands
import pytest
from doc_blocks import RUN, SHORTEST_REASON, SHOWN, Block, bare, blocks, blocks_of, pages

SHELL = blocks("bash", "console")
PYTHON = blocks("python")
FILES = blocks("yaml", "json", "toml")
#: A command between backticks, in a sentence or a table.
INLINE = re.compile(r"`(?:\./dev run )?(phase5 [a-z][^`]*)`")


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_a_block_has_a_language_and_a_reason_where_it_is_not_run(block: Block) -> None:
    assert block.language in (*RUN, *SHOWN), f"{block}: allowed: {', '.join((*RUN, *SHOWN))}"
    assert block.not_run is None or len(block.not_run) >= SHORTEST_REASON


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_every_mark_stands_before_a_block(path: Path) -> None:
    text = path.read_text("utf-8")
    marks = re.findall(r"^ *<!-- (?:not run|exits)\b", bare(text), re.MULTILINE)
    assert len(marks) == sum(b.not_run is not None or b.exits != 0 for b in blocks_of(text))


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_the_commands_of_a_block_are_ones_that_there_are(block: Block) -> None:
    assert list(doc_commands.problems(block)) == []


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_a_command_in_a_sentence_exists_with_its_options(path: Path) -> None:
    assert list(inline_problems(path.read_text("utf-8"))) == []


def inline_problems(text: str) -> Iterator[str]:
    """What is wrong with the commands between the backticks of a page; names may stand alone."""
    for found in INLINE.finditer(bare(text)):
        words = found[1].replace("|", " ").split()
        problem = doc_commands.phase5_problem(words[1:], whole=False)
        if problem:
            yield f"{found[1]}: {problem}"


@pytest.mark.parametrize("block", [block for block in FILES if block.runs], ids=str)
def test_an_example_of_a_file_is_read_by_what_reads_such_files(
    block: Block, tmp_path: Path
) -> None:
    doc_claims.check(block, tmp_path)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles_and_imports_what_is_there(block: Block) -> None:
    compile(block.text, str(block), "exec")
    for module, name in imported(block.text):
        assert hasattr(importlib.import_module(module), name), f"{block}: {module} has no {name}"


def imported(text: str) -> Iterator[tuple[str, str]]:
    """Each module of ours that a script imports from, and the name that it wants of it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, name.name) for name in node.names)


def test_python_that_is_run_has_no_name_from_elsewhere(tmp_path: Path) -> None:
    for index, block in enumerate(block for block in PYTHON if block.runs):
        (tmp_path / f"block_{index}.py").write_text(f"# {block}\n{block.text}", "utf-8")
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F", "--no-cache"]
    done = subprocess.run([*ruff, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_pages_name_the_commands_that_move_a_rollout() -> None:
    text = "\n".join(path.read_text("utf-8") for path in pages())
    named = set(re.findall(r"phase5 ([a-z]+)", text))
    assert {"status", "promote", "rollback", "hold", "resume", "approve"} <= named


PAGE = """\
Some words.

<!-- not run: it needs a fleet of
     a hundred engines -->
```bash
phase5 status
```

1. A list:

    <!-- exits: 10 -->
    ```bash
    phase5 gate judge
    ```

```text
anything
```
"""


def test_a_mark_belongs_to_the_block_behind_it() -> None:
    first, second, third = blocks_of(PAGE)
    assert (first.not_run, first.runs) == ("it needs a fleet of a hundred engines", False)
    assert (second.text, second.exits, second.runs) == ("phase5 gate judge\n", 10, True)
    assert (third.language, third.runs) == ("text", False)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("phase5 status --watch", None),
        ("phase5 rollback --reason WHY", None),
        ("FOO=1 phase5 plan canary --rate 5   # in a comment: phase5 nothing", None),
        ("./dev run phase5 load list | tail -1", None),
        ("./dev gate --phase5-model tiny", None),
        ("python -m pytest --phase5-gate=canary \\\n  --phase5-flags=off", None),
        ("curl --anything http://127.0.0.1", None),
        ("phase5 serve --prot 0", "there is no option --prot"),
        ("phase5 stauts", "there is no command 'stauts'"),
        ("cd x && phase5 gate judgement", "there is no command 'judgement'"),
        ("phase5 plan canary", "Missing option"),
        ("phase5 plan canary --rate much", "Invalid value for '--rate'"),
        ("phase5 status of-what", "unexpected extra argument"),
        ("./dev tset", "no command 'tset'"),
        ("./dev run phase5 loda", "there is no command 'loda'"),
        ("pytest --phase5-gates=canary", "no option ['--phase5-gates']"),
        ("python -m engine.haporxy", "there is no module"),
        ("python tests/performance/bench_nothing.py", "there is no tests/"),
        ("phase5 'status", "unexpected EOF"),
    ],
)
def test_commands_are_held_against_the_programs(line: str, problem: str | None) -> None:
    found = list(doc_commands.problems(Block("page", 1, "bash", line)))
    assert (found == []) if problem is None else (problem in found[0])


def test_a_console_is_what_stands_behind_its_prompts() -> None:
    block = Block("page", 1, "console", "$ phase5 models list\ntiny  cached at ...\n")
    assert doc_commands.script(block) == "phase5 models list"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("yaml", "server: {prot: 8080}"),
        ("yaml", "criteria: {error_rate: {limit: 0.1 cm}}"),
        ("yaml", "stages: {canary: {enter: [unheard_of]}}"),
        ("yaml", "some: {file: of others}"),
        ("yaml", "- uses: actions/checkout@v5\n  wiht: {}"),
        ("yaml", "on: push\njobs: {a: {steps: []}}"),
        ("yaml", "scrape_configs: [{job: x}]"),
        ("yaml", "groups: [{name: a, rules: [{alert: x, expr: 'sum('}]}]"),
        ("json", '{"verdict": "promote", "criteria": []}'),
        ("json", "{'a': 1}"),
        ("toml", "[tool.pytest.ini_options]\nphase5_gates = 'canary'"),
    ],
)
def test_an_example_that_would_not_load_is_found(language: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r".+"):  # whatever the reader raises
        doc_claims.check(Block("page", 1, language, text), tmp_path)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("yaml", "server: {port: 8080}"),
        ("yaml", "criteria: {error_rate: {limit: 0.2 %}}"),
        ("yaml", "- run: echo 1"),
        ("yaml", "groups: [{name: a, rules: [{alert: x, expr: 'up == 0'}]}]"),
        ("json", '{"any": ["thing"]}'),
        ("toml", "[tool.pytest.ini_options]\nphase5_model = 'tiny'"),
    ],
)
def test_an_example_that_loads_is_fine(language: str, text: str, tmp_path: Path) -> None:
    doc_claims.check(Block("page", 1, language, text), tmp_path)
