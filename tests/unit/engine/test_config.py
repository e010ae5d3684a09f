from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from engine.config import (
    Config,
    ConfigError,
    FlagConfig,
    forced_states,
    load_config,
    packaged,
    read_yaml,
)
from engine.core.flags import FLAGS, FlagState

#: The two example configurations of the requirements.
EXAMPLES = Path(__file__).parents[1] / "examples"
CANARY = (EXAMPLES / "canary.yaml").read_text(encoding="utf-8")
PRODUCTION = (EXAMPLES / "production.yaml").read_text(encoding="utf-8")


def written(folder: Path, text: str) -> Path:
    path = folder / "runtime.yaml"
    path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    return path


def loaded(folder: Path, text: str) -> Config:
    return load_config(written(folder, text))


def serving(config: Config) -> dict[str, float]:
    return {name: state.percentage for name, state in config.flag_states().items()}


def test_the_requirements_canary_example_serves_as_it_says(tmp_path: Path) -> None:
    config = loaded(tmp_path, CANARY)
    assert serving(config) == {
        "adaptive_governor": 1,
        "http2_transport": 0,
        "ttft_pipeline": 0,
        "qos_monitoring": 99,  # every stream, less the hold-back of 1 %
    }
    assert config.phase4_rollout.qos_monitoring.sample_rate == 10


def test_the_requirements_production_example_serves_as_it_says(tmp_path: Path) -> None:
    config = loaded(tmp_path, PRODUCTION)
    assert serving(config) == {
        "adaptive_governor": 100,
        "http2_transport": 99,
        "ttft_pipeline": 99,
        "qos_monitoring": 99,
    }
    assert config.phase4_rollout.qos_monitoring.sample_rate == 1


def test_the_packaged_file_says_what_the_program_defaults_to() -> None:
    assert load_config(packaged("runtime.yaml")) == Config()


def test_the_packaged_file_starts_with_the_rollout_in_the_requirements_block_form() -> None:
    text = packaged("runtime.yaml").read_text(encoding="utf-8")
    assert next(iter(yaml.safe_load(text))) == "phase4_rollout"
    block = "  ttft_pipeline:\n    enabled: false      # TTFT optimization\n"
    assert f"{block}    rollout_percentage: 0\n" in text
    assert list(yaml.safe_load(text)["phase4_rollout"]) == list(FLAGS)


def test_nothing_serves_by_default() -> None:
    assert set(serving(Config()).values()) == {0}


@dataclass(frozen=True, slots=True)
class Bad:
    """A file, the line and key of its mistake, and words of the message."""

    text: str
    line: int
    key: str
    says: tuple[str, ...]


BAD = {
    "unknown section": Bad(
        "sever:\n  port: 1\n", 1, "sever", ("unknown key; allowed: admission, generation",)
    ),
    "unknown flag": Bad(
        "phase4_rollout:\n  http3_transport:\n    enabled: true\n",
        2,
        "phase4_rollout.http3_transport",
        ("unknown key; allowed: adaptive_governor, http2_transport, qos_monitoring",),
    ),
    "misspelt key of a flag": Bad(
        "phase4_rollout:\n  ttft_pipeline:\n    enabled: true\n    rollout_percent: 1\n",
        4,
        "phase4_rollout.ttft_pipeline.rollout_percent",
        ("unknown key; allowed: approved, enabled, ", "rollout_percentage"),
    ),
    "sample_rate where it has no meaning": Bad(
        "phase4_rollout:\n  ttft_pipeline:\n    sample_rate: 2\n",
        3,
        "phase4_rollout.ttft_pipeline.sample_rate",
        ("unknown key",),
    ),
    "percentage above 100": Bad(
        "phase4_rollout:\n  ttft_pipeline:\n    rollout_percentage: 101\n",
        3,
        "phase4_rollout.ttft_pipeline.rollout_percentage",
        ("less than or equal to 100", "given 101"),
    ),
    "percentage below 0": Bad(
        "phase4_rollout:\n  qos_monitoring:\n    rollout_percentage: -1\n",
        3,
        "phase4_rollout.qos_monitoring.rollout_percentage",
        ("greater than or equal to 0", "given -1"),
    ),
    "percentage that is no number": Bad(
        "phase4_rollout:\n  ttft_pipeline:\n    rollout_percentage: .nan\n",
        3,
        "phase4_rollout.ttft_pipeline.rollout_percentage",
        ("given nan",),
    ),
    "percentage as text": Bad(
        "phase4_rollout:\n  ttft_pipeline:\n    rollout_percentage: '1'\n",
        3,
        "phase4_rollout.ttft_pipeline.rollout_percentage",
        ("valid number", "given '1'"),
    ),
    "enabled as text": Bad(
        "phase4_rollout:\n  ttft_pipeline:\n    enabled: 'yes'\n",
        3,
        "phase4_rollout.ttft_pipeline.enabled",
        ("valid boolean", "given 'yes'"),
    ),
    "a flag without its mapping": Bad(
        "phase4_rollout:\n  ttft_pipeline: true\n",
        2,
        "phase4_rollout.ttft_pipeline",
        ("given True",),
    ),
    "unknown stage": Bad(
        "phase4_rollout:\n  ttft_pipeline:\n    stage: beta\n",
        3,
        "phase4_rollout.ttft_pipeline.stage",
        ("'off', 'canary', 'early', 'mid' or 'full'", "given 'beta'"),
    ),
    "a store of no kind": Bad(
        "rollout:\n  store: /srv/runtime.yaml\n",
        2,
        "rollout.store",
        ("allowed: file:PATH or git:REMOTE#BRANCH", "given '/srv/runtime.yaml'"),
    ),
    "a store in Git without its branch": Bad(
        "rollout:\n  store: git:/srv/state\n", 2, "rollout.store", ("git:REMOTE#BRANCH",)
    ),
    "an engine that is no address": Bad(
        "rollout:\n  engines:\n    - http://here:8080\n    - here:8080\n",
        4,
        "rollout.engines.1",
        ("allowed: http://HOST:PORT or https://HOST:PORT", "given 'here:8080'"),
    ),
    "a lease of no time": Bad(
        "rollout:\n  lease_seconds:\n    mid: 0\n",
        3,
        "rollout.lease_seconds.mid",
        ("greater than 0", "given 0"),
    ),
    "approval of what is no stage": Bad(
        "rollout:\n  approval: [half]\n", 2, "rollout.approval.0", ("'mid' or 'full'",)
    ),
    "port out of range": Bad(
        "server:\n  port: 70000\n", 2, "server.port", ("65535", "given 70000")
    ),
    "whole number with a fraction": Bad(
        "admission:\n  limit: 1.5\n", 2, "admission.limit", ("integer", "given 1.5")
    ),
    "limit of zero": Bad("admission:\n  limit: 0\n", 2, "admission.limit", ("to 1", "given 0")),
    "governor's bounds crossed": Bad(
        "governor:\n  min_limit: 9\n  max_limit: 8\n",
        1,
        "governor",
        ("min_limit 9 is above max_limit 8",),
    ),
    "drafts that are too long": Bad(
        "runtime:\n  speculation:\n    draft_tokens: 17\n",
        3,
        "runtime.speculation.draft_tokens",
        ("less than or equal to 16", "given 17"),
    ),
    "a draft model without drafts": Bad(
        "runtime:\n  speculation: {draft_tokens: 0, draft_model: tiny}\n",
        2,
        "runtime.speculation",
        ("draft_model 'tiny' would draft nothing: draft_tokens is 0",),
    ),
    "unknown metric in the second policy": Bad(
        """\
        qos:
          policies:
            - name: a
              metric: error_rate
              max: 0.1
            - name: b
              metric: speed
              max: 1
        """,
        7,
        "qos.policies.1.metric",
        ("'ttft_p95_ms'", "given 'speed'"),
    ),
    "unknown key in a policy": Bad(
        """\
        qos:
          policies:
            - name: a
              metric: error_rate
              maximum: 1
              max: 1
        """,
        5,
        "qos.policies.0.maximum",
        ("unknown key; allowed: max, metric, min, min_samples, name, recovery",),
    ),
    "policy with two bounds": Bad(
        "qos:\n  policies:\n    - {name: a, metric: error_rate, max: 1, min: 0}\n",
        3,
        "qos.policies.0",
        ("policy 'a' needs exactly one of max and min",),
    ),
    "policy without a name": Bad(
        "qos:\n  policies:\n    - {metric: error_rate, max: 1}\n",
        3,
        "qos.policies.0.name",
        ("required",),
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
def test_a_mistake_is_named_with_file_line_key_and_what_is_allowed(
    tmp_path: Path, bad: Bad
) -> None:
    path = written(tmp_path, bad.text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}:{bad.line}: {bad.key}: ")
    for words in bad.says:
        assert words in line


def test_every_mistake_gets_its_own_line(tmp_path: Path) -> None:
    path = written(tmp_path, "server:\n  port: -1\n  hots: x\ngeneration: -1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    lines = str(caught.value).splitlines()
    assert sorted(line.split(":")[1] for line in lines) == ["2", "3", "4"]


def test_what_was_given_is_cut_so_that_the_message_stays_readable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"server:\n  port: '{'1 ' * 500}'\n")
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


UNREADABLE = {
    "empty": (b"", "empty; expected a mapping"),
    "only a comment": (b"# nothing\n", "empty; expected a mapping"),
    "a list": (b"- a\n", ":1: expected a mapping, given list"),
    "a word": (b"off\n", ":1: expected a mapping, given bool"),
    "not YAML": (b"a: [1\n", "not YAML: "),
    "not text": (b"\xff\xfe\xff", "cannot be read: not UTF-8 text"),
    "a tag that makes objects": (b"a: !!python/object:os.system {}\n", "not YAML: "),
    "a key twice": (b"server:\n  port: 1\n  port: 2\n", ":3: key 'port' is given twice"),
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.values(), ids=list(UNREADABLE))
def test_a_file_that_is_no_mapping_is_refused_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "runtime.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_path_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: (No such file|Is a directory)"):
        load_config(tmp_path / name)


def test_a_line_is_that_of_the_key_or_of_the_nearest_around_it(tmp_path: Path) -> None:
    document = read_yaml(written(tmp_path, "a:\n  b:\n    - c: 1\n"))
    assert document.line(("a", "b", 0, "c")) == 3
    assert document.line(("a", "b", 0, "absent")) == 3
    assert document.line(("a", "absent")) == 1
    assert document.line(("absent",)) == 1


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        (FlagConfig(enabled=True, rollout_percentage=50), 50),
        (FlagConfig(enabled=True, rollout_percentage=100), 99),
        (FlagConfig(enabled=True, rollout_percentage=100, holdback_percentage=0), 100),
        (FlagConfig(enabled=False, rollout_percentage=50), 0),
        (FlagConfig(enabled=True), 0),
    ],
)
def test_the_share_that_serves(flag: FlagConfig, expected: float) -> None:
    assert flag.percentage == expected


def test_qos_enabled_with_a_share_of_its_own_keeps_it(tmp_path: Path) -> None:
    config = loaded(
        tmp_path, "phase4_rollout: {qos_monitoring: {enabled: true, rollout_percentage: 10}}\n"
    )
    assert serving(config)["qos_monitoring"] == 10


def test_the_rollouts_own_state_is_read(tmp_path: Path) -> None:
    text = """
    phase4_rollout:
      ttft_pipeline:
        {held: 'a doubt', approved: early, suspect: c0ffee, lifted: [3f2a, 77aa]}
    rollout:
      engines: [http://10.0.0.1:8080/, https://engine.example]
    """
    config = loaded(tmp_path, text)
    flag = config.phase4_rollout.ttft_pipeline
    assert (flag.held, flag.approved, flag.suspect) == ("a doubt", "early", "c0ffee")
    assert flag.lifted == ("3f2a", "77aa")
    assert config.rollout.engines == ("http://10.0.0.1:8080", "https://engine.example")


@pytest.mark.parametrize("key", ["tombstones", "lifted"])
def test_lists_of_a_flag_are_read_whatever_else_is_worked_out(tmp_path: Path, key: str) -> None:
    """Lists beside a percentage that is left out were refused as "not a valid array"."""
    text = f"phase4_rollout: {{qos_monitoring: {{enabled: true, {key}: [a, b]}}}}\n"
    assert getattr(loaded(tmp_path, text).phase4_rollout.qos_monitoring, key) == ("a", "b")
    with pytest.raises(ConfigError, match=f"{key}.0: Input should be a valid string; given 1"):
        loaded(tmp_path, text.replace("[a, b]", "[1]"))


def test_a_flag_hashes_with_its_name_until_it_has_a_salt(tmp_path: Path) -> None:
    config = loaded(tmp_path, "phase4_rollout: {ttft_pipeline: {salt: second try}}\n")
    assert config.flag_states()["ttft_pipeline"].salt == "second try"
    assert config.flag_states()["http2_transport"].salt == "http2_transport"


def test_forced_flags_are_all_or_nothing_without_hold_back() -> None:
    states = forced_states(frozenset({"ttft_pipeline"}))
    assert states == {
        name: FlagState(100.0 if name == "ttft_pipeline" else 0.0, name) for name in FLAGS
    }


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("generation: 7\n", True),
        ("phase4_rollout: {ttft_pipeline: {enabled: true, epoch: 3, stage: canary}}\n", True),
        ("rollout: {store: 'git:/srv/state#main', lease_seconds: {mid: 60}}\n", True),
        ("admission: {limit: 49}\n", False),
        ("qos: {policies: []}\n", False),
    ],
)
def test_the_digest_leaves_out_rollout_state_and_nothing_else(
    tmp_path: Path, text: str, same: bool
) -> None:
    assert (loaded(tmp_path, text).digest() == Config().digest()) is same
