"""The model that drafts, checked against the one that it drafts for."""

from typing import TYPE_CHECKING, Final

from engine.runtime.models import ModelError, ModelFiles, resolve_model

if TYPE_CHECKING:
    from engine.server.text import TextCodec

_KEY: Final = "runtime.speculation.draft_model"


def resolve_draft(name: str | None, model: ModelFiles) -> ModelFiles | None:
    """The files of the model that drafts; None where none is configured.

    Raises:
        ModelError: there is no such model, or its tokens are others than the model's.
    """
    if name is None:
        return None
    from engine.server.text import TextCodec  # tokenizers load slowly, and most have no draft model

    draft = resolve_model(name)
    if difference := _difference(TextCodec(model.path), TextCodec(draft.path)):
        raise ModelError(
            f"{_KEY} {name!r}: {difference} than {model.name!r}; "
            "a draft model has the same tokens as the model"
        )
    return draft


def _difference(model: "TextCodec", draft: "TextCodec") -> str | None:
    """How the tokens of two models differ: a draft is made of ids, which must mean the same."""
    if draft.vocab_size != model.vocab_size:
        return f"has a vocabulary of another size ({draft.vocab_size}, not {model.vocab_size})"
    if draft.vocabulary() != model.vocabulary():
        return "has a tokenizer of other tokens"
    return None
