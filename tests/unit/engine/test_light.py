import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine.runtime.light import NAMES, NoTokenizer


def sources(*parts: str) -> list[Path]:
    """Files of the installed mlx-lm, found without importing it."""
    spec = find_spec("mlx_lm")
    assert spec is not None
    assert spec.origin is not None
    return sorted(Path(spec.origin).parent.joinpath(*parts[:-1]).glob(parts[-1]))


def taken_from_transformers(source: Path) -> Iterator[tuple[str, str]]:
    """The (module, name) pairs that a file imports from transformers, anywhere in it."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transformers"):
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from ((name, "") for name in names if name.startswith("transformers"))


def test_the_stand_ins_cover_what_generation_imports() -> None:
    wanted = {
        pair
        for source in sources("*.py")
        if source.stem in {"generate", "tokenizer_utils", "utils", "sample_utils"}
        for pair in taken_from_transformers(source)
    }
    given = {(module, name) for module, names in NAMES.items() for name in names}
    assert wanted == given


def test_no_model_of_mlx_lm_needs_transformers() -> None:
    models = sources("models", "*.py")
    assert len(models) > 50
    assert [file.name for file in models if list(taken_from_transformers(file))] == []


def test_the_runtime_process_never_loads_the_real_one() -> None:
    code = (
        "from engine.runtime.light import leave_out_transformers\n"
        "leave_out_transformers()\n"
        "import sys, engine.runtime.serving\n"
        "print(sorted(name for name in sys.modules if name.startswith('transformers')))"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(sorted(NAMES))


def test_a_stand_in_that_is_used_says_why_it_cannot_be() -> None:
    with pytest.raises(RuntimeError, match="the runtime process has no tokenizer"):
        NoTokenizer("a path")
