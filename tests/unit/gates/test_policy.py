from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.config import ConfigError, packaged
from gates.criteria import JUDGED
from gates.policy import load_policy
from gates.stages import STAGES, Transition, door

CANARY = [
    "flag_sets_start",
    "error_rate",
    "no_lost_stream",
    "ttft_p95_vs_control",
    "latency_p95_vs_control",
    "drill",
    "tests_green",
]


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = packaged("gates.yaml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "gates.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_the_packaged_policy_demands_of_canary_what_has_a_producer() -> None:
    policy = load_policy()
    assert [c.id for c in policy.required(Transition("off", "canary"))] == CANARY
    tests = [c for c in policy.criteria.values() if c.source == "tests"]
    assert all(c.measure in JUDGED[c.kind] for c in tests)


@pytest.mark.parametrize(
    ("step", "live"),
    [
        (Transition("canary", "early"), set()),
        (Transition("early", "mid"), {"live_ttft_p95"}),
        (
            Transition("mid", "full"),
            {
                *("live_ttft_p95", "live_ttft_vs_control", "live_latency_vs_control"),
                *("live_shed_vs_control", "live_early_cancels_vs_control"),
            },
        ),
    ],
)
def test_a_stage_is_left_by_what_live_traffic_showed_in_it(
    step: Transition, live: set[str]
) -> None:
    required = load_policy().required(step)
    found = {c.id for c in required if c.source == "live"}
    assert found == {"soak", "live_crashes", "live_error_rate", "live_ttft_better", *live}
    assert {"error_rate", "no_lost_stream", "tests_green"} <= {c.id for c in required}


def test_the_packaged_policy_has_the_success_metrics_of_the_requirements() -> None:
    """Target and stretch, in the units of `Criterion`: the table of section 2."""
    criteria = load_policy().criteria
    table = {
        "ttft_p95_ms": (0.55, 0.4),
        "throughput_rps": (130, 150),
        "streams_75": (75, 100),
        "connection_overhead": (0.6, 0.5),
        "latency_p99_ms": (0.8, 0.6),
        "error_rate": (0.001, None),
    }
    assert {name: (criteria[name].limit, criteria[name].stretch) for name in table} == table
    assert (criteria["throughput_vs_control"].margin, criteria["ttft_p95_improved"].margin) == (
        1.3,
        0.7,
    )


def test_stages_take_what_the_design_says() -> None:
    stages = load_policy().stages
    taken = {name: (stage.percentage, stage.soak_hours) for name, stage in stages.items()}
    assert taken == {"canary": (1, 24), "early": (10, 48), "mid": (50, 72), "full": (100, 0)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("limit: 0.1 %", "limt: 0.1 %", "criteria.error_rate.limt: unknown key; allowed: attri"),
        ("limit: 0.1 %", "limit: 150 %", "'limit' of a share is below 100 %; given 150 %"),
        ("limit: 0.1 %", "limit: -1 %", "criteria.error_rate.limit: Input should be greater th"),
        ("limit: 0.1 %", "limit: 0.001", "criteria.error_rate.limit: measure 'error_rate' needs"),
        ("limit: 0.1 %", "limit: 1 ms", "its unit; allowed: a number and one of %, such as '5 %'"),
        ("limit: 550 ms", "limit: 550", "needs its unit; allowed: a number and one of ms, s, su"),
        ("limit: 550 ms", "limit: many ms", "'many' is no number; allowed: a number and one of ms"),
        ("limit: 550 ms", "limit: .nan", "needs its unit"),
        ("limit: 550 ms", "limit: NaN ms", "finite number"),
        ("stretch: 400 ms", "stretch: 400", "criteria.ttft_p95_ms.stretch: measure 'ttft' needs"),
        ("stretch: 400 ms", "stretch: 600 ms", "'stretch' goes no further than 0.55; given 0.6"),
        ("stretch: 1.5 ", "stretch: 1.2 ", "'stretch' goes no further than 1.3; given 1.2"),
        ("min_samples: 2995", "stretch: 0.2 %", "'stretch' goes no further than 0.001"),
        ("margin: 0.7 ", "margin: 1.7 ", "'margin' of improvement of ttft is at most 1"),
        ("margin: 1.3 ", "margin: 0.9 ", "'margin' of improvement of throughput is at least 1"),
        ("margin: 1.25 ", "margin: 0.9 ", "'margin' of non_inferiority of ttft is at least 1"),
        ("direction: higher", "direction: lower", "of throughput higher is better; given lower"),
        ("    experiments:", "    # ", "measure 'recovery' needs 'experiments'"),
        ("covers: each_flag", "experiments: [x]", "'error_rate' has no use for 'experiments'"),
        ("    limit: 0.1 %", "    # nothing:", "kind 'ceiling' needs 'limit'"),
        ("    limit: 0.1 %", "    margin: 2\n    limit: 0.1 %", "has no use for 'margin'"),
        ("margin: 1.25", "margin: .nan", "finite number"),
        ("quantile: 0.95", "quantile: 95", "less than 1; given 95"),
        ("    quantile: 0.95", "    # nothing:", "measure 'ttft' needs 'quantile'"),
        ("measure: attempts", "measure: ttft", "kind 'invariant' measures attempts, checks"),
        ("kind: ceiling", "kind: floor", "kind 'floor' measures hit_rate, streams, throughput"),
        ("kind: ceiling", "kind: hope", "given 'hope'"),
        ("tests_green]", "tests_gren]", "unknown criterion 'tests_gren'; allowed: flag_sets"),
        ("tests_green]", "error_rate]", "criterion 'error_rate' is listed twice"),
        (
            "measure: lost_streams",
            "measure: lost_streams\n    source: live",
            "kind 'invariant' measures crashes, soak; given lost_streams",
        ),
        ("percentage: 10 ", "percentage: 0.5 ", "each stage must take a larger percentage"),
        ("  mid:", "  middle:", "stages.middle: unknown key; allowed: canary, early, full, mid"),
        (
            "waivers: []",
            "waivers:\n  - {criterion: x, owner: a, reason: b, expires: 2030-01-01}",
            "waivers.0.criterion: unknown criterion 'x'; allowed: flag_sets_start",
        ),
        (
            "waivers: []",
            "waivers:\n  - {criterion: error_rate, reason: b, expires: 2030-01-01}",
            "waivers.0.owner: Field required",
        ),
        (
            "waivers: []",
            "waivers:\n  - {criterion: error_rate, owner: a, why: b, expires: soon}",
            "waivers.0.why: unknown key; allowed: criterion, expires, owner, reason",
        ),
    ],
)
def test_a_mistake_is_named_with_file_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    lines = str(caught.value).splitlines()
    assert any(message in line for line in lines)
    assert all(line.startswith(f"{path}:") for line in lines)


def test_a_mistake_is_named_on_its_own_line(tmp_path: Path) -> None:
    path = changed(tmp_path, "limit: 0.1 %", "limit: [1]")
    wanted = next(
        number
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if "limit: [1]" in line
    )
    with pytest.raises(ConfigError, match=f":{wanted}: criteria.error_rate.limit: "):
        load_policy(path)


def test_the_digest_follows_what_is_said_and_not_how(tmp_path: Path) -> None:
    packaged_one = load_policy().digest()
    assert load_policy(changed(tmp_path, "# Every threshold", "# All")).digest() == packaged_one
    assert load_policy(changed(tmp_path, "0.1 % ", "0.2 % ")).digest() != packaged_one


def test_a_waiver_holds_until_its_day_begins(tmp_path: Path) -> None:
    entry = "waivers:\n  - {criterion: error_rate, owner: a, reason: b, expires: 2030-01-31}"
    policy = load_policy(changed(tmp_path, "waivers: []", entry))
    assert policy.waiver("error_rate", datetime(2030, 1, 30, 23, 59, tzinfo=UTC))
    assert policy.waiver("error_rate", datetime(2030, 1, 31, tzinfo=UTC)) is None
    assert policy.waiver("tests_green", datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("stage", "standing", "step"),
    [
        ("canary", "off", Transition("off", "canary")),
        ("canary", "canary", Transition("canary", "early")),
        ("full", "mid", Transition("mid", "full")),
        ("full", "full", None),
        ("early", "off", None),
        ("canary", "mid", None),
    ],
)
def test_a_gate_judges_the_step_into_or_out_of_its_stage(
    stage: str, standing: str, step: Transition | None
) -> None:
    assert door(stage, standing) == step


@pytest.mark.parametrize(
    ("stage", "standing"), [("moon", "off"), ("canary", "moon"), ("off", "off")]
)
def test_what_is_no_stage_is_refused_with_the_allowed_ones(stage: str, standing: str) -> None:
    with pytest.raises(ValueError, match=r"allowed: .*canary, early, mid, full"):
        door(stage, standing)


def test_every_stage_of_the_design_is_there() -> None:
    assert ("off", *load_policy().stages) == STAGES
