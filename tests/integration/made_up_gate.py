"""A gate's report folder about an engine that runs, with numbers that are made up."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gates.attempts import append_attempt
from gates.cli import judge_folder
from gates.evidence import Measurement, write_measurement

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "gates"))

from gate_builders import attempts, healthy


def judged(folder: Path, config: Path, status: Mapping[str, Any], *flags: str) -> Path:
    """A verdict into canary for the engine whose `/v1/status` is given: all is well.

    Args:
        folder: made here, with the evidence; `verdict.json` is put into it.
        config: the runtime.yaml by which it is judged.
        status: of the engine.
        flags: that are judged; without any, all.
    """
    folder.mkdir()
    for row in attempts(healthy(), **({"flags": flags} if flags else {})):
        append_attempt(folder / "attempts.jsonl", row)
    for measured in healthy():
        write_measurement(folder / "evidence", _of_this_engine(measured, status))
    judge_folder(folder, config=config)
    return folder / "verdict.json"


def _of_this_engine(measured: Measurement, status: Mapping[str, Any]) -> Measurement:
    identity = {
        "model_sha256": status["model"]["sha256"],
        **{key: status[key] for key in ("engine_version", "commit", "config_sha256")},
    }
    return replace(
        measured,
        machine=status["machine"],
        created=datetime.now(UTC).isoformat(),
        arms={arm: replace(engine, **identity) for arm, engine in measured.arms.items()},
    )
