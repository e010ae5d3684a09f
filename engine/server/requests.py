"""OpenAI requests: read, checked, and turned into a `Job` for the runtime.

Every mistake names its field. A parameter that would change the answer and that this
engine does not have is refused; passing over it would answer a different question.
"""

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Meta

from engine.runtime.messages import Sampling
from engine.server.errors import ApiError, bad_request
from engine.server.text import TextError

#: Tokens generated when the request does not say: long enough for an answer to a question.
DEFAULT_MAX_TOKENS: Final = 512
#: OpenAI allows 4 stop strings; more cost time for every token of the stream.
MAX_STOPS: Final = 16
#: Seeds are cut to 63 bits, so that every msgpack and array type holds them.
SEED_MASK: Final = 2**63 - 1

#: Parameters that we do not have, with the values that ask for nothing.
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}
#: Parameters that do not bear on the text.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "safety_identifier",
        "service_tier",
        "store",
    }
)


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`include_usage` adds a last chunk with the token counts."""

    include_usage: bool = False


class _Part(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="text",
):
    text: str


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn of a conversation; content in parts must be text."""

    role: str
    content: str | list[_Part] | None = None
    name: str | None = None

    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


_Count = Annotated[int, Meta(ge=1)]
_Natural = Annotated[int, Meta(ge=0)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_Share = Annotated[float, Meta(ge=0, le=1)]


class _Generate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What chat and plain completions share."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: _Natural | None = None
    min_p: _Share | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    user: str | None = None
    ignore_eos: bool | None = None
    min_tokens: _Natural | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None


class ChatRequest(_Generate, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: _Count | None = None


class CompletionRequest(_Generate, frozen=True, kw_only=True):
    """The body of `POST /v1/completions`."""

    prompt: str | list[str | int | list[int]]


class Encoder(Protocol):
    """What tokenising a request needs; `text.TextCodec` is the real one."""

    @property
    def context_length(self) -> int:
        """Tokens of prompt and output together."""

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """Tokens of a conversation under the model's chat template; raises `TextError`."""

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request that may be served: tokenised and within the context."""

    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    seed: int
    stops: tuple[str, ...]
    min_tokens: int
    ignore_eos: bool
    stream: bool
    include_usage: bool


RequestT = TypeVar("RequestT", ChatRequest, CompletionRequest)


def parse(body: bytes, kind: type[RequestT]) -> RequestT:
    """Read a body.

    Raises:
        ApiError: 400 that names the field, for invalid JSON, a wrong type or range, an
            unknown field, or a parameter that this engine does not have.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(document, dict):
        raise bad_request("the body must be a JSON object", code="invalid_json")
    try:
        return msgspec.convert(_supported(document), kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None


def plan(request: ChatRequest | CompletionRequest, codec: Encoder, drawn_seed: int) -> Job:
    """Tokenise a request and check it against the model.

    `drawn_seed` serves when the request gives none: a replay needs one.

    Raises:
        ApiError: 400 for an empty or impossible prompt, 422 when it does not fit into the context.
    """
    prompt = _prompt_tokens(request, codec)
    seed = drawn_seed if request.seed is None else request.seed
    return Job(
        prompt=prompt,
        max_tokens=_max_tokens(request, len(prompt), codec.context_length),
        sampling=_sampling(request),
        seed=seed & SEED_MASK,
        stops=_stops(request.stop),
        min_tokens=request.min_tokens or 0,
        ignore_eos=bool(request.ignore_eos),
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
    )


def assignment_key(
    header: str | None, request: ChatRequest | CompletionRequest, request_id: str
) -> str:
    """The key that decides a stream's flags.

    The first that is there of: the header, the user, the conversation's beginning, the
    request's id. A conversation is known by its messages up to the first of the user, so
    that all its turns run through the same arm.
    """
    if header or request.user:
        return header or request.user or ""
    if isinstance(request, CompletionRequest):
        return request_id
    digest = blake2b(digest_size=16)
    for message in request.messages:
        digest.update(f"{message.role}\0{message.text()}\0".encode())
        if message.role == "user":
            break
    return digest.hexdigest()


def _supported(document: dict[str, Any]) -> dict[str, Any]:
    """The document without what has no effect; refuses what would have one."""
    for name, neutral in _NEUTRAL.items():
        given = document.get(name)
        if given is not None and given not in neutral:
            raise bad_request(
                f"{name} is not supported by this engine; leave it out",
                name,
                "unsupported_parameter",
            )
    return {
        name: value
        for name, value in document.items()
        if name not in _NEUTRAL and name not in _WITHOUT_EFFECT
    }


def _explained(message: str) -> ApiError:
    """A validation message of msgspec as an error with its field, such as `messages[0].role`."""
    text, _, path = message.partition(" - at `$")
    field = path.removesuffix("`").lstrip(".")
    named = re.search(r"(?:unknown field|missing required field) `(.+)`", text)
    if named:
        field = f"{field}.{named[1]}" if field else named[1]
    return bad_request(f"{field}: {text}" if field else text, field or None, "invalid_value")


def _prompt_tokens(request: ChatRequest | CompletionRequest, codec: Encoder) -> list[int]:
    if isinstance(request, ChatRequest):
        turns = [{"role": turn.role, "content": turn.text()} for turn in request.messages]
        try:
            return codec.encode_chat(turns)
        except TextError as error:
            raise bad_request(str(error), "messages", "invalid_messages") from error
    prompt = _single(request.prompt)
    tokens = codec.encode(prompt) if isinstance(prompt, str) else prompt
    if not tokens:
        raise bad_request("prompt is empty; at least one token is needed", "prompt")
    wrong = [token for token in tokens if not 0 <= token < codec.vocab_size]
    if wrong:
        raise bad_request(
            f"prompt holds token {wrong[0]}; allowed: 0 to {codec.vocab_size - 1}", "prompt"
        )
    return tokens


def _single(prompt: str | list[str | int | list[int]]) -> str | list[int]:
    """The one prompt of a request."""
    if isinstance(prompt, str):
        return prompt
    tokens = [item for item in prompt if isinstance(item, int)]
    if len(tokens) == len(prompt):
        return tokens
    if len(prompt) == 1 and not isinstance(prompt[0], int):
        return prompt[0]
    raise bad_request(f"prompt holds {len(prompt)} prompts; allowed: one a request", "prompt")


def _max_tokens(request: ChatRequest | CompletionRequest, prompt: int, context: int) -> int:
    given = request.max_tokens
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        given = request.max_completion_tokens
    wanted = 1 if given is None else given
    if prompt + wanted > context:
        raise ApiError(
            status=422,
            message=f"prompt of {prompt} tokens and max_tokens {wanted} are {prompt + wanted}; "
            f"the context of this model is {context} tokens",
            param="max_tokens" if prompt < context else _prompt_field(request),
            code="context_length_exceeded",
        )
    return min(DEFAULT_MAX_TOKENS, context - prompt) if given is None else given


def _prompt_field(request: ChatRequest | CompletionRequest) -> str:
    return "messages" if isinstance(request, ChatRequest) else "prompt"


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS:
        raise bad_request(f"stop holds {len(stops)} strings; allowed: {MAX_STOPS}", "stop")
    if "" in stops:
        raise bad_request("stop holds an empty string", "stop")
    return stops


def _sampling(request: ChatRequest | CompletionRequest) -> Sampling:
    """Greedy unless asked: the same question then has the same answer, as in mlx-lm's server."""
    names = Sampling.__struct_fields__
    given = {name: getattr(request, name) for name in names}
    return Sampling(**{name: value for name, value in given.items() if value is not None})
