"""Markers, fixtures, options and hooks of the plugin, from what declares them."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from reference_tables import code, first, table

from pytest_phase5 import fixtures as declared_fixtures
from pytest_phase5 import hooks as declared_hooks
from pytest_phase5.markers import _MARKERS
from pytest_phase5.options import _OPTIONS, SUITE_INI


def markers() -> str:
    """Each marker as `pytest --markers` shows it."""
    rows = [(code(f"@pytest.mark.{signature(f)}"), first(f.__doc__)) for f in _MARKERS.values()]
    return table(("marker", "meaning"), rows)


def signature(function: Callable[..., Any]) -> str:
    """A name with its parameters, without the types of a call that pytest makes."""
    plain = inspect.signature(function).replace(return_annotation=inspect.Parameter.empty)
    return f"{function.__name__}{plain}"


def fixtures() -> str:
    """Each fixture that a test may ask for; those with an underscore are ours alone."""
    rows = [
        (code(name), code(returned(function)), first(function.__doc__))
        for name, function in declared()
    ]
    return table(("fixture", "type", "meaning"), rows)


def declared() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The fixtures of the plugin, in the order of their module."""
    for name, value in vars(declared_fixtures).items():
        wrapped = getattr(value, "_get_wrapped_function", None)  # the mark of a fixture of pytest's
        if wrapped is not None and not value.name.startswith("_"):
            yield name, wrapped()


def returned(function: Callable[..., Any]) -> str:
    """What a test is given: of a generator, what it yields."""
    given = str(function.__annotations__["return"])
    kind = given.rpartition("'")[0].rpartition(".")[2] if given.startswith("<class") else given
    return kind.removeprefix("Iterator[").removesuffix("]") if "Iterator[" in kind else kind


def options() -> str:
    """Each option with the key of pytest's configuration file that says the same."""
    rows = [
        (
            code(f"--phase5-{option.name} {option.metavar}"),
            code(option.dest) if option.ini else "none",
            option.help,
        )
        for option in _OPTIONS
    ]
    suite = ("none", code(SUITE_INI), "false leaves the packaged suite out of a gate")
    return table(("option", "in the configuration file", "meaning"), [*rows, suite])


def hooks() -> str:
    """Each hook that a conftest or a plugin of others may implement."""
    found = {name: f for name, f in vars(declared_hooks).items() if name.startswith("pytest_")}
    rows = [
        (code(signature(f)), "the first that answers" if only_one(f) else "all", first(f.__doc__))
        for f in found.values()
    ]
    return table(("hook", "who is heard", "meaning"), rows)


def only_one(function: Callable[..., Any]) -> bool:
    """Whether the first answer that is not None is the only one."""
    return bool(getattr(function, "pytest_spec", {}).get("firstresult"))
