"""A baseline speaks for its own kind only, and calls nothing slower that may be noise."""

from pathlib import Path
from typing import Any

import pytest

from pytest_phase5.load.baseline import compared, read_baseline, strangeness, write_baseline
from pytest_phase5.load.profiles import ProfileError

KIND = {
    "machine": "linux-x86_64-2cpu",
    "model": "tiny",
    "model_sha256": "aa",
    "engine_version": "0.1.0",
    "time_scale": 1.0,
}


def document(value: float, width: float = 0.02, high: float | None = None) -> dict[str, Any]:
    low = value * (1 - width)
    q = {"share": 0.95, "value": value, "low": low, "high": high or value * (1 + width)}
    part = {"name": "p", "times_ms": {"ttft": [q], "latency": []}}
    return {**KIND, "profile": "regression", "created": "now", "commit": "c", "parts": [part]}


@pytest.mark.parametrize(
    ("now", "outcome"),
    [(100.0, "same"), (105.0, "same"), (130.0, "slower"), (80.0, "faster"), (111.0, "unclear")],
)
def test_a_quantile_is_slower_only_beyond_both_intervals_and_the_margin(
    now: float, outcome: str
) -> None:
    (found,) = compared(document(100.0), document(now))
    assert found.outcome == outcome


def test_a_part_without_times_has_nothing_to_compare() -> None:
    assert list(compared({**document(1.0), "parts": []}, document(1.0))) == []


@pytest.mark.parametrize("name", KIND)
def test_a_baseline_of_another_kind_is_refused_by_name(name: str) -> None:
    strange = strangeness(document(1.0), {**KIND, name: "other"})
    assert strange is not None
    assert repr(KIND[name]) in strange
    assert "'other'" in strange
    assert strangeness(document(1.0), KIND) is None


def test_a_baseline_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "baseline.json"
    write_baseline(path, document(1.0))
    assert strangeness(read_baseline(path), KIND) is None


@pytest.mark.parametrize("text", [None, "[]", "{}", "{", '{"schema": "other"}'])
def test_what_is_no_baseline_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "baseline.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ProfileError, match=r"baseline\.json: no"):
        read_baseline(path)
