"""What is written is what Prometheus and Alertmanager take, and alerts reach whom they should."""

import subprocess
from pathlib import Path

import pytest
from monitored import program

FOLDER = Path(__file__).resolve().parents[2] / "config" / "prometheus"
ALERTMANAGER = str(FOLDER / "alertmanager.yml")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_its_configuration_and_the_rules() -> None:
    said = run(program("promtool"), "check", "config", str(FOLDER / "prometheus.yml"))
    assert "2 rule files found" in said


def test_alertmanager_takes_its_configuration_and_no_secret_is_in_it() -> None:
    said = run(program("amtool"), "check-config", ALERTMANAGER)
    assert "2 receivers" in said
    text = Path(ALERTMANAGER).read_text("utf-8")
    assert ("https://" in text, "api_url:" in text, "routing_key:" in text) == (False,) * 3


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (("severity=page", "alertname=Phase5GuardAbsent"), "pagerduty,slack"),
        (("severity=page", "alertname=Phase5CrashLoop", "instance=one:1"), "pagerduty,slack"),
        (("severity=ticket", "alertname=Phase5RolledBack", "flag=ttft_pipeline"), "slack"),
        (("alertname=SomebodyElses",), "slack"),
    ],
)
def test_pages_wake_somebody_and_everything_is_written_down(
    labels: tuple[str, ...], receivers: str
) -> None:
    command = (program("amtool"), "config", "routes", "test", f"--config.file={ALERTMANAGER}")
    run(*command, f"--verify.receivers={receivers}", *labels)
