"""`gates.yaml` as a `Policy`.

Every error names the file, the line, the key, what was given and what is allowed. A door
may list only what has a judge: a demand that nobody can check would hold for ever.
"""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from engine.config import ConfigError, Section, YamlDocument, explain, packaged, read_yaml
from gates.criteria import JUDGED, JUDGED_LIVE, Covers, Criterion, Kind, Measure
from gates.stages import STAGES, Policy, Stage, Waiver

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

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
    direction: Literal["lower", "higher"] = "lower"
    limit: Positive | None = None
    margin: Positive | None = None
    quantile: Share | None = None
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    looks: Annotated[int, Field(ge=1)] = 1
    min_samples: Annotated[int, Field(ge=1)] = 1
    source: Literal["tests", "live"] = "tests"
    critical: bool = False
    attribution: bool = True
    covers: Covers = Covers.EACH_FLAG
    max_age_hours: Positive = 24
    design_effect: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.5

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
        allowed = judged.get(self.kind, frozenset(Measure))
        if self.measure not in allowed:
            names = ", ".join(sorted(allowed))
            raise ValueError(f"kind {self.kind.value!r} measures {names}; given {self.measure!s}")
        timed = self.measure in (Measure.TTFT, Measure.LATENCY)
        if self.kind in judged and timed != (self.quantile is not None):
            verb = "needs" if timed else "has no use for"
            raise ValueError(f"measure {self.measure.value!r} {verb} 'quantile'")
        return self

    @model_validator(mode="after")
    def _a_rate_is_a_share(self) -> Self:
        if self.measure is Measure.ERROR_RATE and self.limit is not None and self.limit >= 1:
            raise ValueError(f"a rate is a share below 1; 0.1 % is 0.001; given {self.limit}")
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


def load_policy(path: Path | None = None) -> Policy:
    """Read and validate a file; without a path, the packaged `gates.yaml`.

    Raises:
        ConfigError: unreadable, empty, not YAML, or not valid: one line for each mistake.
    """
    path = path or packaged("gates.yaml")
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
    kind, source = gates.criteria[name].kind, gates.criteria[name].source
    if kind not in JUDGED:
        return f"criterion {name!r}: kind {kind.value!r} has no judge yet"
    if source != "tests":
        return f"criterion {name!r}: source {source!r} has no judge yet"
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
            name: Criterion(id=name, **section.model_dump())
            for name, section in gates.criteria.items()
        },
        stages={name: Stage(name=name, **fields) for name, fields in stages.items()},
        waivers=tuple(Waiver(**w.model_dump(mode="json")) for w in gates.waivers),
        expected_load=gates.expected_load,
    )
