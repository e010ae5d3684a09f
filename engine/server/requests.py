"""OpenAI requests: read, checked, and turned into a `Job` for the runtime.

Every mistake names its field. A parameter that would change the answer and that this
engine does not have is refused; passing over it would answer a different question.
"""

import struct
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final, Protocol, TypeVar

from engine.runtime.messages import Sampling
from engine.server.bodies import converted, read_object
from engine.server.errors import ApiError, bad_request
from engine.server.parameters import ChatRequest, CompletionRequest
from engine.server.text import TextError

#: Tokens generated when the request does not say: long enough for an answer to a question.
DEFAULT_MAX_TOKENS: Final = 512
#: Colder than this, every difference between logits that can be told apart decides alone, and
#: the division overflows: greedy is the same answer.
COLDEST: Final = 1e-3
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
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
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

    def encode_turns(self, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
        """The same tokens, and how many of them each beginning of turns has."""

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request that may be served: tokenised and within the context.

    Attributes:
        n: how many answers are asked for; each is a stream with the job of its `choice`.
        checkpoints: lengths of beginnings that other prompts may share, in rising order.
        logprobs: alternatives whose log-probabilities come with each token; None for none.
    """

    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    seed: int
    stops: tuple[str, ...]
    min_tokens: int
    ignore_eos: bool
    stream: bool
    include_usage: bool
    n: int = 1
    logprobs: int | None = None
    checkpoints: tuple[int, ...] = ()

    def choice(self, index: int) -> "Job":
        """The job of one answer. The first is the answer that `n` 1 would have."""
        return self if index == 0 else replace(self, seed=_choice_seed(self.seed, index))


RequestT = TypeVar("RequestT", ChatRequest, CompletionRequest)


def parse(body: bytes, kind: type[RequestT]) -> RequestT:
    """Read a body.

    Raises:
        ApiError: 400 that names the field, for invalid JSON, a wrong type or range, an
            unknown field, or a parameter that this engine does not have.
    """
    return converted(_supported(read_object(body)), kind)


def plan(
    request: ChatRequest | CompletionRequest,
    codec: Encoder,
    drawn_seed: int,
    *,
    checkpoints: bool = False,
) -> Job:
    """Tokenise a request and check it against the model.

    `drawn_seed` serves when the request gives none: a replay needs one. `checkpoints` are
    found when they are asked for, since that costs time.

    Raises:
        ApiError: 400 for an empty or impossible prompt, 422 when it does not fit into the context.
    """
    prompt, boundaries = _prompt_tokens(request, codec, checkpoints=checkpoints)
    seed = drawn_seed if request.seed is None else request.seed
    return Job(
        prompt=prompt,
        max_tokens=_max_tokens(request, len(prompt), codec.context_length),
        sampling=_sampling(request),
        seed=seed & SEED_MASK,
        stops=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ()),
        min_tokens=request.min_tokens or 0,
        ignore_eos=bool(request.ignore_eos),
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
        n=request.n or 1,
        logprobs=request.alternatives(),
        checkpoints=tuple(boundaries),
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
        if given is not None and not any(_same(given, value) for value in neutral):
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


def _same(given: object, neutral: object) -> bool:
    """Equal and of one type: to Python, 0 is False."""
    return type(given) is type(neutral) and given == neutral


def _prompt_tokens(
    request: ChatRequest | CompletionRequest, codec: Encoder, *, checkpoints: bool
) -> tuple[list[int], list[int]]:
    field = _prompt_field(request)
    tokens, boundaries = _encoded(request, codec, checkpoints=checkpoints)
    if not tokens:
        raise bad_request(f"{field}: empty; at least one token is needed", field)
    wrong = [token for token in tokens if not 0 <= token < codec.vocab_size]
    if wrong:
        raise bad_request(
            f"{field} holds token {wrong[0]}; allowed: 0 to {codec.vocab_size - 1}", field
        )
    return tokens, boundaries


def _encoded(
    request: ChatRequest | CompletionRequest, codec: Encoder, *, checkpoints: bool
) -> tuple[list[int], list[int]]:
    if isinstance(request, CompletionRequest):
        prompt = _single(request.prompt)
        return (codec.encode(prompt) if isinstance(prompt, str) else prompt), []
    turns = [{"role": turn.role, "content": turn.text()} for turn in request.messages]
    try:
        return codec.encode_turns(turns) if checkpoints else (codec.encode_chat(turns), [])
    except TextError as error:
        raise bad_request(str(error), "messages", "invalid_messages") from error


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
    given, name = request.max_tokens, "max_tokens"
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        given, name = request.max_completion_tokens, "max_completion_tokens"
    wanted = 1 if given is None else given
    if prompt + wanted > context:
        raise ApiError(
            status=422,
            message=f"prompt of {prompt} tokens and {name} {wanted} are {prompt + wanted}; "
            f"the context of this model is {context} tokens",
            param=name if prompt < context else _prompt_field(request),
            code="context_length_exceeded",
        )
    return min(DEFAULT_MAX_TOKENS, context - prompt) if given is None else given


def _prompt_field(request: ChatRequest | CompletionRequest) -> str:
    return "messages" if isinstance(request, ChatRequest) else "prompt"


def _choice_seed(seed: int, index: int) -> int:
    """Neighbouring seeds must not share choices, so it is not the sum."""
    given = struct.pack(">QQ", seed, index)
    return int.from_bytes(blake2b(given, digest_size=8).digest()) & SEED_MASK


def _sampling(request: ChatRequest | CompletionRequest) -> Sampling:
    """Greedy unless asked: the same question then has the same answer, as in mlx-lm's server."""
    names = Sampling.__struct_fields__
    given = {name: getattr(request, name) for name in names}
    if given["temperature"] is not None and given["temperature"] < COLDEST:
        given["temperature"] = 0.0
    return Sampling(**{name: value for name, value in given.items() if value is not None})
