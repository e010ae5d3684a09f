"""Examples of files, held against what reads such files."""

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml
from doc_blocks import ROOT, Block

from engine.config import Config, packaged, parse_config
from gates.policy import GatesSection, load_policy
from gates.verdict import schema_path
from pytest_phase5.options import _OPTIONS, SUITE_INI

_TOOLS: Final = (ROOT / ".tools" / "bin", ROOT / ".tools" / "prometheus" / "usr" / "bin")


class NoClaimError(ValueError):
    """An example of something that no reader here knows."""


def check(block: Block, folder: Path) -> None:
    """Load an example as its kind of file; whatever reads it raises what it has against it.

    Raises:
        NoClaimError: nothing here reads such a file.
    """
    {"yaml": _yaml, "json": _json, "toml": _toml}[block.language](block.text, folder)


def _yaml(text: str, folder: Path) -> None:
    given = yaml.safe_load(text)
    keys = frozenset(given) if isinstance(given, dict) else frozenset()
    if isinstance(given, list) and given and all(_is_step(step) for step in given):
        _workflow(_job(given), folder)
        return
    for known, reads in _READERS:
        if keys and keys <= known:
            reads(text, folder)
            return
    raise NoClaimError(f"no reader of a file with {sorted(map(str, keys))}")


def _is_step(given: object) -> bool:
    return isinstance(given, dict) and bool({"uses", "run"} & set(given))


def _runtime(text: str, folder: Path) -> None:
    parse_config(text, folder / "runtime.yaml")


def _gates(text: str, folder: Path) -> None:
    """A part of gates.yaml is read as put into the shipped one, key by key."""
    whole = yaml.safe_load(packaged("gates.yaml").read_text("utf-8"))
    path = folder / "gates.yaml"
    path.write_text(yaml.safe_dump(_merged(whole, yaml.safe_load(text)), sort_keys=False), "utf-8")
    load_policy(path)


def _merged(whole: Any, part: Any) -> Any:
    if not (isinstance(whole, dict) and isinstance(part, dict)):
        return part
    return whole | {key: _merged(whole.get(key), value) for key, value in part.items()}


def _job(steps: list[Any]) -> str:
    job = {"runs-on": "ubuntu-latest", "steps": steps}
    return json.dumps({"on": "push", "jobs": {"example": job}})


def _workflow(text: str, folder: Path) -> None:
    _accepted(
        ["actionlint", "-no-color", "-shellcheck=", "-pyflakes="], text, folder / "workflow.yml"
    )


def _scrapes(text: str, folder: Path) -> None:
    _accepted(["promtool", "check", "config", "--syntax-only"], text, folder / "prometheus.yml")


def _rules(text: str, folder: Path) -> None:
    _accepted(["promtool", "check", "rules"], text, folder / "rules.yml")


def _accepted(command: list[str], text: str, path: Path) -> None:
    """Hold a file against a linter of others; `./dev test` brings it."""
    name, *options = command
    found = shutil.which(name) or shutil.which(name, path=":".join(map(str, _TOOLS)))
    assert found, f"{name} is missing: ./dev test brings it"
    path.write_text(text, "utf-8")
    done = subprocess.run([found, *options, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _json(text: str, _: Path) -> None:
    given = json.loads(text)
    if isinstance(given, dict) and {"verdict", "criteria"} <= set(given):
        jsonschema.validate(given, json.loads(schema_path().read_text("utf-8")))


def _toml(text: str, _: Path) -> None:
    tool = tomllib.loads(text).get("tool", {}).get("pytest", {})
    given = {key for key in tool.get("ini_options", tool) if key.startswith("phase5")}
    assert given <= ini_names(), f"pytest has no {sorted(given - ini_names())}"


def ini_names() -> set[str]:
    """The names in pytest's configuration file that the plugin reads."""
    return {option.dest for option in _OPTIONS if option.ini} | {SUITE_INI}


#: Which keys a file may have at its top, and what reads it; the first that fits.
_READERS: Final[tuple[tuple[frozenset[str | bool], Callable[[str, Path], None]], ...]] = (
    (frozenset(Config.model_fields), _runtime),
    (frozenset(GatesSection.model_fields), _gates),
    # YAML 1.1 reads the bare word `on` as true.
    (
        frozenset({"name", "on", True, "jobs", "permissions", "concurrency", "env", "defaults"}),
        _workflow,
    ),
    (frozenset({"groups"}), _rules),
    (
        frozenset({"global", "scrape_configs", "rule_files", "alerting", "remote_write"}),
        _scrapes,
    ),
)
