"""Every alert fires when it has to, and stays quiet when it almost has to: by `promtool`."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_scenes import (
    ENGINES,
    FLAG,
    LONG,
    MINUTELY,
    SLOWLY,
    STEP,
    Scene,
    counter,
    guard,
    level,
    of,
    requests,
    ttft,
)
from monitored import program

from engine.config import load_config, packaged
from gates.monitoring.alerts import every_alert
from gates.monitoring.files import ALERTS, RECORDING, Setting, files
from gates.monitoring.recordings import REQUIRED
from gates.monitoring.rules import Clock, Limits
from gates.policy import load_policy

ROOT = Path(__file__).resolve().parents[2]
CONFIG = load_config(packaged("runtime.yaml"))
LIMITS = Limits(
    policy=load_policy(packaged("gates.yaml")),
    leases=CONFIG.rollout.lease_seconds,
    slos=CONFIG.qos.policies,
)
ONE, TWO = ENGINES
FAST, SLOW = "Phase5ErrorBudgetBurnsFast", "Phase5ErrorBudgetBurnsSlowly"
BURNING_FLAGS = f'group by (flag) (ALERTS{{alertname="{FAST}",alertstate="firing"}})'
NEVER = level((0, LONG))
#: Samples in a minute; where a sample is a minute's, minutes and hours.
MINUTE = 60 // STEP
HOUR = 3600 // MINUTELY


def both(name: str, values: str, **labels: str) -> dict[str, str]:
    return {of(engine, name, **labels): values for engine in ENGINES}


def share(*parts: tuple[float, int], engine: str = ONE) -> dict[str, str]:
    return {of(engine, "phase5_flag_percentage", flag=FLAG): level(*parts)}


def days(hours: float) -> int:
    return int(hours * 3600 / SLOWLY)


SERVICE = (
    Scene(name="nothing is wrong", fires={MINUTE: set(), 20 * MINUTE: set()}),
    Scene(
        name="errors for ten minutes",
        differs={requests(ONE, "failed"): counter((10, 10), (0, 4 * HOUR))},
        # The page ends with its own short window; what was spent of the budget is told on.
        step=MINUTELY,
        fires={10: {FAST, SLOW}, 60: {SLOW}},
    ),
    Scene(
        name="streams that are cut are errors",
        differs={requests(ONE, "cut"): counter((10, LONG))},
        step=MINUTELY,
        fires={10: {FAST, SLOW}},
    ),
    Scene(
        name="errors of the treated arm alone name its flag, and are too few of the whole",
        differs={requests(ONE, "failed", treated=True): counter((1, LONG))},
        query=BURNING_FLAGS,
        step=MINUTELY,
        fires={30: {FLAG}},
    ),
    Scene(
        name="errors of both arms name no flag",
        differs={
            requests(ONE, "failed"): counter((10, LONG)),
            requests(ONE, "failed", treated=True): counter((1, LONG)),
        },
        query=BURNING_FLAGS,
        step=MINUTELY,
        fires={30: {"all"}},
    ),
    Scene(
        name="a flag that serves everybody has no other arm",
        differs={
            **{requests(engine): NEVER for engine in ENGINES},
            requests(ONE, "failed", treated=True): counter((1, LONG)),
        },
        query=BURNING_FLAGS,
        step=MINUTELY,
        fires={60: {"all", FLAG}},
    ),
    Scene(
        name="a slow burn wakes nobody",
        differs={requests(ONE, "failed"): counter((1.2, LONG))},
        step=MINUTELY,
        fires={90: {SLOW}},
        spares=frozenset({FAST}),
    ),
    Scene(
        name="errors within the limit",
        differs={requests(ONE, "failed"): counter((0.2, LONG))},
        step=MINUTELY,
        fires={2 * HOUR: set()},
        spares=frozenset({SLOW}),
    ),
    Scene(
        name="a few unlucky requests at night",
        differs={
            **{requests(engine): counter((0.1, LONG)) for engine in ENGINES},
            **{requests(engine, treated=True): NEVER for engine in ENGINES},
            requests(ONE, "failed"): counter((0, HOUR), (1, 2), (0, HOUR)),
        },
        step=MINUTELY,
        fires={HOUR + 3: set(), HOUR + 4: set()},
        spares=frozenset({FAST, SLOW}),
    ),
    Scene(
        name="no requests are no errors, and not health either",
        differs={
            **{requests(engine): NEVER for engine in ENGINES},
            **{requests(engine, treated=True): NEVER for engine in ENGINES},
        },
        query='group by (__name__) ({__name__="phase5:error_ratio:rate5m"} >= 0)',
        step=MINUTELY,
        fires={HOUR: set()},
    ),
    Scene(
        name="one first token of ten is late",
        differs={ttft(ONE, "0.55"): counter((132, LONG))},
        step=MINUTELY,
        fires={10: {"Phase5FirstTokensLate"}},
    ),
    Scene(
        name="one first token of a hundred is late",
        differs={ttft(ONE, "0.55"): counter((162, LONG))},
        step=MINUTELY,
        fires={HOUR: set()},
        spares=frozenset({"Phase5FirstTokensLate"}),
    ),
    Scene(
        name="late first tokens of very few",
        differs={
            **{ttft(engine, "+Inf"): counter((0.2, LONG)) for engine in ENGINES},
            **{ttft(engine, "0.55"): NEVER for engine in ENGINES},
        },
        step=MINUTELY,
        fires={HOUR: set()},
        spares=frozenset({"Phase5FirstTokensLate"}),
    ),
    Scene(
        name="a service level is violated in spite of its remedy",
        differs={of(ONE, "phase5_slo_violated", slo="ttft"): level((1, 10), (0, LONG))},
        step=MINUTELY,
        fires={
            4: set(),
            6: {"Phase5QosViolated"},
            11: set(),
        },
        spares=frozenset({"Phase5QosViolated"}),
    ),
)

TELEMETRY = (
    Scene(
        name="an engine does not answer",
        differs={of(ONE, "up"): level((1, 4), (0, 20), (1, LONG))},
        fires={6: set(), 8: {"Phase5EngineDown"}, 26: set()},
        spares=frozenset({"Phase5EngineDown"}),
    ),
    Scene(
        name="something else answers at an engine's address",
        gone=('phase5_requests_total{job="phase5-engines",instance="one:1"',),
        fires={2: set(), 8: {"Phase5TelemetryStale"}},
        spares=frozenset({"Phase5TelemetryStale", "Phase5TelemetryAbsent"}),
    ),
    Scene(
        name="no engine is scraped",
        gone=("phase5_requests", "phase5_time", "phase5_slo", "phase5_flag", "up", "process_"),
        fires={2: set(), 8: {"Phase5TelemetryAbsent"}},
        spares=frozenset({"Phase5TelemetryAbsent"}),
    ),
    Scene(
        name="no guard is scraped",
        gone=("phase5_guard_",),
        fires={2: set(), 8: {"Phase5GuardAbsent"}},
        spares=frozenset({"Phase5GuardAbsent"}),
    ),
    Scene(
        name="a guard stands still, and goes on",
        differs={
            guard("last_poll_timestamp_seconds"): (
                f"0+{STEP}x{MINUTE} {STEP * MINUTE}+0x{6 * MINUTE} {STEP * 8 * MINUTE}+{STEP}x400"
            )
        },
        fires={
            2 * MINUTE: set(),
            2 * MINUTE + 2: {"Phase5GuardSilent"},
            9 * MINUTE: set(),
        },
        spares=frozenset({"Phase5GuardSilent"}),
    ),
    Scene(
        name="a receiver takes nothing",
        differs={guard("notifications_failed_total"): counter((0, MINUTE), (1, 1), (0, LONG))},
        fires={MINUTE: set(), 2 * MINUTE: {"Phase5NotificationsFail"}, 20 * MINUTE: set()},
        spares=frozenset({"Phase5NotificationsFail"}),
    ),
)

ROLLOUT = (
    Scene(
        name="the first rollback",
        differs={
            guard("rollbacks_total", flag=FLAG, cause="verdict"): counter(
                (0, MINUTE), (1, 1), (0, LONG)
            )
        },
        fires={MINUTE: set(), 2 * MINUTE: {"Phase5RolledBack"}, 20 * MINUTE: set()},
        spares=frozenset({"Phase5RolledBack"}),
    ),
    Scene(
        name="a rollback is not everywhere for more than a minute",
        differs={guard("open_rollbacks"): level((1, 3), (0, 4), (1, 6), (0, LONG))},
        fires={3: set(), 12: {"Phase5RollbackUnconfirmed"}, 16: set()},
        spares=frozenset({"Phase5RollbackUnconfirmed"}),
    ),
    Scene(
        name="one engine brakes what another serves",
        differs={of(ONE, "phase5_flag_braked", flag=FLAG): level((0, 4), (1, LONG))}
        | share((0, LONG)),
        fires={6: set(), 10: {"Phase5FlagBraked"}},
    ),
    Scene(
        name="all engines brake it",
        differs={
            **both("phase5_flag_braked", level((1, LONG)), flag=FLAG),
            **both("phase5_flag_percentage", NEVER, flag=FLAG),
        },
        fires={20 * MINUTE: set()},
        spares=frozenset({"Phase5FlagBraked"}),
    ),
    Scene(
        name="a lease is not renewed, and lapses",
        differs={
            of(ONE, "phase5_lease_expires_seconds"): level((900, LONG)),
            of(ONE, "phase5_lease_lapsed"): level((0, 15 * MINUTE), (1, LONG)),
            **share((1, 15 * MINUTE), (0, LONG)),
            of(TWO, "phase5_flag_percentage", flag=FLAG): NEVER,
        },
        fires={
            7 * MINUTE: set(),
            8 * MINUTE: {"Phase5LeaseEnding"},
            15 * MINUTE + 1: {"Phase5LeaseLapsed"},
            25 * MINUTE: set(),
        },
        spares=frozenset({"Phase5LeaseEnding", "Phase5LeaseLapsed"}),
    ),
    Scene(
        name="a lease lapses at full, which is frozen",
        differs={
            of(ONE, "phase5_lease_expires_seconds"): level((60, LONG)),
            of(ONE, "phase5_lease_lapsed"): level((0, MINUTE), (1, LONG)),
            **share((99, LONG)),
        },
        fires={20 * MINUTE: {"Phase5LeaseLapsed"}},
    ),
    Scene(
        name="nobody needs the lease after a rollback by hand",
        differs={
            of(ONE, "phase5_lease_expires_seconds"): level((900, LONG)),
            of(ONE, "phase5_lease_lapsed"): level((0, 15 * MINUTE), (1, LONG)),
            **share((1, 4), (0, LONG)),
        },
        fires={8 * MINUTE: set(), 14 * MINUTE: set(), 16 * MINUTE: set()},
        spares=frozenset({"Phase5LeaseEnding", "Phase5LeaseLapsed"}),
    ),
    Scene(
        name="no lease is needed at all",
        differs=both("phase5_lease_expires_seconds", level((float("nan"), LONG))),
        fires={20 * MINUTE: set()},
        spares=frozenset({"Phase5LeaseEnding", "Phase5LeaseLapsed"}),
    ),
    Scene(
        name="evidence does not count for five minutes",
        differs={guard("evidence_sound", flag=FLAG): level((0, 16), (1, 4), (0, 24), (1, LONG))},
        fires={16: set(), 20: set(), 42: {"Phase5EvidenceUnsound"}, 46: set()},
        spares=frozenset({"Phase5EvidenceUnsound"}),
    ),
    Scene(
        name="a flag is raised by hand",
        differs={of(ONE, "phase5_flag_unmanaged", flag=FLAG): level((1, 3), (0, 4), (1, LONG))},
        fires={3: set(), 8: set(), 13: {"Phase5UnmanagedRaise"}},
        spares=frozenset({"Phase5UnmanagedRaise"}),
    ),
    Scene(
        name="a flag is on hold for more than a day",
        differs=both("phase5_flag_held", level((1, days(25)), (0, days(1))), flag=FLAG),
        step=SLOWLY,
        query='group by (alertname) (ALERTS{alertname="Phase5RolloutHeld",alertstate="firing"})',
        fires={days(23): set(), days(24.5): {"Phase5RolloutHeld"}, days(25.5): set()},
        spares=frozenset({"Phase5RolloutHeld"}),
    ),
)

STUCK = 'group by (stage) (ALERTS{alertname="Phase5RolloutStuck",alertstate="firing"})'
ROLLOUT += (
    Scene(
        name="a flag stays at canary for twice its soak, then moves",
        differs=both(
            "phase5_flag_percentage", level((1, days(49)), (10, days(97)), (0, 9)), flag=FLAG
        ),
        step=SLOWLY,
        query=STUCK,
        fires={
            days(47): set(),
            days(48.5): {"canary"},
            days(50): set(),
            days(145.5): {"early"},
        },
        spares=frozenset({"Phase5RolloutStuck"}),
    ),
    Scene(
        name="what is on hold stands still on purpose",
        differs={
            **both("phase5_flag_percentage", level((1, days(60))), flag=FLAG),
            **both("phase5_flag_held", level((1, days(60))), flag=FLAG),
        },
        step=SLOWLY,
        query=STUCK,
        fires={days(50): set()},
        spares=frozenset({"Phase5RolloutStuck"}),
    ),
)

RESTARTS, RESIDENT = "phase5_runtime_restarts_total", "process_resident_memory_bytes"
GROWING = f"{1e9:g}+{165 * 40_000:g}x{LONG}"  # 40,000 bytes for each request
MACHINERY = (
    Scene(
        name="a runtime crashes once",
        differs={of(ONE, RESTARTS): counter((0, 20 * MINUTE), (1, 1), (0, 20 * MINUTE))},
        fires={20 * MINUTE + 2: set(), 20 * MINUTE + 5 * MINUTE: set()},
        spares=frozenset({"Phase5CrashLoop"}),
    ),
    Scene(
        name="a runtime crashes twice within minutes",
        differs={
            of(ONE, RESTARTS): counter(
                (0, 20 * MINUTE), (1, 1), (0, 3 * MINUTE), (1, 1), (0, 20 * MINUTE)
            )
        },
        fires={
            20 * MINUTE + 2: set(),
            20 * MINUTE + 5 * MINUTE: {"Phase5CrashLoop"},
            20 * MINUTE + 12 * MINUTE: set(),
        },
    ),
    Scene(
        name="three crashes in the fleet, one of them of an engine itself",
        differs={
            of(ONE, RESTARTS): counter((0, 20 * MINUTE), (1, 1), (0, 20 * MINUTE)),
            of(TWO, RESTARTS): counter((0, 20 * MINUTE), (1, 1), (0, 20 * MINUTE)),
            of("three:4", RESTARTS): level((0, LONG)),
            of("three:4", "phase5_start_time_seconds"): level(
                (-1e6, 20 * MINUTE), (1200, 20 * MINUTE)
            ),
            of("three:4", "phase5_unclean_starts_total"): level((0, 20 * MINUTE), (1, 20 * MINUTE)),
        },
        query='group by (instance) (ALERTS{alertname="Phase5CrashLoop",alertstate="firing"})',
        fires={20 * MINUTE - 1: set(), 20 * MINUTE + 5 * MINUTE: {"the fleet"}},
    ),
    Scene(
        name="an engine is started anew as one wishes",
        differs={
            of(ONE, "phase5_start_time_seconds"): level((-1e6, 20), (300, 20), (600, LONG)),
        },
        fires={50: set()},
        spares=frozenset({"Phase5CrashLoop"}),
    ),
    Scene(
        name="a breaker opens",
        differs={
            of(ONE, "phase5_remediation_breaker", actuator="scaling", state="open"): level(
                (0, 4), (1, 8), (0, LONG)
            )
        },
        fires={6: set(), 11: {"Phase5BreakerOpen"}, 14: set()},
        spares=frozenset({"Phase5BreakerOpen"}),
    ),
    Scene(
        name="a disk is full",
        differs={of(ONE, "phase5_rollout_state_durable"): level((0, 3), (1, 3), (0, LONG))},
        fires={4: set(), 12: {"Phase5StateNotDurable"}},
        spares=frozenset({"Phase5StateNotDurable"}),
    ),
    Scene(
        name="a configuration is refused",
        differs={
            of(ONE, "phase5_reloads_total", outcome="refused"): counter((0, 4), (1, 1), (0, LONG))
        },
        fires={3: set(), 8: {"Phase5ReloadRefused"}, 20 * MINUTE: set()},
        spares=frozenset({"Phase5ReloadRefused"}),
    ),
    Scene(
        name="each request leaves 40 KB behind",
        differs={of(ONE, "phase5_memory_bytes"): GROWING},
        step=MINUTELY,
        fires={30: set(), 2 * HOUR: {"Phase5MemoryGrows"}},
        spares=frozenset({"Phase5MemoryGrows"}),
    ),
    Scene(
        name="the front end leaks",
        differs={of(ONE, RESIDENT): GROWING},
        query='group by (process) (ALERTS{alertname="Phase5MemoryGrows",alertstate="firing"})',
        step=MINUTELY,
        fires={2 * HOUR: {"front end"}},
    ),
    Scene(
        name="an engine that has just begun warms up",
        differs={
            of(ONE, "phase5_memory_bytes"): GROWING,
            of(ONE, "phase5_start_time_seconds"): level((0, LONG)),
        },
        step=MINUTELY,
        fires={3 * HOUR: set()},
        spares=frozenset({"Phase5MemoryGrows"}),
    ),
    Scene(
        name="the store of prompts fills",
        differs={of(ONE, name): GROWING for name in ("phase5_memory_bytes", "phase5_prefix_bytes")},
        step=MINUTELY,
        fires={2 * HOUR: set()},
        spares=frozenset({"Phase5MemoryGrows"}),
    ),
    Scene(
        name="memory grows while hardly anybody asks",
        differs={
            of(ONE, "phase5_memory_bytes"): GROWING,
            of(ONE, "phase5_streams_admitted_total"): counter((0.5, LONG)),
        },
        step=MINUTELY,
        fires={2 * HOUR: set()},
        spares=frozenset({"Phase5MemoryGrows"}),
    ),
)

SCENES = (*SERVICE, *TELEMETRY, *ROLLOUT, *MACHINERY)
EVERY = {alert.name for alert in every_alert(LIMITS)}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rules for scenes of each step."""
    folder = tmp_path_factory.mktemp("rules")
    for step in (STEP, MINUTELY, SLOWLY):
        made = files(Setting(limits=LIMITS, clock=Clock(interval=step)))
        for name in (RECORDING, ALERTS):
            (folder / f"{step}.{name}").write_text(made[name])
        # Most of the time goes into what most scenes leave alone.
        groups = yaml.safe_load(made[RECORDING])["groups"]
        lean = {"groups": [group for group in groups if group["name"] == "phase5-looked-at"]}
        (folder / f"{step}.lean.{RECORDING}").write_text(yaml.safe_dump(lean))
    return folder


def tried(folder: Path, name: str, recordings: str, step: int, test: Any) -> None:
    """Let `promtool` run a test over the rules for a step."""
    document = {
        "rule_files": [f"{step}.{recordings}", f"{step}.{ALERTS}"],
        "evaluation_interval": f"{step}s",
        "tests": [test],
    }
    path = folder / f"{name}.test.json"  # JSON is YAML
    path.write_text(json.dumps(document))
    command = [program("promtool"), "test", "rules", path.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_exactly_these_alerts_fire(scene: Scene, rules: Path) -> None:
    recordings = RECORDING if scene in SERVICE else f"lean.{RECORDING}"
    tried(rules, f"scene-{SCENES.index(scene)}", recordings, scene.step, scene.document())


#: What two engines count, and what it comes to for the fleet.
COUNTED = {
    **both("phase5_streams_in_flight", level((3, LONG))),
    **both("phase5_concurrency_limit", level((50, LONG))),
    **both("phase5_connections_open", level((2, LONG)), protocol="http2"),
    **both("phase5_connections_open", level((9, LONG)), protocol="http1"),
    **both("phase5_qos_violations_total", level((4, LONG)), slo="ttft"),
    **both("phase5_remediations_total", level((1, LONG)), outcome="executed"),
    **both("phase5_remediations_total", level((7, LONG)), outcome="failed"),
    **both("phase5_output_tokens_total", counter((1500, LONG))),
    **both("phase5_warm_streams_total", counter((30, LONG)), found="hit"),
    **both("phase5_warm_streams_total", counter((10, LONG)), found="miss"),
    requests(ONE, "failed"): counter((330, LONG)),
    requests(ONE, "shed"): counter((1000, LONG)),
}
REQUIRED_VALUES = {
    "ttft_p95_ms": 522.5,  # all within 550 ms, evenly as far as the buckets tell
    "throughput_rps": 22,
    "throughput_tps": 200,
    "concurrent_streams": 6,
    "error_rate": 0.5,  # of what was answered: what was shed is no error
    "qos_violations_total": 8,
    "remediations_executed": 2,
    "http2_connections": 4,
    "ttft_pipeline_hits": 0.75,
    "pid_concurrency_limit": 100,
}


def test_the_names_of_the_requirements_mean_the_fleet(rules: Path) -> None:
    assert set(REQUIRED_VALUES) == set(REQUIRED)
    scene = Scene(name="", differs=COUNTED, fires={}).document()
    scene["promql_expr_test"] = [
        {
            "expr": f"sum(round({name}, 0.001))",
            "eval_time": "4m",
            "exp_samples": [{"labels": "{}", "value": value}],
        }
        for name, value in REQUIRED_VALUES.items()
    ]
    tried(rules, "required", RECORDING, STEP, scene)


def test_every_alert_has_a_scene_that_it_comes_near_to() -> None:
    assert set().union(*(scene.spares for scene in SCENES)) == EVERY
