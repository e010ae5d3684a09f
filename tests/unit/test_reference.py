"""The reference is made from the code: it has everything that there is, and a meaning for each."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import reference
import reference_commands
import reference_metrics
import reference_modules
import reference_plugin
import reference_states
import reference_tables
import reference_verdict
import yaml
from doc_blocks import ROOT, pages
from prometheus_client import CollectorRegistry, Counter, generate_latest

from engine.core.registry import TRANSITIONS
from gates.guarding.metrics import GuardMetrics
from gates.stages import TABLE
from gates.verdict import schema_path
from pytest_phase5 import hooks
from pytest_phase5.markers import _MARKERS
from pytest_phase5.options import _OPTIONS


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_page_asks_for_what_there_is_and_all_of_it_is_asked_for() -> None:
    text = "\n".join(path.read_text("utf-8") for path in pages())
    asked = {found[1] for found in reference._MARK.finditer(text)}
    assert asked == set(reference.REFERENCES)


def test_the_site_is_built_with_the_hook_and_without_its_code() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    assert settings["hooks"] == ["docs/hooks/reference.py"]
    assert settings["exclude_docs"].strip() == "hooks/"


def test_a_page_gets_what_it_asks_for_and_one_that_asks_for_nothing_stays() -> None:
    page = "# Verdict\n\n<!-- reference: markers -->\n\nEnd\n"
    made = reference.on_page_markdown(page, page=None)
    assert made == f"# Verdict\n\n{reference_plugin.markers()}\n\nEnd\n"
    quoted = "`<!-- reference: NAME -->` is replaced\n"
    assert reference.rendered(quoted) == quoted


def test_a_page_that_asks_for_what_is_not_there_fails_the_build() -> None:
    with pytest.raises(KeyError, match="unheard-of"):
        reference.rendered("<!-- reference: unheard-of -->")


@pytest.mark.parametrize(
    "name", [name for name in reference.REFERENCES if name not in {"modules", "api"}]
)
def test_nothing_is_without_a_meaning(name: str) -> None:
    made = reference.REFERENCES[name]()
    assert [row for row in rows(made) if not row[-1] and "---" not in row] == []


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (reference_plugin.markers(), list(_MARKERS)),
        (
            reference_plugin.fixtures(),
            ["mlx_engine", "engine_pair", "engines", "load", "faults", "evidence"],
        ),
        (
            reference_plugin.options(),
            [f"--phase5-{option.name}" for option in _OPTIONS] + ["phase5_suite"],
        ),
        (reference_plugin.hooks(), [name for name in vars(hooks) if name.startswith("pytest_p")]),
        (
            reference_verdict.criteria(),
            list(yaml.safe_load((ROOT / "config" / "gates.yaml").read_text("utf-8"))["criteria"]),
        ),
    ],
    ids=["markers", "fixtures", "options", "hooks", "criteria"],
)
def test_everything_that_there_is_has_its_row(made: str, names: list[str]) -> None:
    told = [" ".join(row) for row in rows(made)]
    assert [name for name in names if not any(f"{name}" in row for row in told)] == []
    assert len(told) == len(names)


def test_an_option_that_comes_has_a_row_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    new = _OPTIONS[0]._replace(name="brand-new", help="does more")
    monkeypatch.setattr(reference_plugin, "_OPTIONS", (*_OPTIONS, new))
    assert "| `--phase5-brand-new STAGE` | none | does more |" in reference_plugin.options()


def test_the_fixtures_say_what_a_test_is_given() -> None:
    given = {row[0]: row[1] for row in rows(reference_plugin.fixtures())}
    assert given["`engine_pair`"] == "`EnginePair`"
    assert given["`faults`"] == "`Faults`"
    assert given["`load`"] == "`Callable[[], ProfileResult]`"


def test_every_command_has_a_section_with_its_parameters_and_statuses() -> None:
    sections = dict(
        part.split("\n", 1) for part in reference_commands.commands().split("## phase5 ")[1:]
    )
    assert {"serve", "gate judge", "load run", "rollback"} <= set(sections)
    for name, command in reference_commands.leaves():
        section = sections[name.removeprefix("phase5 ")]
        missing = [p.name for p in command.params if f"{p.opts[0]}" not in section.lower()]
        assert missing == []
        assert re.search(r"^Exit status: \S", section, re.MULTILINE)


@pytest.mark.parametrize(
    ("help_", "statuses"),
    [
        ("Do it.", "0 done, 1 error, 2 usage or configuration"),
        ("Do it; exit 0 when it passed.", "0 when it passed, else 1; 2 usage or configuration"),
        ("Say it; exit 0 same, else 1.", "0 same, else 1; 2 usage or configuration"),
        ("Judge; exit 0 promote, 10 hold.", "0 promote, 10 hold; 2 usage or configuration"),
        ("Write; exit 1 without one.", "0 done, 1 without one; 2 usage or configuration"),
    ],
)
def test_the_statuses_are_those_of_the_help(help_: str, statuses: str) -> None:
    assert reference_commands.exits(help_) == statuses


def names_served(registry: CollectorRegistry) -> set[str]:
    text = generate_latest(registry).decode()
    return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


def test_every_metric_that_is_served_has_its_row() -> None:
    told = {row[0].strip("`") for row in rows(reference_metrics.guard_metrics())}
    served = {name for name in names_served(GuardMetrics().registry) if not created(name)}
    assert told == served
    engine = {row[0].strip("`") for row in rows(reference_metrics.engine_metrics())}
    assert {"ttft_p95_ms", "phase5_requests_total", "phase5_slo_value"} <= engine


def created(name: str) -> bool:
    """A series that the library adds to each counter, unless it is told not to."""
    return name.endswith("_created")


def test_a_metric_without_children_still_tells_its_labels() -> None:
    registry = CollectorRegistry()
    Counter("met", "Meetings", ("who", "where"), registry=registry)
    assert "| `met_total` | counter | `who`, `where` | Meetings |" in reference_metrics.families(
        registry
    )


def test_every_field_of_the_schema_has_its_row() -> None:
    told = [row[0].strip("`").split(".")[-1].removesuffix("[]") for row in rows(verdict_table())]
    schema = json.loads(schema_path().read_text("utf-8"))
    assert set(property_names(schema)) == set(told)


def verdict_table() -> str:
    return reference_verdict.verdict()


def property_names(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from node.get("properties", {})
        for below in node.values():
            yield from property_names(below)
    elif isinstance(node, list):
        for below in node:
            yield from property_names(below)


class Drawn(HTMLParser):
    """The words of a drawing, and how many lines it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.lines = 0
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.lines += tag == "path" and ("marker-end", "url(#tip)") in attrs


def test_the_drawing_of_the_stages_has_every_state_and_every_way_out_of_it() -> None:
    drawn = Drawn(reference_states.stages())
    moves = [(s, m.to, e) for s, each in TABLE.items() for e, m in each.items() if m.to != s]
    assert set(TABLE) <= set(drawn.words)
    assert drawn.lines == len(moves)
    assert drawn.words.count("rollback") == sum(event == "rollback" for *_, event in moves)


def test_the_drawing_of_a_stream_has_every_state() -> None:
    drawn = Drawn(reference_states.streams())
    assert {state.value for state in TRANSITIONS} <= set(drawn.words)
    assert drawn.lines == sum(map(len, TRANSITIONS.values()))


def test_every_module_stands_in_the_list_with_what_it_is() -> None:
    for package in ("engine", "gates", "chaos", "pytest_phase5"):
        told = {row[0].strip("`"): row[1] for row in rows(reference_modules.modules(package))}
        assert f"{package}" in told
        assert all(told.values())
    assert "pytest_phase5.project.tests.test_slo" not in told


def test_the_api_of_a_package_is_the_modules_in_it() -> None:
    asked = reference_modules.api("engine.core").split()
    assert "engine.core.admission" in asked
    assert set(asked) - {":::"} == {
        f"engine.core.{path.stem}"
        for path in (ROOT / "engine" / "core").glob("*.py")
        if path.stem != "__init__"
    }


def test_a_table_keeps_its_cells_whatever_stands_in_them() -> None:
    made = reference_tables.table(("a", "b"), [("x | y", "two\nlines")])
    assert made.splitlines()[2] == "| x \\| y | two lines |"


def test_what_has_no_docstring_cannot_be_told() -> None:
    with pytest.raises(ValueError, match="no docstring"):
        reference_tables.first(None)
