"""The four markers: each is a typed function whose signature and summary are its help line.

Calling the function with a mark's arguments validates them, so that `--markers`, the
documentation and the check cannot drift apart.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import pytest

from pytest_phase5.options import parse_flag_sets


class Slo(NamedTuple):
    """A validated `slo` mark."""

    criterion: str
    max: float | None = None
    min: float | None = None


class FlagSets(NamedTuple):
    """A validated `flag_set` mark: canonical names, and the model that was asked for."""

    names: tuple[str, ...] = ()
    model: str | None = None


class EngineSpec(NamedTuple):
    """Which engine a test asks for. Without a model the configuration decides."""

    flag_set: str
    model: str | None = None


def slo(criterion: str, *, max: float | None = None, min: float | None = None) -> Slo:  # noqa: A002 - the words that a test reads best with
    """The test brings evidence for a criterion of gates.yaml; max and min tighten its limit.

    Raises:
        ValueError: no criterion, or a bound that is no number.
    """
    _text("criterion", criterion)
    for name, bound in (("max", max), ("min", min)):
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float)):
            raise ValueError(f"{name} is {bound!r}; allowed: a number")
    return Slo(criterion, max, min)


def flag_set(*names: str, model: str | None = None) -> FlagSets:
    """Flag sets that the engine fixtures start for the test, and the model that they serve."""
    for name in names:
        _text("flag set", name)
    if model is not None:
        _text("model", model)
    return FlagSets(parse_flag_sets(",".join(names), "flag_set") if names else (), model)


def chaos(experiment: str) -> str:
    """The test runs a chaos experiment; `phase5 chaos list` names them.

    Raises:
        ValueError: there is no such experiment.
    """
    from chaos.catalogue import experiment_named
    from chaos.errors import ChaosError

    try:
        return experiment_named(_text("experiment", experiment)).name
    except ChaosError as error:
        raise ValueError(str(error)) from None


def load(profile: str) -> str:
    """The test runs a load profile; `phase5 load list` names them."""
    from pytest_phase5.load.profiles import profile_named

    return profile_named(_text("profile", profile)).name


_MARKERS: Final[dict[str, Callable[..., Any]]] = {
    function.__name__: function for function in (slo, flag_set, chaos, load)
}

#: Labels that other suites use as well: without arguments they are none of our business.
_COMMON: Final = frozenset({"chaos", "load"})


def register_markers(config: pytest.Config) -> None:
    """Declare the markers, for `--markers` and strict marker checks."""
    for name, function in _MARKERS.items():
        parameters = inspect.signature(function).replace(return_annotation=inspect.Parameter.empty)
        summary = inspect.cleandoc(function.__doc__ or "").partition("\n")[0]
        config.addinivalue_line("markers", f"{name}{parameters}: {summary}")


def is_ours(mark: pytest.Mark, *, gating: bool) -> bool:
    """Whether a mark is meant for this plugin, and not a bare label of another suite."""
    bare = not mark.args and not mark.kwargs
    return mark.name in _MARKERS and (gating or not (bare and mark.name in _COMMON))


def marked(item: pytest.Item, *, gating: bool) -> bool:
    """Whether an item carries a marker of ours."""
    return any(is_ours(mark, gating=gating) for mark in item.iter_markers())


def slos(item: pytest.Item) -> tuple[Slo, ...]:
    """The validated `slo` marks of an item, from the closest outwards."""
    return tuple(slo(*mark.args, **mark.kwargs) for mark in item.iter_markers("slo"))


def wanted_engines(node: pytest.Item | pytest.Collector) -> FlagSets:
    """The flag sets of the closest mark that names any, and the model of the closest likewise.

    Marks that are not valid are left out here: checking items reports them.
    """
    marks = list(_flag_set_marks(node))
    names = next((mark.names for mark in marks if mark.names), ())
    model = next((mark.model for mark in marks if mark.model), None)
    return FlagSets(names, model)


def _flag_set_marks(node: pytest.Item | pytest.Collector) -> Iterator[FlagSets]:
    for mark in node.iter_markers("flag_set"):
        try:
            yield flag_set(*mark.args, **mark.kwargs)
        except (TypeError, ValueError, pytest.UsageError):
            continue


def mistakes(items: Sequence[pytest.Item], *, gating: bool) -> Iterator[str]:
    """One line for each mark that is not valid: the item, what was given, what is allowed."""
    for item in items:
        for mark in item.iter_markers():
            if is_ours(mark, gating=gating):
                problem = _mistake(mark)
                if problem:
                    yield f"{item.nodeid}: {problem}"


def _mistake(mark: pytest.Mark) -> str | None:
    function = _MARKERS[mark.name]
    try:
        function(*mark.args, **mark.kwargs)
    except (TypeError, ValueError) as error:
        allowed = inspect.signature(function).replace(return_annotation=inspect.Parameter.empty)
        given = ", ".join(
            [repr(value) for value in mark.args]
            + [f"{name}={value!r}" for name, value in mark.kwargs.items()]
        )
        return f"{mark.name}({given}): {error}; allowed: {mark.name}{allowed}"
    except pytest.UsageError as error:
        return str(error)
    return None


def _text(what: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is {value!r}; allowed: a name")
    return value
