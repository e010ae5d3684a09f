"""`config/runtime.yaml` as a frozen, validated `Config`.

Every error names the file, the line, the key, what was given and what is allowed. A key
that is not known is an error: a misspelt key that is ignored turns a safeguard off.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Final, Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from engine.core.flags import FLAGS, FlagSet, FlagState
from engine.qos_config import QosConfig, SloPolicy
from engine.rollout_config import FlagConfig, Rollout, RolloutConfig
from engine.sections import Count, Port, Positive, Section, Share

__all__ = [
    "Config",
    "ConfigError",
    "FlagConfig",
    "QosConfig",
    "Rollout",
    "RolloutConfig",
    "Section",
    "SloPolicy",
    "YamlDocument",
    "explain",
    "forced_states",
    "load_config",
    "packaged",
    "parse_config",
    "parse_yaml",
    "read_yaml",
]

#: The rollout's state and who moves it: no part of the digest that a verdict binds to.
_ROLLOUT: Final = {"phase4_rollout", "generation", "history_head", "rollout"}

#: libyaml's where it is built in: it reads the same, ten times as fast.
_FAST: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: What was given is quoted up to this many characters, so that an error stays on its line.
_GIVEN_WIDTH: Final = 60


class ConfigError(ValueError):
    """A configuration that cannot serve. The message is one line for each mistake."""


class SpeculationConfig(Section):
    """Several tokens a step for streams of the TTFT pipeline, while that pays."""

    # Eight: a copying stream gains little by more, and on a CPU a step of nine tokens takes less
    # than twice the time of one.
    draft_tokens: Annotated[int, Field(ge=0, le=16)] = 8
    draft_model: str | None = None

    @model_validator(mode="after")
    def _a_model_needs_tokens(self) -> Self:
        if self.draft_model is not None and self.draft_tokens == 0:
            raise ValueError(
                f"draft_model {self.draft_model!r} would draft nothing: draft_tokens is 0"
            )
        return self


class RuntimeConfig(Section):
    """The process that owns the model."""

    model: str = "smollm2-135m"
    max_rows: Count = 100
    prefill_chunk: Annotated[int, Field(ge=16, le=512)] = 64
    prefill_rows: Count = 8
    replicas: Count = 1
    backend: Literal["local", "tls", "ray"] = "local"
    link_host: str = "127.0.0.1"
    link_port: Port = 0
    link_dial: Annotated[str, Field(pattern=r"^\S+:[0-9]{1,5}$")] | None = None
    ray_address: str = "local"
    kv_bytes: Count | None = None
    memory_bytes: Count | None = None
    speculation: SpeculationConfig = SpeculationConfig()


class ServerConfig(Section):
    """Addresses, and the limits of one request."""

    host: str = "127.0.0.1"
    port: Port = 8080
    h2_port: Port = 0
    tls_min_version: Literal["1.2", "1.3"] = "1.3"
    tls_client_ca: str | None = None
    max_body_bytes: Count = 1024 * 1024
    drain_seconds: Positive = 30
    stream_seconds: Positive = 600
    slow_reader_seconds: Positive = 30
    buffer_tokens: Annotated[int, Field(ge=16)] = 256
    log_format: Literal["text", "json"] = "text"


class AdmissionConfig(Section):
    """The fixed limit and the queue: what serves with the governor off."""

    limit: Count = 50
    queue: Annotated[int, Field(ge=0)] = 200
    deadline_seconds: Positive = 30


class TenantConfig(Section):
    """Fair parts of the slots while several tenants want them."""

    # Half of the slots: of two busy tenants neither is slowed, and of more none has most.
    # A quarter in the long run: four busy ones share evenly, and a fifth finds its way in.
    burst_share: Share = 0.5
    sustained_share: Share = 0.25
    decay_seconds: Positive = 60


class GovernorConfig(Section):
    """The adaptive governor: its target and bounds."""

    target_ttft_ms: Positive = 550
    min_limit: Count = 4
    max_limit: Count = 100
    calm_seconds: Positive = 60
    tenant: TenantConfig = TenantConfig()

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min_limit > self.max_limit:
            raise ValueError(f"min_limit {self.min_limit} is above max_limit {self.max_limit}")
        return self


class PipelineConfig(Section):
    """The TTFT pipeline: the prefix store's byte budget, ageing and pins in the queue."""

    prefix_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    ageing_seconds: Positive = 2
    warm_seconds: Positive = 30


class Config(Section):
    """All of `runtime.yaml`."""

    phase4_rollout: Rollout = Rollout()
    generation: Annotated[int, Field(ge=0)] = 0
    history_head: str | None = None
    rollout: RolloutConfig = RolloutConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    server: ServerConfig = ServerConfig()
    admission: AdmissionConfig = AdmissionConfig()
    governor: GovernorConfig = GovernorConfig()
    ttft_pipeline: PipelineConfig = PipelineConfig()
    qos: QosConfig = QosConfig()

    @model_validator(mode="after")
    def _throughput_of_all_streams(self) -> Self:
        rate = self.phase4_rollout.qos_monitoring.sample_rate
        summed = [slo.name for slo in self.qos.policies if slo.metric == "throughput_tps"]
        if rate > 1 and summed:
            raise ValueError(
                f"policy {summed[0]!r} sums the tokens of all streams, so it needs "
                f"phase4_rollout.qos_monitoring.sample_rate 1, not {rate}"
            )
        return self

    def digest(self) -> str:
        """SHA-256 of what the engine does: what a verdict binds to.

        Without the rollout's state, which a verdict is to move, and without who moves it.
        """
        document = self.model_dump(mode="json", exclude=_ROLLOUT)
        return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def flag_states(self) -> dict[str, FlagState]:
        """What serves for each flag according to the file."""
        return {name: _state(name, self.phase4_rollout.flag(name)) for name in FLAGS}


def forced_states(flags: FlagSet) -> dict[str, FlagState]:
    """What serves under `--flags`: those at 100 % and the others at 0 %, no hold-back."""
    return {name: FlagState(100.0 if name in flags else 0.0, name) for name in FLAGS}


def _state(name: str, flag: FlagConfig) -> FlagState:
    return FlagState(flag.percentage, flag.salt or name)


def packaged(name: str) -> Path:
    """A file of the packaged defaults, such as `runtime.yaml` or `gates.yaml`."""
    here = Path(__file__).resolve().parent
    inside = here / "_config" / name  # in a built wheel
    return inside if inside.exists() else here.parent / "config" / name  # in a checkout


def load_config(path: Path) -> Config:
    """Read and validate a file.

    Raises:
        ConfigError: unreadable, empty, not YAML, or not valid: one line for each mistake.
    """
    return _validate(path, read_yaml(path))


def parse_config(text: str, path: Path) -> Config:
    """Validate the text of a file; `path` is for messages.

    Raises:
        ConfigError: empty, not YAML, or not valid: one line for each mistake.
    """
    return _validate(path, parse_yaml(text, path))


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A mapping read from YAML, and the line on which each of its keys stands."""

    data: Mapping[str, Any]
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict)

    def line(self, location: Iterable[str | int]) -> int:
        """The line of a key, or of the nearest key around it."""
        path = tuple(location)
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_yaml(path: Path) -> YamlDocument:
    """Read a YAML mapping and remember its lines. A key given twice is an error.

    Raises:
        ConfigError: unreadable, empty, not YAML, not a mapping, or with a duplicate key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from error
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> YamlDocument:
    """Read the text of a YAML mapping and remember its lines; `path` is for messages.

    Raises:
        ConfigError: empty, not YAML, not a mapping, or with a duplicate key.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.load(text, Loader=_FAST)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if node is None:
        raise ConfigError(f"{path}: empty; expected a mapping")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: expected a mapping, given {type(data).__name__}")
    return YamlDocument(data, dict(_lines(path, node, ())))


def _lines(
    path: Path, node: yaml.Node, at: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise ConfigError(f"{path}:{line}: key {key.value!r} is given twice")
            seen.add(key.value)
            yield (*at, key.value), line
            yield from _lines(path, value, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*at, index), value.start_mark.line + 1
            yield from _lines(path, value, (*at, index))


def _validate(path: Path, document: YamlDocument) -> Config:
    # Through JSON, so that lists become tuples under strict validation.
    try:
        return Config.model_validate_json(json.dumps(document.data, default=str))
    except ValidationError as error:
        raise ConfigError("\n".join(explain(path, document, error))) from None


def explain(
    path: Path, document: YamlDocument, error: ValidationError, root: type[BaseModel] = Config
) -> Iterator[str]:
    """One line for each mistake: file, line, key, what is allowed, what was given."""
    for item in error.errors(include_url=False):
        location = item["loc"]
        key = ".".join(str(part) for part in location) or "(document)"
        message = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] == "missing" else f"; given {_short(item['input'])}"
        if item["type"] == "extra_forbidden":
            allowed = ", ".join(_allowed(root, location))
            message, given = f"unknown key; allowed: {allowed}", ""
        yield f"{path}:{document.line(location)}: {key}: {message}{given}"


def _short(value: Any) -> str:
    return shorten(repr(value), _GIVEN_WIDTH, placeholder="...")


def _allowed(root: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys of the section in which an unknown key stands."""
    place: Any = root
    for part in location[:-1]:
        if hasattr(place, "model_fields"):
            place = place.model_fields[part].annotation
        else:  # an index into tuple[Model, ...] or a key of dict[str, Model]
            place = next(arg for arg in get_args(place) if hasattr(arg, "model_fields"))
    return sorted(place.model_fields)
