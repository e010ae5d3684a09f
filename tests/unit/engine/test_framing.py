import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.framing import FrameError, encode, from_runtime, to_runtime
from engine.runtime.messages import (
    Cancel,
    Fault,
    Prefill,
    Ready,
    Sampling,
    Step,
    Stop,
    Submit,
    Token,
)

TO_RUNTIME = [
    Submit(uid=1, prompt=[1, 2, 3], max_tokens=4, seed=-5, sampling=Sampling(top_k=3)),
    Submit(uid=2, prompt=[1], max_tokens=4, seed=2**63 - 1, emitted=[7, 8], logprobs=2),
    Cancel(uid=1),
    Stop(),
]
FROM_RUNTIME = [
    Ready(epoch=1, pid=2, blas="reference", device="cpu"),
    Step(epoch=1, tokens=[Token(1, 0, 9), Token(2, 1, 8, "stop", -0.5, {8: -0.5})]),
    Step(epoch=1, prefills=[Prefill(1, 64, 200, 16)], rows=3, waiting=2, kv_bytes=10),
    Fault(epoch=1, uid=3, reason="an empty prompt"),
]


@given(st.lists(st.integers(1, 200)))
def test_messages_arrive_whole_however_the_bytes_are_cut(sizes: list[int]) -> None:
    data = b"".join(encode(message) for message in FROM_RUNTIME)
    decoder = from_runtime()
    received = []
    for size in [*sizes, len(data)]:
        received += decoder.feed(data[:size])
        data = data[size:]
    assert received == FROM_RUNTIME


def test_both_directions_keep_every_field() -> None:
    data = b"".join(encode(message) for message in TO_RUNTIME)
    assert to_runtime().feed(data) == TO_RUNTIME


def test_a_length_above_the_limit_is_refused_before_its_body_arrives() -> None:
    with pytest.raises(FrameError, match=r"67108865 bytes is above the limit of 67108864"):
        to_runtime().feed(struct.pack(">I", 64 * 1024 * 1024 + 1))


def test_a_message_above_the_limit_is_not_sent() -> None:
    with pytest.raises(FrameError, match="above the limit of 16 bytes"):
        encode(TO_RUNTIME[0], limit=16)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x81\xa4type\xa5other", encode(Stop())])
def test_a_body_that_is_not_a_message_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError, match="is not a message"):
        from_runtime().feed(struct.pack(">I", len(body)) + body)
