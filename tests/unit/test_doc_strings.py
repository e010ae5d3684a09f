"""Every public name is documented: errors, units, shapes, and whose method it is."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doc_blocks import ROOT
from doc_strings import (
    METHODS,
    bare,
    untold_errors,
    without_shape,
    without_source,
    without_unit,
)

MODULES = [
    path
    for package in ("engine", "gates", "chaos", "pytest_phase5", "docs/hooks")
    for path in sorted((ROOT / package).rglob("*.py"))
]
Check = Callable[[Path], Iterator[str]]
F = 'def f():\n    """F."""\n    '
A = 'class A:\n    """Raises BError."""\n    '
CHECKS = pytest.mark.parametrize("check", [bare, untold_errors, without_unit, without_shape])


@CHECKS
def test_every_public_name_says_what_it_has_to(check: Check) -> None:
    assert [problem for path in MODULES for problem in check(path)] == []


@pytest.mark.parametrize("module", METHODS)
def test_every_published_method_names_its_source(module: str) -> None:
    assert list(without_source(ROOT / module)) == []


#: A module by what checks it, and how many problems that has to find.
CASES: list[tuple[Check, str, int]] = [
    (bare, "def f(): ...", 2),  # the module has none, too
    (bare, '"""M."""\nclass A:\n    """A."""\n    def f(self): ...', 1),
    (bare, '"""M."""\ndef _f(): ...', 0),
    (bare, '"""M."""\nclass A:\n    """A."""\n    def __init__(self): ...', 0),
    (bare, '"""M."""\n@overload\ndef f(): ...', 0),
    (untold_errors, F + 'raise AError("x")', 1),
    (untold_errors, F + 'if x:\n        raise m.AError("x")', 1),
    (untold_errors, F + 'with x:\n        raise AError("x")', 1),
    (untold_errors, F + "raise", 0),
    (untold_errors, F + "def g():\n        raise AError(1)", 0),
    (untold_errors, F + "try:\n        raise AError(1)\n    except AError:\n        pass", 0),
    (untold_errors, F + "try:\n        g()\n    except AError:\n        raise BError(1)", 1),
    (untold_errors, 'def f():\n    """F; raises AError."""\n    raise AError(1)', 0),
    (untold_errors, A + "def __init__(self):\n        raise BError(1)", 0),
    (untold_errors, A + "def __init__(self):\n        raise AError(1)", 1),
    (without_unit, 'def f(timeout: float):\n    """F."""', 1),
    (without_unit, 'def f(timeout: float):\n    """F; the timeout is in seconds."""', 0),
    (without_unit, 'def f(timeout_seconds: float):\n    """F."""', 0),
    (without_unit, 'def f(timeout: Timeout):\n    """F."""', 0),
    (without_unit, A + "age: float", 1),
    (without_unit, A + "age: float  #: hours", 0),
    (without_shape, 'def f(x: mx.array):\n    """F."""', 1),
    (without_shape, 'def f() -> "NDArray[np.float64]":\n    """F."""', 1),
    (without_shape, 'def f(x: mx.array):\n    """F; `x` is (rows, tokens)."""', 0),
    (without_shape, 'def f(x: mx.array):\n    """F; `x` is (rows,)."""', 0),
    (without_shape, 'def _f(x: mx.array):\n    """F."""', 0),
    (without_source, '"""A method."""', 1),
    (without_source, '"""A method (Kish,\n1965)."""', 0),
]


@pytest.mark.parametrize(("check", "text", "found"), CASES)
def test_what_is_not_said_is_found_and_what_is_said_is_not(
    check: Check, text: str, found: int, tmp_path: Path
) -> None:
    path = tmp_path / "module.py"
    path.write_text(text, "utf-8")
    assert len(list(check(path))) == found
