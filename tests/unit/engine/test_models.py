import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runtime import models
from engine.runtime.models import ModelError, cache_folder, list_models, resolve_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("PHASE5_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (path / name).write_text("{}")
    return path


def test_tiny_is_built_once_and_then_reused(capsys: pytest.CaptureFixture[str]) -> None:
    first = resolve_model("tiny")
    assert "tiny is ready" in capsys.readouterr().err
    built = (first.path / "model.safetensors").stat()
    assert resolve_model("tiny") == first
    assert (first.path / "model.safetensors").stat() == built
    assert capsys.readouterr().err == ""
    assert first.builtin


def test_tiny_is_the_same_model_wherever_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = resolve_model("tiny")
    monkeypatch.setenv("PHASE5_CACHE", str(tmp_path / "elsewhere"))
    there = resolve_model("tiny")
    assert there.path != here.path
    assert there.sha256 == here.sha256


def test_nothing_but_the_model_stays_in_the_cache(cache: Path) -> None:
    resolve_model("tiny")
    assert sorted(path.name for path in (cache / "models").iterdir()) == [".tiny.lock", "tiny-1"]


def test_a_damaged_cache_and_leftovers_of_a_killed_build_are_replaced(cache: Path) -> None:
    model = resolve_model("tiny")
    (model.path / "tokenizer.json").unlink()
    leftover = cache / "models" / ".tiny-1.abc.part"
    leftover.mkdir()
    assert [m.cached for m in list_models() if m.name == "tiny"] == [False]
    assert resolve_model("tiny") == model
    assert not leftover.exists()


def test_processes_that_build_at_once_agree() -> None:
    program = "from engine.runtime.models import resolve_model; print(resolve_model('tiny').sha256)"

    async def one() -> tuple[bytes, bytes]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return await process.communicate()

    async def all_at_once() -> list[tuple[bytes, bytes]]:
        return await asyncio.gather(*(one() for _ in range(3)))

    answers = asyncio.run(all_at_once())
    assert len({out for out, _ in answers}) == 1
    assert answers[0][0].strip()
    assert sum(b"is ready" in err for _, err in answers) == 1


def test_resolving_imports_nothing_of_mlx_or_transformers() -> None:
    program = (
        "import sys; from engine.runtime.models import resolve_model; resolve_model('tiny');"
        "print({m.split('.')[0] for m in sys.modules} & {'mlx', 'mlx_lm', 'transformers'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"set()"


@pytest.mark.parametrize("name", ["", "nosuchname", "./missing", "/no/such/dir", "a/b/c", "../x"])
def test_an_unknown_name_is_one_line_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_model(name)
    message = str(caught.value)
    assert repr(name) in message
    assert "smollm2-135m, tiny" in message
    assert "org/name" in message
    assert "\n" not in message


def test_a_folder_is_taken_as_it_is(folder: Path) -> None:
    model = resolve_model(str(folder))
    assert (model.path, model.builtin) == (folder, False)


@pytest.mark.parametrize("gone", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_names_itself_and_what_is_missing(folder: Path, gone: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(ModelError) as caught:
        resolve_model(str(folder))
    assert str(folder) in str(caught.value)
    assert gone.replace("model.", "*.") + " missing" in str(caught.value)


def test_the_digest_follows_contents_and_nothing_else(folder: Path) -> None:
    first = resolve_model(str(folder)).sha256
    (folder / "README.md").write_text("not part of the model")
    assert resolve_model(str(folder)).sha256 == first
    (folder / "model.safetensors").write_text("other weights")
    assert resolve_model(str(folder)).sha256 != first


def test_the_digest_is_not_computed_again_for_untouched_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolve_model(str(folder)).sha256

    def hashed_again(_files: list[Path]) -> str:
        raise AssertionError

    monkeypatch.setattr(models, "_hash", hashed_again)
    assert resolve_model(str(folder)).sha256 == first
    os.utime(folder / "config.json", ns=(1, 1))
    with pytest.raises(AssertionError):
        resolve_model(str(folder))


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"stamp": 1}'])
def test_a_damaged_note_of_the_digest_costs_only_time(folder: Path, cache: Path, note: str) -> None:
    first = resolve_model(str(folder)).sha256
    [kept] = (cache / "digests").iterdir()
    kept.write_text(note)
    assert resolve_model(str(folder)).sha256 == first
    assert json.loads(kept.read_text())["sha256"] == first


def test_an_unusable_cache_is_one_line(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"'tiny' cannot be built: .*cache"):
        resolve_model("tiny")


def test_a_hub_that_does_not_answer_is_one_line() -> None:
    program = (
        "from engine.runtime.models import ModelError, resolve_model\n"
        "try: resolve_model('org/name')\n"
        "except ModelError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache_folder())},
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = done.stdout.splitlines()
    assert line.startswith("model 'org/name': no such folder, and the Hugging Face hub")


def test_listing_builds_nothing(cache: Path) -> None:
    assert [(m.name, m.cached, m.sha256) for m in list_models()] == [
        ("smollm2-135m", False, None),
        ("tiny", False, None),
    ]
    assert not cache.exists()


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PHASE5_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "phase5"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "phase5"
