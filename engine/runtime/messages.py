"""The only things that cross between the front end and the runtime process.

One frame is a four-byte big-endian length and a msgpack body. All tokens of one decoding
step travel in one frame: a frame a token costs 3.6 times as much. Every frame of the child
carries its epoch (which child) and every token its output position, so that a frame of a
dead child, or a token out of order, can be told from the real one.
"""

from typing import Final

import msgspec

#: Larger frames are a fault: 100 rows of 8,192 prompt tokens fit eight times over.
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024


class Sampling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the next token is drawn. Equal parameters share one sampler in the runtime."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag="submit"):
    """Generate for one stream.

    `emitted` holds output tokens that the client already has: a replayed stream goes on
    behind them, at output position `len(emitted)`. `checkpoints` are lengths of beginnings that
    other prompts may share (the system prompt, turns), in rising order. `speculate`: it may get
    several tokens a step, while that pays.
    """

    uid: int
    prompt: list[int]
    max_tokens: int
    seed: int
    sampling: Sampling = Sampling()
    emitted: list[int] = []
    min_tokens: int = 0
    ignore_eos: bool = False
    reuse_prefix: bool = False
    logprobs: int | None = None
    checkpoints: list[int] = []
    speculate: bool = False


class Warm(msgspec.Struct, frozen=True, kw_only=True, tag="warm"):
    """A stream waits for its place: hold what is known of its prompt, and read the rest ahead.

    Held until its `Submit`, its `Forget`, or for `seconds`. Answered in `Step.warmed`.
    """

    uid: int
    prompt: list[int]
    checkpoints: list[int] = []
    seconds: float


class Forget(msgspec.Struct, frozen=True, kw_only=True, tag="forget"):
    """A stream that was to be warmed does not come; unknown ids are ignored."""

    uid: int


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """Forget a stream: its row is free after the step that is under way."""

    uid: int


class Pause(msgspec.Struct, frozen=True, kw_only=True, tag="pause"):
    """Take a stream's row away and set its KV cache aside: its reader does not keep up.

    Unknown ids are ignored. A stream that has no row yet stays out of the batch.
    """

    uid: int


class Resume(msgspec.Struct, frozen=True, kw_only=True, tag="resume"):
    """Let a paused stream go on behind its last token; unknown ids are ignored."""

    uid: int


class Evict(msgspec.Struct, frozen=True, kw_only=True, tag="evict"):
    """Give memory back: shrink the prefix store to `keep_bytes`, and drop what is set aside.

    A paused stream whose cache was dropped reads its prompt and output again.
    """

    keep_bytes: int


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """End the process in good order."""


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The model is loaded and has run one step."""

    epoch: int
    pid: int
    blas: str
    device: str


class Token(msgspec.Struct, frozen=True, array_like=True):
    """One output token; `finish` is `stop`, `length`, or None while the stream goes on."""

    uid: int
    position: int
    token: int
    finish: str | None = None
    logprob: float | None = None
    top_logprobs: dict[int, float] | None = None


class Prefill(msgspec.Struct, frozen=True, array_like=True):
    """A finished prefill chunk: tokens done of tokens to do, and how many came from the cache.

    `waited` are the seconds from the stream's arrival in this process until it had a row and
    its prefix was looked up.
    """

    uid: int
    done: int
    total: int
    cached: int = 0
    waited: float = 0.0


class Warmed(msgspec.Struct, frozen=True, array_like=True):
    """How many tokens of a waiting stream's prompt need not be read again, as of now."""

    uid: int
    known: int


class Step(msgspec.Struct, frozen=True, kw_only=True, tag="step"):
    """What one turn of the owner thread brought.

    `kv_bytes` are the caches of rows, `parked_bytes` those of paused streams, `prefix_bytes`
    those of the prefix store, `pinned_bytes` what of it is held for waiting streams,
    `memory_bytes` all that the process holds (0: not known). `read_ahead` are prompt tokens that
    were read for waiting streams, `expired` streams that waited too long, `drafted` tokens of
    drafts that were verified, `accepted` those that held, and `cpu_seconds` the processor time of
    all threads, all since the last. `speculating`: drafts are made because they pay.
    """

    epoch: int
    tokens: list[Token] = []
    prefills: list[Prefill] = []
    warmed: list[Warmed] = []
    read_ahead: int = 0
    expired: int = 0
    rows: int = 0
    waiting: int = 0
    kv_bytes: int = 0
    parked_bytes: int = 0
    prefix_bytes: int = 0
    pinned_bytes: int = 0
    memory_bytes: int = 0
    drafted: int = 0
    accepted: int = 0
    cpu_seconds: float = 0.0
    speculating: bool = False


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag="fault"):
    """A stream that the runtime gave up on, with the reason; the stream gets no more tokens."""

    epoch: int
    uid: int
    reason: str


class Faulted(msgspec.Struct, frozen=True, kw_only=True, tag="faulted"):
    """A step raised: the generator is thrown away, and these streams have lost their rows.

    The process lives. Streams without a row, waiting or paused, stay as they are. Who comes
    again, and who is to blame, is for the front end to decide. `read_ahead`: the step also read
    the prompt of a stream that has no row yet, so none of these may be.
    """

    epoch: int
    uids: list[int]
    reason: str
    read_ahead: bool = False


ToRuntime = Submit | Warm | Forget | Cancel | Pause | Resume | Evict | Stop
FromRuntime = Ready | Step | Fault | Faulted
