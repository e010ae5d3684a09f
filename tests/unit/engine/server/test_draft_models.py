import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.models import ModelError, ModelFiles, resolve_model
from engine.server.drafts import resolve_draft


@pytest.fixture
def tiny() -> ModelFiles:
    return resolve_model("tiny")


def changed(tiny: ModelFiles, folder: Path, name: str, change: Callable[[Any], None]) -> str:
    """The same model with one of its files changed."""
    copy = folder / "other"
    shutil.copytree(tiny.path, copy)
    document = json.loads((copy / name).read_text())
    change(document)
    (copy / name).write_text(json.dumps(document))
    return str(copy)


def test_without_a_draft_model_there_is_none(tiny: ModelFiles) -> None:
    assert resolve_draft(None, tiny) is None


def test_a_model_may_draft_for_itself(tiny: ModelFiles) -> None:
    draft = resolve_draft("tiny", tiny)
    assert draft == tiny


def test_another_size_of_vocabulary_is_an_error_with_both_numbers(
    tiny: ModelFiles, tmp_path: Path
) -> None:
    other = changed(tiny, tmp_path, "config.json", lambda config: config.update(vocab_size=5000))
    with pytest.raises(ModelError) as caught:
        resolve_draft(other, tiny)
    message = str(caught.value)
    assert "runtime.speculation.draft_model" in message
    assert other in message
    assert "(5000, not 4096)" in message
    assert "'tiny'" in message


def test_ids_that_mean_other_tokens_are_an_error(tiny: ModelFiles, tmp_path: Path) -> None:
    def swap(document: Any) -> None:
        vocabulary = document["model"]["vocab"]
        first, second = list(vocabulary)[-2:]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]

    other = changed(tiny, tmp_path, "tokenizer.json", swap)
    with pytest.raises(ModelError, match="has a tokenizer of other tokens than 'tiny'"):
        resolve_draft(other, tiny)


def test_a_draft_model_that_does_not_exist_is_an_error(tiny: ModelFiles) -> None:
    with pytest.raises(ModelError, match="nosuchmodel"):
        resolve_draft("nosuchmodel", tiny)
