"""What Prometheus might see, and which alerts fire of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: Seconds between two samples: as in earnest, and where a scene takes hours or days.
STEP: Final = 15
MINUTELY: Final = 60
SLOWLY: Final = 1800

ENGINES: Final = ("one:1", "two:2")
FLAGS: Final = ("adaptive_governor", "http2_transport", "ttft_pipeline", "qos_monitoring")

#: The flag at canary in every scene.
FLAG: Final = "ttft_pipeline"

#: Samples of any scene, at least.
LONG: Final = 420

#: Which alerts fire.
FIRING: Final = 'group by (alertname) (ALERTS{alertstate="firing"})'

Series = dict[str, str]


def level(*parts: tuple[float, int]) -> str:
    """A gauge: values, and for how many samples each."""
    return " ".join(f"{value}+0x{samples - 1}" for value, samples in parts)


def counter(*parts: tuple[float, int]) -> str:
    """A counter from 0: how much it rises each sample, and for how many samples."""
    written, value = [], 0.0
    for rise, samples in parts:
        written.append(f"{value + rise:g}+{rise:g}x{samples - 1}")
        value += rise * samples
    return " ".join(["0", *written])


def of(engine: str, name: str, **labels: str) -> str:
    return _series(name, job="phase5-engines", instance=engine, **labels)


def guard(name: str, **labels: str) -> str:
    return _series(f"phase5_guard_{name}", job="phase5-guard", instance="guard:3", **labels)


def requests(engine: str, outcome: str = "ok", *, treated: bool = False) -> str:
    arms = {flag: "on" if treated and flag == FLAG else "off" for flag in FLAGS}
    return of(engine, "phase5_requests_total", outcome=outcome, protocol="http1", **arms)


def ttft(engine: str, edge: str) -> str:
    return of(engine, "phase5_time_to_first_token_seconds_bucket", le=edge)


def _series(name: str, **labels: str) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inside}}}"


def sound(step: int) -> Series:
    """Two engines that serve a flag at canary, and a guard: nothing is wrong."""
    series: Series = {}
    for engine in ENGINES:
        series |= _engine(engine, step)
    steady = {"notifications_failed_total": 0, "open_rollbacks": 0}
    series |= {guard(name): level((value, LONG)) for name, value in steady.items()}
    series[guard("last_poll_timestamp_seconds")] = f"0+{step}x{LONG}"
    series[guard("evidence_sound", flag=FLAG)] = level((1, LONG))
    series[guard("rollbacks_total", flag=FLAG, cause="verdict")] = level((0, LONG))
    return series


def _engine(engine: str, step: int) -> Series:
    steady: Mapping[str, float] = {
        of(engine, "up"): 1,
        of(engine, "phase5_slo_value", slo="ttft"): 90,
        of(engine, "phase5_slo_violated", slo="ttft"): 0,
        of(engine, "phase5_flag_percentage", flag=FLAG): 1,
        of(engine, "phase5_flag_braked", flag=FLAG): 0,
        of(engine, "phase5_flag_held", flag=FLAG): 0,
        of(engine, "phase5_flag_unmanaged", flag=FLAG): 0,
        of(engine, "phase5_lease_lapsed"): 0,
        of(engine, "phase5_runtime_restarts_total"): 0,
        of(engine, "phase5_unclean_starts_total"): 0,
        of(engine, "phase5_start_time_seconds"): -1e6,  # long before the scene
        of(engine, "phase5_remediation_breaker", actuator="scaling", state="open"): 0,
        of(engine, "phase5_rollout_state_durable"): 1,
        of(engine, "phase5_reloads_total", outcome="refused"): 0,
        of(engine, "process_resident_memory_bytes"): 1e8,
        of(engine, "phase5_memory_bytes"): 5e8,
        of(engine, "phase5_prefix_bytes"): 1e8,
        of(engine, "phase5_replicas", state="ready"): 1,
        requests(engine, "failed"): 0,
        requests(engine, "cut"): 0,
        requests(engine, "failed", treated=True): 0,
    }
    rising: Mapping[str, float] = {
        requests(engine): 150,
        requests(engine, treated=True): 15,
        ttft(engine, "0.55"): 165,
        ttft(engine, "+Inf"): 165,
        of(engine, "phase5_streams_admitted_total"): 165,
    }
    return {
        **{name: level((value, LONG)) for name, value in steady.items()},
        **{name: counter((rise, LONG)) for name, rise in rising.items()},
        of(engine, "phase5_lease_expires_seconds"): f"900+{step}x{LONG}",
    }


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What differs from the sound world, and which alerts fire when.

    Attributes:
        name: of the test.
        differs: series that are others than in the sound world.
        gone: what the names of series begin with that are not there at all.
        fires: by samples from the beginning; each is all that fires then.
        spares: alerts that this comes near to, and that have to stay quiet.
        query: what is asked; what it gives is told by one label.
        step: seconds between samples.
    """

    name: str
    differs: Series = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    fires: Mapping[int, set[str]]
    spares: frozenset[str] = frozenset()
    query: str = FIRING
    step: int = STEP

    def document(self) -> dict[str, Any]:
        """As a test of `promtool`."""
        left = {
            k: v
            for k, v in (sound(self.step) | self.differs).items()
            if not k.startswith(self.gone)
        }
        label = self.query.partition("(")[2].partition(")")[0]
        return {
            "interval": f"{self.step}s",
            "input_series": [{"series": name, "values": v} for name, v in left.items()],
            "promql_expr_test": [
                {
                    "expr": self.query,
                    "eval_time": f"{at * self.step}s",
                    "exp_samples": [
                        {"labels": f'{{{label}="{name}"}}', "value": 1} for name in sorted(names)
                    ],
                }
                for at, names in self.fires.items()
            ],
        }
