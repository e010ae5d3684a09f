"""The dashboards as Grafana gets them: current, readable, and with the limits of the policy."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from typer.testing import CliRunner

from engine.core.flags import FLAGS
from gates.criteria import WORST_FIRST
from gates.monitoring.recordings import REQUIRED
from gates.policy import load_policy
from gates.stages import STAGES, UNMANAGED, Policy
from pytest_phase5.cli import app
from pytest_phase5.dashboards.files import FOLDER, files, stale, write
from pytest_phase5.dashboards.panels import COLOURS, WIDTH
from pytest_phase5.dashboards.reading import asked, filled, metrics

ROOT = Path(__file__).resolve().parents[4]
POLICY = load_policy()
TEXTS = files(POLICY)
BOARDS: dict[str, dict[str, Any]] = {name: json.loads(text) for name, text in TEXTS.items()}
VALUES = {"instance": ".*", "__rate_interval": "1m"}

Panel = dict[str, Any]


def panels(board: dict[str, Any]) -> list[Panel]:
    """Without the headings of rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


EVERY = [
    pytest.param(panel, id=f"{board['uid']}: {panel['title']}")
    for board in BOARDS.values()
    for panel in panels(board)
]


def titled(board: str, title: str) -> Panel:
    (found,) = (panel for panel in panels(BOARDS[board]) if panel["title"] == title)
    return found


def steps(panel: Panel) -> list[tuple[float | None, str]]:
    given = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return [(step["value"], step["color"]) for step in given]


def test_the_committed_files_are_current() -> None:
    assert stale(ROOT / FOLDER, TEXTS) == [], "run: ./dev run phase5 dashboards"


def test_there_is_a_page_for_each_question() -> None:
    flags = {f"flag-{flag.replace('_', '-')}.json" for flag in FLAGS}
    assert set(TEXTS) == {"overview.json", "rollout.json", "chaos-and-load.json"} | flags
    assert len({board["uid"] for board in BOARDS.values()}) == len(TEXTS)


@pytest.mark.parametrize("name", TEXTS)
def test_the_kits_own_model_reads_a_dashboard_back_unchanged(name: str) -> None:
    register_default_plugins()
    read = json.loads(json.dumps(Dashboard.from_json(json.loads(TEXTS[name])), cls=JSONEncoder))
    for panel in read["panels"]:  # it writes out its own looks of a timeline
        if panel["type"] == "state-timeline":
            assert panel["fieldConfig"]["defaults"].pop("custom")
    assert read == BOARDS[name]


@pytest.mark.parametrize("name", TEXTS)
def test_panels_do_not_overlap_and_fill_their_lines(name: str) -> None:
    places = [panel["gridPos"] for panel in BOARDS[name]["panels"]]
    cells = [
        {(x, y) for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
        for p in places
    ]
    assert not any(one & other for one, other in combinations(cells, 2))
    covered = set().union(*cells)
    height = max(p["y"] + p["h"] for p in places)
    assert covered == {(x, y) for x in range(WIDTH) for y in range(height)}


@pytest.mark.parametrize("name", TEXTS)
def test_panels_have_numbers_of_their_own(name: str) -> None:
    numbers = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    titles = [panel["title"] for panel in panels(BOARDS[name])]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("panel", EVERY)
def test_a_panel_has_a_unit_legends_and_words_that_tell_what_to_do(panel: Panel) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"].split()) >= 8
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    references = [target["refId"] for target in panel["targets"]]
    assert references == sorted(set(references))
    assert all(target["legendFormat"] for target in panel["targets"])
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert len(set(legends)) == len(legends)


@pytest.mark.parametrize("name", TEXTS)
def test_queries_are_promql_on_what_can_be_chosen(name: str) -> None:
    board = BOARDS[name]
    chosen = {variable["name"] for variable in board["templating"]["list"]}
    assert chosen == {"datasource", "instance"}
    for query in asked(TEXTS[name]):
        assert metrics(filled(query.expr, VALUES)), query


@pytest.mark.parametrize("name", TEXTS)
def test_no_query_is_about_what_the_scrape_configuration_drops(name: str) -> None:
    """Recorded, the names of the requirements are a fleet's, and no engine can be chosen."""
    for query in asked(TEXTS[name]):
        assert not metrics(filled(query.expr, VALUES)) & set(REQUIRED), query


@pytest.mark.parametrize("flag", FLAGS)
def test_both_arms_of_a_flag_are_shown_in_the_same_colours_everywhere(flag: str) -> None:
    compared = [
        panel
        for panel in panels(BOARDS[f"flag-{flag.replace('_', '-')}.json"])
        if {target["legendFormat"] for target in panel["targets"]} == set(COLOURS)
    ]
    assert len(compared) >= 11
    for panel in compared:
        for target in panel["targets"]:
            value = {"treatment": "on", "control": "off"}[target["legendFormat"]]
            assert f'{flag}="{value}"' in target["expr"]
        colours = {
            override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
            for override in panel["fieldConfig"]["overrides"]
        }
        assert colours == COLOURS


def test_limits_are_those_of_the_policy() -> None:
    assert steps(titled("overview.json", "Time to first token"))[1] == (0.55, "red")
    assert steps(titled("overview.json", "Error rate"))[1] == (0.001, "red")
    assert steps(titled("rollout.json", "Time of rollbacks"))[1] == (300, "red")
    ratio = titled("flag-http2-transport.json", "TTFT P95, treatment / control")
    assert steps(ratio)[1] == (1.1, "red")
    floor = titled("chaos-and-load.json", "Completed requests a second")
    assert steps(floor) == [(None, "red"), (130, "green")]


def changed(**limits: float | None) -> Policy:
    """The policy with other limits; None takes the criterion out."""
    criteria = dict(POLICY.criteria)
    for name, value in limits.items():
        if value is None:
            del criteria[name]
        else:
            criteria[name] = replace(criteria[name], limit=value)
    return replace(POLICY, criteria=criteria)


def test_another_limit_moves_its_lines_on_every_page() -> None:
    board = json.loads(files(changed(ttft_p95_ms=0.7))["overview.json"])
    lines = {
        panel["title"]: steps(panel)[1][0]
        for panel in panels(board)
        if panel["title"] in {"TTFT P95", "Time to first token"}
    }
    assert lines == {"TTFT P95": 0.7, "Time to first token": 0.7}
    assert "First token within 700 ms" in {panel["title"] for panel in panels(board)}


def test_a_limit_between_two_edges_counts_from_the_edge_before_and_says_so() -> None:
    board = json.loads(files(changed(ttft_p95_ms=0.65))["overview.json"])
    (panel,) = (panel for panel in panels(board) if "within" in panel["title"])
    assert panel["title"] == "First token within 600 ms"
    assert 'le="0.6"' in panel["targets"][0]["expr"]


def test_a_policy_without_a_limit_draws_no_line() -> None:
    board = json.loads(files(changed(ttft_p95_ms=None, error_rate=None))["overview.json"])
    by_title = {panel["title"]: panel for panel in panels(board)}
    for title in ("Time to first token", "Error rate"):
        assert "thresholds" not in by_title[title]["fieldConfig"]["defaults"]
    assert not [title for title in by_title if "within" in title]


@pytest.mark.parametrize(
    ("title", "names"),
    [("Stage", (*STAGES, UNMANAGED)), ("Live criteria", [str(name) for name in WORST_FIRST])],
)
def test_a_timeline_knows_every_state(title: str, names: list[str]) -> None:
    (mapping,) = titled("rollout.json", title)["fieldConfig"]["defaults"]["mappings"]
    assert {option["text"] for option in mapping["options"].values()} == set(names)


def test_a_variable_without_a_value_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\$flag.* has no value"):
        filled("up{flag=~'$flag'}", VALUES)


def test_what_is_not_current_is_named(tmp_path: Path) -> None:
    assert write(tmp_path, TEXTS) == [tmp_path / name for name in TEXTS]
    assert write(tmp_path, TEXTS) == []
    assert stale(tmp_path, TEXTS) == []
    (tmp_path / "overview.json").write_text("{}")
    (tmp_path / "rollout.json").unlink()
    (tmp_path / "of-nobody.json").touch()
    names = ["of-nobody.json", "overview.json", "rollout.json"]
    assert stale(tmp_path, TEXTS) == [tmp_path / name for name in names]


def test_the_command_writes_by_ones_own_policy_and_checks(tmp_path: Path) -> None:
    (tmp_path / "runtime.yaml").write_text("generation: 1\n")
    policy = (ROOT / "config" / "gates.yaml").read_text()
    (tmp_path / "gates.yaml").write_text(policy.replace("limit: 550 ms", "limit: 700 ms"))
    folder = tmp_path / "boards"
    command = ["dashboards", str(folder), "--config", str(tmp_path / "runtime.yaml"), "--json"]
    runner = CliRunner()
    done = runner.invoke(app, command)
    assert (done.exit_code, len(json.loads(done.stdout)["written"])) == (0, 7)
    assert "First token within 700 ms" in (folder / "overview.json").read_text()
    assert runner.invoke(app, [*command, "--check"]).exit_code == 0
    (folder / "overview.json").unlink()
    found = runner.invoke(app, [*command, "--check"])
    assert (found.exit_code, len(json.loads(found.stdout)["stale"])) == (1, 1)


def test_a_policy_that_cannot_serve_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "runtime.yaml").write_text("generation: 1\n")
    (tmp_path / "gates.yaml").write_text("criteria: 7\n")
    config = str(tmp_path / "runtime.yaml")
    done = CliRunner().invoke(app, ["dashboards", str(tmp_path), "--config", config])
    assert done.exit_code == 2
    assert "gates.yaml" in done.stderr


def test_without_the_extra_the_command_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_phase5.dashboard_commands.find_spec", lambda _: None)
    done = CliRunner().invoke(app, ["dashboards", "nowhere"])
    assert done.exit_code == 1
    assert "pytest-phase5[grafana]" in done.stderr


def test_the_program_does_not_load_the_kit_until_it_is_asked() -> None:
    code = "import sys, pytest_phase5.cli; sys.exit('grafana_foundation_sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False, cwd=ROOT).returncode == 0


def provisioned() -> Iterator[tuple[str, Any]]:
    for kind, name in (("datasources", "prometheus.yaml"), ("dashboards", "phase5.yaml")):
        path = ROOT / "config" / "grafana" / "provisioning" / kind / name
        yield kind, yaml.safe_load(path.read_text(encoding="utf-8"))


def test_provisioning_names_the_server_and_the_folder_by_the_environment() -> None:
    given = dict(provisioned())
    (source,) = given["datasources"]["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert source["url"] == "${PHASE5_PROMETHEUS_URL}"
    (provider,) = given["dashboards"]["providers"]
    assert provider["options"]["path"] == "${PHASE5_DASHBOARDS}"
