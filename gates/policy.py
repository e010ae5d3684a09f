"""`gates.yaml` as a `Policy`.

Every error names the file, the line, the key, what was given and what is allowed. A door
may list only what has a judge: a demand that nobody can check would hold for ever.
"""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from engine.config import ConfigError, Section, YamlDocument, explain, packaged, read_yaml
from gates.criteria import HIGHER, JUDGED, JUDGED_LIVE, TIMES, Covers, Criterion, Kind, Measure
from gates.stages import STAGES, Policy, Stage, Waiver
from gates.units import SHARES, quantity

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

#: Its name, beside the configuration that it belongs to.
POLICY_FILE: Final = "gates.yaml"

#: The numbers without which a kind makes no sense; the others are an error for it.
_NUMBERS: Final = {
    Kind.CEILING: ("limit",),
    Kind.FLOOR: ("limit",),
    Kind.IMPROVEMENT: ("margin",),
    Kind.NON_INFERIORITY: ("margin",),
    Kind.INVARIANT: (),
    Kind.CHAOS: ("limit",),
}


class CriterionSection(Section):
    """One entry of `criteria`; the fields are those of `gates.criteria.Criterion`."""

    kind: Kind
    measure: Measure
    direction: Literal["lower", "higher"] | None = None  #: None: as the measure has it
    limit: Positive | None = None
    margin: Positive | None = None
    stretch: Positive | None = None
    quantile: Share | None = None
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    looks: Annotated[int, Field(ge=1)] = 1
    min_samples: Annotated[int, Field(ge=1)] = 1
    source: Literal["tests", "live"] = "tests"
    critical: bool = False
    attribution: bool = True
    covers: Covers = Covers.EACH_FLAG
    max_age_hours: Positive = 24
    design_effect: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    elsewhere: bool = False
    experiments: tuple[str, ...] = ()

    @field_validator("limit", "stretch", mode="before")
    @classmethod
    def _with_its_unit(cls, given: object, info: ValidationInfo) -> object:
        """A stretch goal of a comparison is a ratio, as its margin is."""
        kind: Kind | None = info.data.get("kind")
        measure: Measure | None = info.data.get("measure")
        ratio = info.field_name == "stretch" and kind is not None and "margin" in _NUMBERS[kind]
        return given if given is None or measure is None or ratio else quantity(given, measure)

    @model_validator(mode="after")
    def _numbers_of_the_kind(self) -> Self:
        needed = _NUMBERS[self.kind]
        for name in ("limit", "margin"):
            if (getattr(self, name) is not None) != (name in needed):
                verb = "needs" if name in needed else "has no use for"
                raise ValueError(f"kind {self.kind.value!r} {verb} {name!r}")
        return self

    @model_validator(mode="after")
    def _measure_of_the_kind(self) -> Self:
        judged = JUDGED_LIVE if self.source == "live" else JUDGED
        allowed = judged.get(self.kind, frozenset())
        if self.measure not in allowed:
            names = ", ".join(sorted(allowed))
            raise ValueError(f"kind {self.kind.value!r} measures {names}; given {self.measure!s}")
        for name, needed in (
            ("quantile", self.measure in TIMES),
            ("experiments", self.kind is Kind.CHAOS),
        ):
            if bool(getattr(self, name)) != needed:
                verb = "needs" if needed else "has no use for"
                raise ValueError(f"measure {self.measure.value!r} {verb} {name!r}")
        return self

    @model_validator(mode="after")
    def _the_better_way(self) -> Self:
        better = "higher" if self.measure in HIGHER else "lower"
        if self.direction not in (None, better):
            raise ValueError(f"of {self.measure.value} {better} is better; given {self.direction}")
        return self

    @model_validator(mode="after")
    def _a_share_is_below_one(self) -> Self:
        for name in ("limit", "stretch"):
            given: float | None = getattr(self, name)
            shared = self.measure in SHARES and given is not None
            if shared and given is not None and given >= 1:
                raise ValueError(f"{name!r} of a share is below 100 %; given {100 * given:g} %")
        return self

    @model_validator(mode="after")
    def _a_stretch_goes_further(self) -> Self:
        goal = self.limit if self.margin is None else self.margin
        if self.stretch is None:
            return self
        if goal is None:
            raise ValueError(f"kind {self.kind.value!r} has no use for 'stretch'")
        further = self.stretch > goal if self.measure in HIGHER else self.stretch < goal
        if not further:
            raise ValueError(f"'stretch' goes no further than {goal:g}; given {self.stretch:g}")
        return self

    @model_validator(mode="after")
    def _a_margin_on_its_side(self) -> Self:
        """A comparison that allows the opposite of what it says would be met by anything."""
        if self.margin is None:
            return self
        up = (self.measure in HIGHER) == (self.kind is Kind.IMPROVEMENT)
        if (self.margin < 1) if up else (self.margin > 1):
            side = "at least 1" if up else "at most 1"
            raise ValueError(
                f"'margin' of {self.kind.value} of {self.measure.value} is {side}; "
                f"given {self.margin:g}"
            )
        return self


class StageSection(Section):
    """One entry of `stages`."""

    percentage: Annotated[float, Field(gt=0, le=100)]
    soak_hours: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    enter: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


class StagesSection(Section):
    """All stages; each must be there."""

    canary: StageSection
    early: StageSection
    mid: StageSection
    full: StageSection

    @model_validator(mode="after")
    def _each_takes_more(self) -> Self:
        shares = [getattr(self, name).percentage for name in STAGES[1:]]
        if sorted(set(shares)) != shares:
            raise ValueError(f"each stage must take a larger percentage; given {shares}")
        return self


class WaiverSection(Section):
    """One entry of `waivers`."""

    criterion: str
    owner: Annotated[str, Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]
    expires: date


class GatesSection(Section):
    """All of `gates.yaml`."""

    criteria: dict[str, CriterionSection]
    stages: StagesSection
    waivers: tuple[WaiverSection, ...] = ()
    expected_load: Positive | None = None
    retired_tests: tuple[str, ...] = ()


def load_policy(path: Path | None = None) -> Policy:
    """Read and validate a file; without a path, the packaged `gates.yaml`.

    Raises:
        ConfigError: unreadable, empty, not YAML, or not valid: one line for each mistake.
    """
    path = path or packaged(POLICY_FILE)
    document = read_yaml(path)
    try:
        # Through JSON, so that lists become tuples and dates parse under strict validation.
        gates = GatesSection.model_validate_json(json.dumps(document.data, default=str))
    except ValidationError as error:
        raise ConfigError("\n".join(explain(path, document, error, GatesSection))) from None
    mistakes = [*_doors(path, document, gates), *_waivers(path, document, gates)]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return _policy(gates)


def policy_beside(config: Path | None) -> Policy:
    """`gates.yaml` beside the configuration in use, else the packaged one.

    Raises:
        ConfigError: when it cannot serve.
    """
    return load_policy(policy_file(config))


def policy_file(config: Path | None) -> Path:
    """The file that `policy_beside` reads."""
    beside = config.with_name(POLICY_FILE) if config else None
    return beside if beside and beside.exists() else packaged(POLICY_FILE)


def _doors(path: Path, document: YamlDocument, gates: GatesSection) -> Iterator[str]:
    for stage in STAGES[1:]:
        section: StageSection = getattr(gates.stages, stage)
        for side, names in (("enter", section.enter), ("leave", section.leave)):
            for index, name in enumerate(names):
                mistake = _listed(gates, name) or _twice(names, index)
                if mistake:
                    line = document.line(("stages", stage, side, index))
                    yield f"{path}:{line}: stages.{stage}.{side}: {mistake}"


def _listed(gates: GatesSection, name: str) -> str:
    if name not in gates.criteria:
        return f"unknown criterion {name!r}; allowed: {', '.join(gates.criteria)}"
    return ""


def _twice(names: tuple[str, ...], index: int) -> str:
    return f"criterion {names[index]!r} is listed twice" if names[index] in names[:index] else ""


def _waivers(path: Path, document: YamlDocument, gates: GatesSection) -> Iterator[str]:
    for index, waiver in enumerate(gates.waivers):
        if waiver.criterion not in gates.criteria:
            line = document.line(("waivers", index, "criterion"))
            allowed = ", ".join(gates.criteria)
            yield (
                f"{path}:{line}: waivers.{index}.criterion: unknown criterion "
                f"{waiver.criterion!r}; allowed: {allowed}"
            )


def _policy(gates: GatesSection) -> Policy:
    stages = {name: getattr(gates.stages, name).model_dump() for name in STAGES[1:]}
    return Policy(
        criteria={
            name: Criterion(id=name, **{**section.model_dump(), "direction": _better(section)})
            for name, section in gates.criteria.items()
        },
        stages={name: Stage(name=name, **fields) for name, fields in stages.items()},
        waivers=tuple(Waiver(**w.model_dump(mode="json")) for w in gates.waivers),
        expected_load=gates.expected_load,
        retired_tests=gates.retired_tests,
    )


def _better(section: CriterionSection) -> str:
    return "higher" if section.measure in HIGHER else "lower"
