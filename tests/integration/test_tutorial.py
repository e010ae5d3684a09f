"""The tutorial is followed word by word, from its first block to its last.

What would take minutes is made smaller by keys and options that are documented; `PHASE5_FULL`
leaves the page as it is.
"""

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_blocks import Block
from doc_project import Page, Project

FULL = bool(os.environ.get("PHASE5_FULL"))

#: The steps of the page, by words of the block, and what has to come out of each.
PREPARED = [("phase5 doctor", r"MLX device +ok"), ("phase5 init", r"wrote config/gates\.yaml")]
FOLLOWED = [
    ("phase5 serve", r'"ready":true}\s+ready http'),
    ("user-11", r"x-phase5-flags: off"),
    ("tests/test_talk.py", r"1 passed"),
    ("--phase5-gate", r"verdict: promote"),
    ("phase5 gate verify", r"verified: promote"),
    ("phase5 promote", r"ttft_pipeline.*canary"),
    ("user-11", r"x-phase5-flags: ttft_pipeline"),
    ("phase5 rollback", r"every engine at 0 % after \d"),
    ("kill %1", r""),
]

#: A free port in place of 8080, which somebody else may have here.
PORT = "sed -i.bak 's/port: 8080/port: {}/' config/runtime.yaml"

#: A tenth of the requests, held against ten times the limit, without the packaged suite and so
#: without a real model; and without plugins of the developers' environment, which load for seconds.
SMALLER = r"""
printf '%s\n' '[pytest]' 'phase5_suite = false' \
  'addopts = -p no:locust -p no:asyncio -p no:schemathesis' > pytest.ini
sed -i.bak 's/^REQUESTS = 3_200/REQUESTS = 320/' tests/test_slo.py
sed -i.bak -e '/^  error_rate:/,/min_samples/ { s/0\.1 %/1 %/; s/2995/299/; }' \
  -e 's/enter: \[flag_sets.*/enter: [error_rate, tests_green]/' config/gates.yaml
sed -i.bak 's/model: smollm2-135m/model: tiny/' config/runtime.yaml
"""


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Project]:
    """Somebody in a clone."""
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / ".venv").symlink_to(sys.prefix)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with Project(clone, address) as project:
        yield project


def test_whoever_follows_the_tutorial_gets_from_a_clone_to_a_rollback(newcomer: Project) -> None:
    page = Page("docs/phase5/tutorial.md")
    for words, expected in PREPARED:
        step(newcomer, page.next(words), expected)
    newcomer.run(ours(PORT.format(newcomer.address.rpartition(":")[2])))
    if not FULL:
        newcomer.run(ours(SMALLER))
    for words, expected in FOLLOWED:
        step(newcomer, page.next(words), expected)
    assert page.left == []


def step(newcomer: Project, block: Block, expected: str) -> None:
    real = not FULL and "smollm2-135m" in block.text
    said = newcomer.run(block, {"smollm2-135m": "tiny"} if real else None)
    assert re.search(expected, said), f"{block}: {expected} did not come out:\n{said}"


def ours(commands: str) -> Block:
    return Block("this test", 0, "bash", commands)
