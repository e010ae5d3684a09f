"""What the documentation states about the code holds for the code."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import yaml
from annotated_types import Ge, Gt, Le
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.config import Config, SloPolicy, load_config, packaged
from engine.core.flags import FLAGS, assigned, bucket
from engine.server.connecting import register_connections
from engine.server.connections import Connections
from engine.server.listeners import CONNECTION_STREAMS
from gates.criteria import JUDGED, JUDGED_LIVE
from gates.policy import CriterionSection
from gates.units import UNITS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CONFIGURATION = DOCS / "phase5" / "configuration"


def rows(page: Path, columns: int) -> Iterator[tuple[str, ...]]:
    """The rows of a page's tables with so many columns, without backticks."""
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
        if line.startswith("| `") and len(cells) == columns:
            yield tuple(cell.replace("`", "") for cell in cells)


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default()
    if value and isinstance(value, tuple):
        return {2: "two policies"}[len(value)]
    words = {"None": "null", "True": "true", "False": "false", "()": "[]"}
    return words.get(str(value), str(value))


def allowed(field: FieldInfo) -> str:
    bounds = {type(bound): bound for bound in field.metadata}
    if Ge in bounds and Le in bounds:
        return f"{bounds[Ge].ge} to {bounds[Le].le}"
    if Ge in bounds:
        return f"{bounds[Ge].ge} or more"
    if Gt in bounds and Le in bounds:
        return f"above {bounds[Gt].gt}, at most {bounds[Le].le}"
    if Gt in bounds:
        return f"above {bounds[Gt].gt}"
    return kind_in_words(field.annotation)


def kind_in_words(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return allowed(FieldInfo.from_annotation(kind))
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return "list"
    options = [option for option in get_args(kind) if option is not type(None)]
    if options:
        return kind_in_words(options[0])
    return {bool: "true, false", str: "text", float: "number"}[kind]


MODEL = dict(fields(Config)) | dict(fields(SloPolicy, "qos.policies.N."))
DOCUMENTED = {
    key: (given, range_)
    for key, given, range_, _ in rows(CONFIGURATION / "runtime-yaml-reference.md", 4)
}


def documented_as(key: str) -> str:
    """A key of one flag is documented by its own row, else by the row of every flag."""
    for flag in FLAGS:
        general = key.replace(f"phase4_rollout.{flag}.", "phase4_rollout.FLAG.")
        if general != key and key not in DOCUMENTED:
            return general
    return key


@pytest.mark.parametrize("key", MODEL)
def test_the_reference_gives_each_keys_default_and_range(key: str) -> None:
    assert DOCUMENTED[documented_as(key)] == (default(MODEL[key]), allowed(MODEL[key]))


def test_the_reference_names_no_key_that_is_not_there() -> None:
    assert set(DOCUMENTED) == {documented_as(key) for key in MODEL}


GATES = CONFIGURATION / "gates-yaml-reference.md"
POLICY = yaml.safe_load(packaged("gates.yaml").read_text(encoding="utf-8"))


def test_the_reference_of_gates_names_every_key_of_a_criterion() -> None:
    keys = [row[0] for row in rows(GATES, 4) if row[0] not in POLICY["criteria"]]
    assert keys == list(CriterionSection.model_fields)


def test_the_reference_of_gates_names_every_measure_with_its_units_and_kinds() -> None:
    told = {
        measure: (set(units.split(", ")) - {"-"}, set(kinds.split(", ")))
        for measure, units, kinds in rows(GATES, 3)
    }
    assert told == {
        measure.value: (
            set(UNITS.get(measure, {})),
            {kind.value for kind, measures in JUDGED.items() if measure in measures},
        )
        for measure in frozenset().union(*JUDGED.values())
    }


def test_the_reference_of_gates_names_every_live_measure_with_its_kinds() -> None:
    told = {measure: set(kinds.split(", ")) for measure, kinds in rows(GATES, 2)}
    assert told == {
        measure.value: {kind.value for kind, measures in JUDGED_LIVE.items() if measure in measures}
        for measure in frozenset().union(*JUDGED_LIVE.values())
    }


def test_the_reference_of_gates_tells_what_is_shipped() -> None:
    told = [row for row in rows(GATES, 4) if row[0] in POLICY["criteria"]]
    assert told == [
        (
            name,
            entry["kind"],
            str(entry.get("limit", entry.get("margin", "-"))),
            str(entry.get("stretch", "-")),
        )
        for name, entry in POLICY["criteria"].items()
    ]


#: The tables with four columns: what is shipped, then the vectors.
FOUR = list(rows(CONFIGURATION / "feature-flags.md", 4))
SHIPPED = [row for row in FOUR if row[1] in ("true", "false")]
VECTORS = [row for row in FOUR if row not in SHIPPED]


def test_the_flags_page_tells_what_is_shipped() -> None:
    """D22: the page called flags stable at 100 % that the configuration had disabled."""
    for config in (Config(), load_config(packaged("runtime.yaml"))):
        flags = {name: config.phase4_rollout.flag(name) for name in FLAGS}
        assert [
            (
                name,
                str(flag.enabled).lower(),
                f"{flag.rollout_percentage:g}",
                f"{flag.holdback_percentage:g}",
            )
            for name, flag in flags.items()
        ] == SHIPPED


def test_the_http2_page_names_only_metrics_that_are_there() -> None:
    page = (DOCS / "phase5" / "integration" / "03-http2-transport.md").read_text(encoding="utf-8")
    registry = CollectorRegistry()
    register_connections(registry, Connections(1.0, lambda: 0.0, set))
    served = generate_latest(registry).decode()
    named = set(re.findall(r"^\| `(phase5_\w+)\{", page, re.MULTILINE))
    assert len(named) == 6
    assert [name for name in named if f"# TYPE {name} " not in served] == []
    assert f"| {CONNECTION_STREAMS}, announced in SETTINGS" in page


def test_there_are_vectors_for_every_flag() -> None:
    assert set(FLAGS) < {salt for salt, *_ in VECTORS}


@pytest.mark.parametrize(("salt", "key", "number", "share"), VECTORS)
def test_bucketing_vectors(salt: str, key: str, number: str, share: str) -> None:
    assert bucket(salt, key) == int(number)
    assert assigned(salt, key, float(share.removesuffix(" %")))
    assert not assigned(salt, key, int(number) / 100)


def test_every_page_stands_in_the_navigation() -> None:
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"\S+\.md$", text, re.MULTILINE))
    assert named == pages


#: What somebody in a hurry looks for, and the page that has it with words of it.
SOUGHT = {
    "how to roll back now": ("runbooks/rollback-procedure.md", "phase5 rollback"),
    "why a gate holds": ("explanation/why-a-gate-holds.md", "inconclusive"),
    "how to add a criterion": ("how-to/own-criteria.md", "criteria:"),
}


@pytest.mark.parametrize("sought", SOUGHT)
def test_the_front_page_and_the_readme_lead_there_in_two_clicks(sought: str) -> None:
    name, words = SOUGHT[sought]
    page = DOCS / "phase5" / name
    assert words in page.read_text(encoding="utf-8")
    for start in (DOCS / "index.md", ROOT / "README.md"):
        first = linked(start)
        assert page in first.union(*map(linked, first)), f"from {start.name}"


def linked(page: Path) -> set[Path]:
    """The pages of ours that a page links to."""
    found = re.findall(r"\]\(([^)#:]+\.md)", page.read_text(encoding="utf-8"))
    return {(page.parent / link).resolve() for link in found}


def test_the_documentation_asks_no_other_host_for_fonts_or_scripts() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False
    assert "extra_javascript" not in settings
    for sheet in settings["extra_css"]:
        assert "//" not in (DOCS / sheet).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md"])
def test_links_to_files_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_of_the_readme_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = subprocess.run(
        [sys.executable, "-P", "-m", "pytest_phase5.cli", "--help"],
        cwd=ROOT,
        env={"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    commands = set(re.findall(r"^\| `phase5 ([a-z]+)", readme, re.MULTILINE))
    assert commands
    assert [name for name in commands if f" {name} " not in shown] == []


#: Fewer characters cannot say what these pages are for.
SHORTEST_PAGE = 2_500
#: The pages that the requirements name.
REQUIRED = {
    "integration": [
        "01-qos-integration",
        "02-ttft-pipeline",
        "03-http2-transport",
        "04-adaptive-governor",
        "05-monitoring",
    ],
    "configuration": [
        "runtime-yaml-reference",
        "feature-flags",
        "tuning-guide",
        "troubleshooting",
    ],
    "runbooks": [
        "rollout-procedure",
        "rollback-procedure",
        "monitoring-checklist",
        "incident-response",
    ],
}


@pytest.mark.parametrize(
    "page", [f"{folder}/{name}.md" for folder, names in REQUIRED.items() for name in names]
)
def test_a_required_page_is_a_real_page(page: str) -> None:
    assert len((DOCS / "phase5" / page).read_text(encoding="utf-8")) >= SHORTEST_PAGE


PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_row_belongs_to_a_table_with_a_head(page: Path) -> None:
    lines = ["", *page.read_text(encoding="utf-8").splitlines(), ""]
    begun = [
        at for at, line in enumerate(lines) if line.startswith("|") and lines[at - 1][:1] != "|"
    ]
    assert [lines[at] for at in begun if not re.fullmatch(r"\|[ :|-]+", lines[at + 1])] == []
