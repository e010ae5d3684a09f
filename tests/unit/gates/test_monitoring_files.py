"""The files of Prometheus: current, made from the limits, and each alert says what it must."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from engine.config import load_config, packaged
from engine.rollout_config import LeaseSeconds
from engine.server.metrics import TTFT_BUCKETS
from gates.monitoring.alerts import every_alert
from gates.monitoring.files import ALERTS, PROMETHEUS, RECORDING, Setting, files
from gates.monitoring.machinery import LEAK
from gates.monitoring.recordings import REQUIRED
from gates.monitoring.routes import INHIBITIONS
from gates.monitoring.rules import RUNBOOK, Alert, Clock, Limits, anchor
from gates.monitoring.service import ERROR_RATE, TTFT
from gates.policy import load_policy
from gates.stages import Policy
from pytest_phase5.cli import app

ROOT = Path(__file__).resolve().parents[3]
CONFIG = load_config(packaged("runtime.yaml"))
POLICY = load_policy(packaged("gates.yaml"))
LIMITS = Limits(policy=POLICY, leases=CONFIG.rollout.lease_seconds, slos=CONFIG.qos.policies)
EVERY = list(every_alert(LIMITS))
NAMES = sorted({alert.name for alert in EVERY})
PAGE = (ROOT / RUNBOOK).read_text("utf-8")

#: A number with or without a unit of time.
NUMBER = re.compile(r"(?<![\w.])\d[\d.e+]*(?:ms|[smhd])?\b")


def made(limits: Limits = LIMITS, scale: float = 1.0, interval: float = 15.0) -> dict[str, str]:
    return files(Setting(limits=limits, clock=Clock(scale, interval)))


def with_limit(criterion: str, limit: float | None) -> Policy:
    changed = replace(POLICY.criteria[criterion], limit=limit)
    return replace(POLICY, criteria={**POLICY.criteria, criterion: changed})


def expressions(text: str) -> list[str]:
    groups = yaml.safe_load(text)["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def rule(text: str, name: str) -> dict[str, Any]:
    groups = yaml.safe_load(text)["groups"]
    found: dict[str, Any] = next(
        each for group in groups for each in group["rules"] if each.get("alert") == name
    )
    return found


def test_the_committed_files_are_those_that_the_packaged_configuration_makes() -> None:
    folder = ROOT / "config" / "prometheus"
    assert {path.name: path.read_text("utf-8") for path in folder.iterdir()} == made()


def test_the_command_writes_them_and_notices_what_is_not_current(tmp_path: Path) -> None:
    folder = tmp_path / "prometheus"
    config = ["--config", str(packaged("runtime.yaml"))]
    run = CliRunner().invoke
    stale = run(app, ["monitoring", str(folder), *config, "--check"])
    assert stale.exit_code == 1
    assert not folder.exists()
    assert run(app, ["monitoring", str(folder), *config]).exit_code == 0
    assert {path.name: path.read_text("utf-8") for path in folder.iterdir()} == made()
    assert run(app, ["monitoring", str(folder), *config, "--check"]).exit_code == 0
    (folder / ALERTS).write_text("groups: []\n")
    edited = run(app, ["monitoring", str(folder), *config, "--check"])
    assert (edited.exit_code, str(folder / ALERTS) in edited.output) == (1, True)


def test_engines_and_their_scheme_are_those_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "runtime.yaml"
    config.write_text(
        'rollout: {engines: ["https://a:1", "https://b:2"], ca: /ca.pem}\n', encoding="utf-8"
    )
    arguments = ["monitoring", str(tmp_path), "--config", str(config), "--guard", "g:3"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    engines, guard = yaml.safe_load((tmp_path / PROMETHEUS).read_text())["scrape_configs"]
    assert engines["static_configs"] == [{"targets": ["a:1", "b:2"]}]
    assert (engines["scheme"], engines["tls_config"]) == ("https", {"ca_file": "/ca.pem"})
    assert guard["static_configs"] == [{"targets": ["g:3"]}]

    config.write_text('rollout: {engines: ["https://a:1", "http://b:2"]}\n', encoding="utf-8")
    mixed = CliRunner().invoke(app, arguments)
    assert (mixed.exit_code, "rollout.engines speak http and https" in mixed.output) == (2, True)


@pytest.mark.parametrize(
    ("criterion", "limit", "alert", "wanted"),
    [
        (ERROR_RATE, 0.002, "Phase5ErrorBudgetBurnsFast", "phase5:error_ratio:rate1h > 0.0288"),
        (ERROR_RATE, 0.002, "Phase5ErrorBudgetBurnsFast", "phase5:answers:increase1h >= 105"),
        (TTFT, 0.4, "Phase5FirstTokensLate", 'le="0.4"'),
        (LEAK, 8192.0, "Phase5MemoryGrows", "> 8192"),
    ],
)
def test_a_limit_of_the_gates_is_the_alerts(
    criterion: str, limit: float, alert: str, wanted: str
) -> None:
    limits = replace(LIMITS, policy=with_limit(criterion, limit))
    assert wanted in rule(made(limits)[ALERTS], alert)["expr"]
    assert wanted not in rule(made()[ALERTS], alert)["expr"]


def test_stages_and_leases_are_the_alerts() -> None:
    stage = replace(POLICY.stages["canary"], percentage=2, soak_hours=1)
    policy = replace(POLICY, stages={**POLICY.stages, "canary": stage})
    leases = LeaseSeconds(canary=100, early=200, mid=300)
    text = made(Limits(policy=policy, leases=leases))[ALERTS]
    assert "[2h]) == 2" in rule(text, "Phase5RolloutStuck")["expr"]
    assert "time() < 50" in rule(text, "Phase5LeaseEnding")["expr"]


@pytest.mark.parametrize("criterion", [ERROR_RATE, TTFT, LEAK])
def test_a_limit_that_is_not_there_is_named(criterion: str) -> None:
    with pytest.raises(ValueError, match=f"no criterion '{criterion}' with a limit"):
        made(replace(LIMITS, policy=with_limit(criterion, None)))


def test_the_limit_on_first_tokens_is_an_edge_of_the_engines_buckets() -> None:
    assert POLICY.criteria[TTFT].limit in TTFT_BUCKETS


def test_shorter_windows_leave_the_rules_as_they_are() -> None:
    whole, short = made(), made(scale=1 / 300, interval=0.25)
    for name in (RECORDING, ALERTS):
        assert expressions(whole[name]) != expressions(short[name])
        assert [NUMBER.sub("#", text) for text in expressions(whole[name])] == [
            NUMBER.sub("#", text) for text in expressions(short[name])
        ]


def test_a_window_of_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed: 1 ms or more"):
        made(scale=1e-9)


def test_the_ten_names_of_the_requirements_are_recorded_and_not_scraped() -> None:
    assert len(REQUIRED) == 10
    (job, _) = yaml.safe_load(made()[PROMETHEUS])["scrape_configs"]
    (dropped,) = job["metric_relabel_configs"]
    assert (dropped["action"], dropped["regex"].split("|")) == ("drop", list(REQUIRED))


@pytest.mark.parametrize("alert", EVERY, ids=lambda alert: f"{alert.name} {alert.labels}")
def test_an_alert_says_what_both_numbers_and_where_to_read_on(alert: Alert) -> None:
    document = alert.document(Clock(), "https://x/")
    told = document["annotations"]
    assert document["labels"]["severity"] in {"page", "ticket"}
    assert told["summary"] and told["description"][-1] == "."  # noqa: PT018 - both are texts
    assert re.search(r"\d|\$value", told["description"]), "no number"
    assert told["runbook_url"] == f"https://x/{RUNBOOK}#{anchor(alert.name)}"


@pytest.mark.parametrize("alert", EVERY, ids=lambda alert: f"{alert.name} {alert.labels}")
def test_the_next_command_of_an_alert_is_one_of_the_programs(alert: Alert) -> None:
    filled = re.sub(r"\{\{ (if|end)[^}]*\}\}", "", alert.command)
    words = shlex.split(re.sub(r"\{\{[^}]*\}\}", "FLAG", filled))
    commands: Any = typer.main.get_command(app)
    assert words[0] == "phase5"
    command = commands.commands[words[1]]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert sorted(headings) == NAMES


@pytest.mark.parametrize("alert", EVERY, ids=lambda alert: f"{alert.name} {alert.labels}")
def test_a_section_tells_the_meaning_a_first_look_and_the_alerts_own_command(alert: Alert) -> None:
    section = PAGE.partition(f"## {alert.name}\n")[2].partition("\n## ")[0]
    for part in ("Means", "First look", "Next"):
        assert f"- **{part}** " in section
    following = section.partition("- **Next** ")[2]
    assert " ".join(alert.command.split()[:2]) in following


def test_what_is_kept_back_is_kept_back_for_alerts_that_exist() -> None:
    named = {name for each in INHIBITIONS for name in (each.cause, *each.symptoms)}
    assert named <= set(NAMES)


def test_the_page_of_monitoring_has_the_numbers_of_the_burn_rates() -> None:
    page = (ROOT / "docs/phase5/integration/05-monitoring.md").read_text("utf-8").replace(",", "")
    for text in expressions(made()[ALERTS]):
        if (found := re.search(r"answers:increase\w+ >= (\d+)", text)) is not None:
            assert f"| {found.group(1)} |" in page
