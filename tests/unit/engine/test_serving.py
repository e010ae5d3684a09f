import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.llama import Model, ModelArgs

from engine.runtime.adapter import Adapter
from engine.runtime.batch import Generator
from engine.runtime.framing import from_runtime
from engine.runtime.messages import (
    Cancel,
    Evict,
    Fault,
    Faulted,
    FromRuntime,
    Pause,
    Ready,
    Resume,
    Step,
    Stop,
    Submit,
    ToRuntime,
)
from engine.runtime.prefixes import PrefixStore
from engine.runtime.serving import Inbox, Worker, eos_ids


class Faulty:
    """A model that raises at one of its calls, by default quoting the prompt as real ones may."""

    def __init__(self, fail_at: int | None, error: Exception | None = None) -> None:
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
        self._error = error
        self.layers = self._model.layers

    def __call__(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        self._calls += 1
        if self._calls == self._fail_at:
            raise self._error or ValueError(f"secret prompt {tokens}")
        result: mx.array = self._model(tokens, cache=cache)
        return result


Said = Callable[[list[FromRuntime]], bool]


class FrontEnd:
    """The other end of a worker: feeds its inbox from a thread and collects its frames."""

    def __init__(self, fail_at: int | None = None, error: Exception | None = None) -> None:
        self._model = Faulty(fail_at, error)
        self._inbox: Inbox = SimpleQueue()
        self._ours, self._theirs = socket.socketpair()

    def frames(
        self, *messages: ToRuntime, until: int = 0, then: Sequence[tuple[ToRuntime, Said]] = ()
    ) -> list[FromRuntime]:
        """What the worker says until that many streams have ended.

        Each message of `then` is sent afterwards, and its frames are read until its condition
        holds for them.
        """
        collected: list[FromRuntime] = []
        talk = threading.Thread(target=self._talk, args=(messages, until, then, collected))
        adapter = Adapter(
            self._model, eos=[], max_rows=2, prefill_chunk=16, prefill_rows=2, prefix_bytes=1 << 20
        )
        with self._ours, self._theirs:
            talk.start()
            Worker(adapter, self._inbox, self._theirs, epoch=7).run()
            talk.join()
        return collected

    def _talk(
        self,
        messages: tuple[ToRuntime, ...],
        until: int,
        then: Sequence[tuple[ToRuntime, Said]],
        collected: list[FromRuntime],
    ) -> None:
        for message in messages:
            self._inbox.put(message)
        decoder = from_runtime()
        while len(list(_ends(collected))) < until:
            collected += decoder.feed(self._ours.recv(65536))
        for message, said in then:
            self._inbox.put(message)
            fresh: list[FromRuntime] = []
            while not said(fresh):
                fresh += decoder.feed(self._ours.recv(65536))
            collected += fresh
        self._inbox.put(Stop())


def _ends(frames: list[FromRuntime]) -> Iterator[int]:
    for frame in frames:
        if isinstance(frame, Fault):
            yield frame.uid
        elif isinstance(frame, Faulted):
            yield from frame.uids
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


def test_a_failed_step_says_who_lost_a_row_and_serves_the_rest() -> None:
    undisturbed = FrontEnd().frames(request(3), until=1)
    frames = FrontEnd(fail_at=3).frames(request(1), request(2), request(3), until=3)
    assert [frame for frame in frames if isinstance(frame, Fault)] == []
    (faulted,) = (frame for frame in frames if isinstance(frame, Faulted))
    assert (faulted.uids, faulted.reason) == ([1, 2], "ValueError")
    assert tokens(frames, 3) == tokens(undisturbed, 3)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[malloc] Unable to allocate 9 bytes.")]
)
def test_a_step_without_memory_gives_that_as_the_reason(error: Exception) -> None:
    frames = FrontEnd(fail_at=3, error=error).frames(request(1), until=1)
    assert [frame.reason for frame in frames if isinstance(frame, Faulted)] == ["out of memory"]


def test_a_pause_that_fails_is_a_fault_of_those_who_run_and_the_process_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Generator, "take_out", no_memory)
    endless = Submit(uid=1, prompt=[5, 6], max_tokens=100_000, seed=1)
    frames = FrontEnd().frames(
        then=[
            (endless, lambda said: tokens(said, 1) != []),
            (Pause(uid=1), lambda said: any(isinstance(one, Faulted) for one in said)),
            (request(2), lambda said: list(_ends(said)) == [2]),
        ]
    )
    assert [frame.uids for frame in frames if isinstance(frame, Faulted)] == [[1]]
    assert len(tokens(frames, 2)) == 4


def test_a_stream_that_cannot_begin_is_a_fault_of_its_own() -> None:
    bad = Submit(uid=1, prompt=[], max_tokens=4, seed=1)
    frames = FrontEnd().frames(bad, request(2), until=2)
    assert [frame.uid for frame in frames if isinstance(frame, Fault)] == [1]
    assert len(tokens(frames, 2)) == 4


def test_no_prompt_text_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    FrontEnd(fail_at=2).frames(request(1), until=1)
    assert "ValueError" in caplog.text
    assert "secret prompt" not in caplog.text.replace('f"secret prompt', "")  # our own source line


def test_a_cancelled_stream_says_nothing() -> None:
    frames = FrontEnd().frames(request(1), request(2), Cancel(uid=1), until=1)
    assert tokens(frames, 1) == []
    assert len(tokens(frames, 2)) == 4


def test_what_is_paused_and_resumed_ends_as_ever_and_what_is_set_aside_is_told() -> None:
    long = Submit(uid=1, prompt=[5, 6, 7], max_tokens=300, seed=1)
    undisturbed = FrontEnd().frames(long, until=1)
    frames = FrontEnd().frames(
        then=[
            (long, lambda said: tokens(said, 1) != []),
            (Pause(uid=1), lambda said: _idle(said) and _last(said).parked_bytes > 0),
            (Resume(uid=1), lambda said: list(_ends(said)) == [1]),
        ]
    )
    assert tokens(frames, 1) == tokens(undisturbed, 1)
    assert (_last(frames).parked_bytes, _last(frames).kv_bytes) == (0, 0)


def test_idle_it_tells_what_a_cancel_or_an_eviction_freed_and_otherwise_is_silent() -> None:
    kept = Submit(uid=1, prompt=[5] * 40, max_tokens=4, seed=1, reuse_prefix=True)
    endless = Submit(uid=2, prompt=[5, 6], max_tokens=100_000, seed=1)
    frames = FrontEnd().frames(
        then=[
            (kept, lambda said: list(_ends(said)) == [1]),
            (endless, lambda said: tokens(said, 2) != []),
            (Cancel(uid=2), _idle),
            (Evict(keep_bytes=0), _idle),
        ]
    )
    *_, cancelled, evicted = (frame for frame in frames if isinstance(frame, Step))
    assert (cancelled.rows, cancelled.kv_bytes) == (0, 0)
    assert cancelled.prefix_bytes > 0
    assert evicted.prefix_bytes == 0
    assert evicted.tokens == []


#: Stored at its end alone: the boundary says that nobody shares its prompt.
KEPT = Submit(uid=1, prompt=[5] * 40, max_tokens=4, seed=1, reuse_prefix=True, checkpoints=[35])


def test_the_last_token_is_sent_before_the_cache_is_copied_and_idle_that_is_told() -> None:
    frames = FrontEnd().frames(KEPT, until=1, then=[(Evict(keep_bytes=0), _idle)])
    steps = [frame for frame in frames if isinstance(frame, Step)]
    (last,) = (n for n, step in enumerate(steps) if any(token.finish for token in step.tokens))
    assert steps[last].prefix_bytes < steps[last + 1].prefix_bytes
    assert steps[last + 1].tokens == []


def test_a_copy_that_fails_after_the_last_token_costs_nobody_a_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PrefixStore, "store", fail)
    frames = FrontEnd().frames(KEPT, until=1, then=[(request(2), lambda said: 2 in _ends(said))])
    assert len(tokens(frames, 1)) == len(tokens(frames, 2)) == 4
    assert not [frame for frame in frames if isinstance(frame, Fault | Faulted)]


def test_a_step_tells_the_memory_of_the_process() -> None:
    frames = FrontEnd().frames(request(1), until=1)
    assert _last(frames).memory_bytes > 10_000_000


def test_steps_tell_the_processor_time_each_second_once() -> None:
    began = time.process_time()
    frames = FrontEnd().frames(request(1), until=1)
    told = [frame.cpu_seconds for frame in frames if isinstance(frame, Step)]
    assert told[0] >= began
    assert 0 < sum(told) <= time.process_time()


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, []), ({"eos_token_id": 2}, [2]), ({"eos_token_id": [2, 5]}, [2, 5])],
)
def test_a_model_may_have_no_end_token_or_one_or_several(
    given: dict[str, Any], expected: list[int]
) -> None:
    assert eos_ids(given) == expected


def _last(frames: list[FromRuntime]) -> Step:
    return [frame for frame in frames if isinstance(frame, Step)][-1]


def _idle(frames: list[FromRuntime]) -> bool:
    return any(isinstance(frame, Step) for frame in frames) and _last(frames).rows == 0
