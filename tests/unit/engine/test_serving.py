import socket
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.llama import Model, ModelArgs

from engine.runtime.adapter import Adapter
from engine.runtime.framing import from_runtime
from engine.runtime.messages import Cancel, Fault, FromRuntime, Ready, Step, Stop, Submit
from engine.runtime.serving import Inbox, Worker, eos_ids


class Faulty:
    """A model that raises at one of its calls, quoting the prompt as real ones may."""

    def __init__(self, fail_at: int | None) -> None:
        arguments = ModelArgs(
            model_type="llama",
            hidden_size=16,
            num_hidden_layers=1,
            intermediate_size=16,
            num_attention_heads=1,
            rms_norm_eps=1e-5,
            vocab_size=64,
        )
        mx.random.seed(1)
        self._model = Model(arguments)
        mx.eval(self._model.parameters())
        self._calls = 0
        self._fail_at = fail_at
        self.layers = self._model.layers

    def __call__(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        self._calls += 1
        if self._calls == self._fail_at:
            raise ValueError(f"secret prompt {tokens}")
        result: mx.array = self._model(tokens, cache=cache)
        return result


class FrontEnd:
    """The other end of a worker: feeds its inbox from a thread and collects its frames."""

    def __init__(self, fail_at: int | None = None) -> None:
        self._model = Faulty(fail_at)
        self._inbox: Inbox = SimpleQueue()
        self._ours, self._theirs = socket.socketpair()

    def frames(self, *messages: Submit | Cancel, until: int) -> list[FromRuntime]:
        """What the worker says until that many streams have ended."""
        collected: list[FromRuntime] = []
        talk = threading.Thread(target=self._talk, args=(messages, until, collected))
        adapter = Adapter(self._model, eos=[], max_rows=2, prefill_chunk=16, prefill_rows=2)
        with self._ours, self._theirs:
            talk.start()
            Worker(adapter, self._inbox, self._theirs, epoch=7).run()
            talk.join()
        return collected

    def _talk(
        self, messages: tuple[Submit | Cancel, ...], until: int, collected: list[FromRuntime]
    ) -> None:
        for message in messages:
            self._inbox.put(message)
        decoder = from_runtime()
        while sum(1 for _ in _ends(collected)) < until:
            collected += decoder.feed(self._ours.recv(65536))
        self._inbox.put(Stop())


def _ends(frames: list[FromRuntime]) -> Iterator[int]:
    for frame in frames:
        if isinstance(frame, Fault):
            yield frame.uid
        elif isinstance(frame, Step):
            yield from (token.uid for token in frame.tokens if token.finish)


def request(uid: int) -> Submit:
    return Submit(uid=uid, prompt=[5, 6, 7], max_tokens=4, seed=uid)


def tokens(frames: list[FromRuntime], uid: int) -> list[int]:
    steps = [frame for frame in frames if isinstance(frame, Step)]
    return [token.token for step in steps for token in step.tokens if token.uid == uid]


def test_it_is_ready_first_and_every_frame_carries_the_epoch() -> None:
    frames = FrontEnd().frames(request(1), until=1)
    assert isinstance(frames[0], Ready)
    assert {frame.epoch for frame in frames} == {7}


def test_all_tokens_of_a_step_travel_in_one_frame() -> None:
    frames = FrontEnd().frames(request(1), request(2), until=2)
    shared = [frame for frame in frames if isinstance(frame, Step) and len(frame.tokens) == 2]
    assert len(shared) >= 3


def test_a_failed_step_faults_the_running_streams_and_serves_the_rest() -> None:
    undisturbed = FrontEnd().frames(request(3), until=1)
    frames = FrontEnd(fail_at=3).frames(request(1), request(2), request(3), until=3)
    faults = [frame for frame in frames if isinstance(frame, Fault)]
    assert [fault.uid for fault in faults] == [1, 2]
    assert {fault.reason for fault in faults} == {"the step failed: ValueError"}
    assert tokens(frames, 3) == tokens(undisturbed, 3)


def test_no_prompt_text_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    FrontEnd(fail_at=2).frames(request(1), until=1)
    assert "ValueError" in caplog.text
    assert "secret prompt" not in caplog.text.replace('f"secret prompt', "")  # our own source line


def test_a_cancelled_stream_says_nothing() -> None:
    frames = FrontEnd().frames(request(1), request(2), Cancel(uid=1), until=1)
    assert tokens(frames, 1) == []
    assert len(tokens(frames, 2)) == 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, []), ({"eos_token_id": 2}, [2]), ({"eos_token_id": [2, 5]}, [2, 5])],
)
def test_a_model_may_have_no_end_token_or_one_or_several(
    given: dict[str, Any], expected: list[int]
) -> None:
    assert eos_ids(given) == expected
