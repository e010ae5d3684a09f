"""OpenAI's objects, as this engine sends them. The OpenAPI document is made from these classes."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

FinishReason = Literal["stop", "length"]


class PromptDetails(Struct, frozen=True, kw_only=True):
    """`cached_tokens` of the prompt came from the prefix store."""

    cached_tokens: int


class TokenCounts(Struct, frozen=True, kw_only=True):
    """OpenAI's usage. The prompt counts once, however many choices were made from it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Alternative(Struct, frozen=True, kw_only=True):
    """A token that might have been drawn."""

    token: str
    logprob: float
    data: list[int] = field(name="bytes")


class TokenLogprob(Struct, frozen=True, kw_only=True):
    """A token that was drawn, and the best ones at its place."""

    token: str
    logprob: float
    data: list[int] = field(name="bytes")
    top_logprobs: list[Alternative]


class ChatLogprobs(Struct, frozen=True, kw_only=True):
    """The tokens whose text begins in this message or chunk."""

    content: list[TokenLogprob]
    refusal: None = None


class AssistantMessage(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Struct, frozen=True, kw_only=True):
    """One answer of a chat."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """The answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenCounts


class Delta(Struct, frozen=True, kw_only=True):
    """What a chunk adds to a message."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(Struct, frozen=True, kw_only=True):
    """A part of one answer of a chat."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(Struct, frozen=True, kw_only=True):
    """One event of a streamed chat. `usage` is there when asked for, null before the last one."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: TokenCounts | UnsetType | None = UNSET


class TextLogprobs(Struct, frozen=True, kw_only=True):
    """The legacy form: parallel lists. Offsets count characters of the choice's text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Struct, frozen=True, kw_only=True):
    """One completion."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason


class TextCompletion(Struct, frozen=True, kw_only=True):
    """The answer of `POST /v1/completions`."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: TokenCounts


class TextChunkChoice(Struct, frozen=True, kw_only=True):
    """A part of one completion."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class TextChunk(Struct, frozen=True, kw_only=True):
    """One event of a streamed completion. `usage` as for chats."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChunkChoice]
    usage: TokenCounts | UnsetType | None = UNSET


class ModelCard(Struct, frozen=True, kw_only=True):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Problem(Struct, frozen=True, kw_only=True):
    """What is wrong: `param` names the field where one is, `code` is for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """The body of every answer that is an error, and the event of a stream that fails."""

    error: Problem


class Live(Struct, frozen=True, kw_only=True):
    """The answer of `GET /livez`."""

    live: bool


class ReadyState(Struct, frozen=True, kw_only=True):
    """The answer of `GET /readyz`."""

    ready: bool


class Reloaded(Struct, frozen=True, kw_only=True):
    """The answer of `POST /admin/reload`: `needs_restart` names sections that changed in vain."""

    reloaded: bool
    generation: int
    needs_restart: list[str]


class Draining(Struct, frozen=True, kw_only=True):
    """The answer of `POST /admin/drain`."""

    draining: bool
    streams_in_flight: int
