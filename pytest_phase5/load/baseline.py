"""A recorded baseline, and how a later run stands to it.

A baseline speaks only for the machine class, model and engine version that it was recorded
on; against anything else it is refused by name. Two runs at different times share no noise,
so each quantile keeps its own interval: what is confidently worse lies beyond both.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pytest_phase5.load.profiles import ProfileError

BASELINE_SCHEMA: Final = "phase5.load-baseline/1"
#: How much slower a quantile may be: the margin that the nightly comparison allows.
MARGIN: Final = 1.10
#: What must be the same on both sides, and what it is called.
_SAME: Final = {
    "machine": "machine class",
    "model": "model",
    "model_sha256": "model",
    "engine_version": "engine version",
    "time_scale": "time scale",
}
#: The times that are compared.
_TIMES: Final = ("ttft", "latency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One quantile of one part against its baseline: `same`, `slower`, `faster` or `unclear`."""

    part: str
    time: str
    share: float
    before: float  #: milliseconds, as `now`
    now: float
    outcome: str

    def row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return asdict(self)


def write_baseline(path: Path, document: Mapping[str, Any]) -> None:
    """Record the document of a run. It replaces an earlier one at once or not at all."""
    kept = {name: document[name] for name in (*_SAME, "profile", "created", "commit", "parts")}
    partial = path.with_suffix(".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps({"schema": BASELINE_SCHEMA, **kept}, indent=1), encoding="utf-8")
    partial.replace(path)


def read_baseline(path: Path) -> dict[str, Any]:
    """Read a baseline back.

    Raises:
        ProfileError: there is none, or it is not one; it says how one is recorded.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != BASELINE_SCHEMA:
            raise ValueError(f"schema {document['schema']!r}; allowed: {BASELINE_SCHEMA!r}")  # noqa: TRY301 - one refusal for all
    except OSError as error:
        raise ProfileError(
            f"{path}: no baseline ({error.strerror}); "
            "`phase5 load run regression --record` makes one"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ProfileError(f"{path}: not a baseline: {error}") from error
    return dict(document)


def strangeness(baseline: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
    """Why a baseline does not speak for what is measured now; None when it does."""
    for name, called in _SAME.items():
        if name in facts and baseline.get(name) != facts[name]:
            return (
                f"the baseline is of another {called}: {baseline.get(name)!r}, "
                f"this is {facts[name]!r}; record one here with --record"
            )
    return None


def compared(baseline: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[Comparison]:
    """Each quantile of a document beside the baseline's."""
    before = {part["name"]: part for part in baseline["parts"]}
    for part in document["parts"]:
        for time in _TIMES:
            # A part without any time, on either side, has nothing to compare.
            earlier = before.get(part["name"], {}).get("times_ms", {}).get(time, [])
            for old, new in zip(earlier, part["times_ms"][time], strict=False):
                yield Comparison(
                    part=part["name"],
                    time=time,
                    share=new["share"],
                    before=old["value"],
                    now=new["value"],
                    outcome=_outcome(old, new),
                )


def _outcome(old: Mapping[str, float | None], new: Mapping[str, float | None]) -> str:
    """Bounds that these samples cannot give decide nothing."""
    old_low, old_high, new_low, new_high = old["low"], old["high"], new["low"], new["high"]
    if old_high is not None and new_low is not None and new_low > MARGIN * old_high:
        return "slower"
    if old_low is not None and new_high is not None and new_high * MARGIN < old_low:
        return "faster"
    if old_low is not None and new_high is not None and new_high <= MARGIN * old_low:
        return "same"
    return "unclear"
