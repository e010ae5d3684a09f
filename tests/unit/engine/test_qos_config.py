"""D14 and D15: what the file says is what serves, and what nobody reads is an error."""

from pathlib import Path
from textwrap import dedent

import pytest

from engine.config import Config, ConfigError, load_config
from engine.core.remedies import Remedy
from engine.core.safeguards import Limits


def written(folder: Path, text: str) -> Path:
    path = folder / "runtime.yaml"
    path.write_text(dedent(text).lstrip("\n"))
    return path


def refused(folder: Path, text: str) -> str:
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value).removeprefix(f"{path}:")


def policy(remediation: str, bound: str = "max: 1", metric: str = "ttft_p95_ms") -> str:
    return f"""\
qos:
  policies:
    - name: slow
      metric: {metric}
      {bound}
      remediation:
        {remediation}
"""


def test_the_shipped_policies_throttle_and_tell() -> None:
    store = Config().qos.store()
    ttft, errors = (store[name] for name in ("default_ttft_policy", "error_rate_policy"))
    assert (ttft.slo.metric, ttft.slo.max) == ("ttft_p95_ms", 550)
    assert ttft.remedy == Remedy("throttle", factor=0.7)
    assert (errors.slo.max, errors.remedy) == (0.001, Remedy("alert"))


def test_the_numbers_of_the_safeguards_stand_in_two_places_and_agree() -> None:
    assert Config().qos.remediation.limits() == Limits()


def test_a_policy_of_before_remedies_loads_and_only_watches(tmp_path: Path) -> None:
    text = "qos: {policies: [{name: a, metric: error_rate, max: 0.1}]}\n"
    qos = load_config(written(tmp_path, text)).qos
    assert qos.store()["a"].remedy.action == "none"


def test_everything_that_a_policy_may_say_is_taken_over(tmp_path: Path) -> None:
    text = """\
        qos:
          evaluation_seconds: 2
          policies:
            - name: a
              metric: throughput_tps
              min: 50
              recovery: 60
              severity: critical
              violation_seconds: 1
              recovery_seconds: 2
              window_seconds: 3
              min_samples: 4
              remediation: {action: scale_up, step: 2}
          remediation: {dry_run: true, max_replicas: 5, loop_moves: 6}
        """
    qos = load_config(written(tmp_path, text)).qos
    found = qos.store()["a"]
    assert (found.slo.min, found.slo.recovery, found.slo.severity) == (50, 60, "critical")
    assert (found.slo.violation_seconds, found.slo.recovery_seconds) == (1, 2)
    assert (found.slo.window_seconds, found.slo.min_samples) == (3, 4)
    assert found.remedy == Remedy("scale_up", step=2)
    assert qos.remediation.dry_run
    assert qos.remediation.limits().loop_moves == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(
            policy("action: scale_down"),
            "6: qos.policies.0.remediation: policy 'slow': action 'scale_down' does not act "
            "against this violation of ttft_p95_ms; allowed: none, alert, throttle, scale_up, "
            "restart; given ",
            id="D10: makes it worse",
        ),
        pytest.param(
            policy("action: throttle", "min: 9", "throughput_tps"),
            "6: qos.policies.0.remediation: policy 'slow': action 'throttle' does not act "
            "against this violation of throughput_tps; allowed: none, alert, scale_up, restart",
            id="lowers what is too low",
        ),
        pytest.param(
            policy("action: raise_limit"),
            "7: qos.policies.0.remediation.action: Input should be 'none', 'throttle', "
            "'scale_up', 'scale_down', 'restart' or 'alert'; given 'raise_limit'",
            id="D10: no such action",
        ),
        pytest.param(
            policy("{action: throttle, target: governor}"),
            "7: qos.policies.0.remediation.target: unknown key; allowed: action, factor, step",
            id="D10: no other target",
        ),
        pytest.param(
            policy("{action: throttle, factor: 1.5}"),
            "7: qos.policies.0.remediation.factor: Input should be less than or equal to 0.9; "
            "given 1.5",
            id="a throttle that raises",
        ),
        pytest.param(
            policy("action: alert", metric="ttft"),
            "4: qos.policies.0.metric: Input should be 'ttft_p95_ms'",
            id="unknown metric",
        ),
        pytest.param(
            policy("action: alert", "{max: 1, recovery: 2}".strip("{}").replace(", ", "\n      ")),
            "3: qos.policies.0: SLO 'slow': recovery 2 is on the bad side of 1",
            id="recovery on the bad side",
        ),
        pytest.param(
            """\
            qos:
              policies:
                - {name: a, metric: error_rate, max: 1}
                - {name: b, metric: error_rate, max: 1}
                - {name: a, metric: ttft_p95_ms, max: 1}
            """,
            "2: qos.policies: policies 0 and 2 are both named 'a'",
            id="a name twice",
        ),
        pytest.param(
            "qos: {remediation: {min_replicas: 3}}\n",
            "1: qos.remediation: min_replicas 3 is above max_replicas 2",
            id="bounds crossed",
        ),
        pytest.param(
            "qos: {check_interval_ms: 5000}\n",
            "1: qos.check_interval_ms: unknown key; allowed: evaluation_seconds",
            id="D15: a key that nobody reads",
        ),
        pytest.param(
            """\
            phase4_rollout: {qos_monitoring: {enabled: true, sample_rate: 10}}
            qos: {policies: [{name: tps, metric: throughput_tps, min: 9}]}
            """,
            "policy 'tps' sums the tokens of all streams, so it needs "
            "phase4_rollout.qos_monitoring.sample_rate 1, not 10",
            id="a sum over samples",
        ),
    ],
)
def test_a_policy_that_cannot_serve_is_refused(tmp_path: Path, text: str, says: str) -> None:
    assert says in refused(tmp_path, text)
    assert "\n" not in refused(tmp_path, text)
