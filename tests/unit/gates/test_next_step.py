"""What the guard tells ends with a command and a page, for every kind of thing."""

import ast
from pathlib import Path

import pytest

from gates.guarding.next_step import STEPS, next_step
from gates.guarding.situation import Tell

ROOT = Path(__file__).resolve().parents[3]


def kinds() -> set[str]:
    """The first word of every key that the guard's code makes."""
    tree = ast.parse((ROOT / "gates/guarding/concerns.py").read_text("utf-8"))
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value == "store"}
    heads = {
        node.values[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        and isinstance(node.values[0], ast.Constant)
        and str(node.values[0].value).endswith(":")
    }
    return {str(text).rstrip(":") for text in texts | heads}


def test_every_kind_has_a_step_and_no_step_is_left_over() -> None:
    assert kinds() == set(STEPS)


@pytest.mark.parametrize("kind", STEPS)
def test_the_page_of_a_step_exists(kind: str) -> None:
    step = next_step(Tell(key=f"{kind}:x", text=""))
    assert (ROOT / step.runbook).is_file()
    assert step.command.startswith("phase5 ")


def test_a_kind_that_nobody_wrote_down_is_an_error() -> None:
    with pytest.raises(KeyError, match="new"):
        next_step(Tell(key="new:x", text=""))
