from pathlib import Path
from typing import Any

import pytest
from adapter_runs import Run, adapter, model, prompts, request, sliding
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.models import mamba2
from mlx_lm.models.cache import ChunkedKVCache

from engine.config import RuntimeConfig
from engine.runtime import kv, memory, worker
from engine.runtime.adapter import Adapter
from engine.runtime.child import worker_options
from engine.runtime.kv import STEP, KvBudget, LayerCost, measure
from engine.runtime.messages import Token
from engine.runtime.prefill import MAX_CHUNK

#: Of the model in `adapter_runs`: two layers, keys and values, 16 numbers of 4 bytes each.
TOKEN_BYTES = 2 * 2 * 16 * 4
PREFILL_ROWS = 4


def budget(tokens: int) -> KvBudget:
    """Room for so many tokens in all rows together, the unused step of each included."""
    return KvBudget(tokens * TOKEN_BYTES, measure(model()))


def test_what_a_token_takes_is_read_off_the_real_caches() -> None:
    assert measure(model()) == [LayerCost(0, TOKEN_BYTES // 2, STEP, None)] * 2
    assert budget(0).needed(3, 100) == 3 * (100 + STEP - 1) * TOKEN_BYTES


def test_the_caches_of_a_batch_grow_by_our_step() -> None:
    under_test = adapter()
    under_test.submit(request(1, [9] * 10))
    while not under_test.step().tokens:
        pass
    assert under_test.kv_bytes == STEP * TOKEN_BYTES


def test_a_sliding_window_stops_growing() -> None:
    window, whole = measure(sliding())
    assert (window.most, whole.most) == (16, None)
    assert window.row(16) == window.row(5000)
    assert whole.row(5000) - whole.row(4000) == 1000 * whole.per_token > 0


def test_a_state_that_does_not_grow_is_counted_once_a_row() -> None:
    arguments = mamba2.ModelArgs(
        model_type="mamba2",
        num_heads=4,
        head_dim=16,
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        state_size=8,
        num_hidden_layers=1,
        layer_norm_epsilon=1e-5,
        conv_kernel=4,
        n_groups=1,
        use_bias=False,
        use_conv_bias=False,
        tie_word_embeddings=True,
        time_step_limit=(0.0, 1.0),
        time_step_rank=2,
    )
    (state,) = measure(mamba2.Model(arguments))
    assert state.per_token == 0
    assert state.row(1) == state.row(5000) == state.fixed > 0


def test_a_cache_that_cannot_be_batched_is_named() -> None:
    class Chunked:
        def make_cache(self) -> list[Any]:
            return [ChunkedKVCache(8)]

    with pytest.raises(ValueError, match="ChunkedKVCache cannot be batched"):
        measure(Chunked())


@settings(max_examples=settings.default.max_examples // 5)
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 20)), max_size=12), st.data())
def test_the_caches_stay_in_their_budget_and_everyone_is_served(
    shapes: list[tuple[int, int]], data: st.DataObject
) -> None:
    longest = max((prompt + output for prompt, output in shapes), default=1)
    allowed = budget(data.draw(st.integers(longest + STEP, 4 * (longest + STEP))))
    chunk = data.draw(st.integers(16, 128))
    under_test = adapter(kv=allowed, prefill_chunk=chunk, prefill_rows=PREFILL_ROWS)
    held = []
    requests = [
        request(uid, [9] * prompt, max_tokens=output) for uid, (prompt, output) in enumerate(shapes)
    ]
    run = Run(under_test, requests, after_step=lambda: held.append(under_test.kv_bytes))
    assert [len(output) for output in run.outputs] == [output for _, output in shapes]
    padding = PREFILL_ROWS * MAX_CHUNK * TOKEN_BYTES  # of prompts that are read side by side
    assert max(held, default=0) <= allowed.total + padding


def test_a_long_row_keeps_others_out_and_the_order_stays() -> None:
    long, short = [5] * 700, [9] * 10
    under_test = adapter(kv=budget(2 * (712 + STEP)))
    for uid, prompt in enumerate([short, long, short, short]):
        under_test.submit(request(uid, prompt))
    began: list[int] = []
    most = 0
    while under_test.busy:
        turn = under_test.step()
        began += [prefill.uid for prefill in turn.prefills if prefill.uid not in began]
        most = max(most, under_test.rows)
    assert began == [0, 1, 2, 3]
    assert most == 2


def test_short_rows_alone_are_not_kept_out() -> None:
    requests = [request(uid, [9] * 10) for uid in range(6)]
    assert Run(adapter(kv=budget(6 * (22 + STEP))), requests).most_rows == 6


def test_a_stream_that_never_fits_is_refused_at_once_with_both_numbers() -> None:
    allowed = budget(200)
    under_test = adapter(kv=allowed, max_rows=1)
    under_test.submit(request(1, [9]))
    under_test.step()
    under_test.submit(request(2, [5] * 200))
    under_test.submit(request(3, [9]))
    ((uid, reason),) = under_test.step().refused
    assert uid == 2
    assert str(allowed.needed(1, 212)) in reason
    assert str(allowed.total) in reason
    assert {token.uid for token in _rest(under_test)} == {1, 3}


def test_a_refusal_outlives_a_failed_step(monkeypatch: pytest.MonkeyPatch) -> None:
    under_test = adapter(kv=budget(200))
    under_test.submit(request(1, [9]))
    under_test.submit(request(2, [5] * 200))
    with monkeypatch.context() as broken:
        broken.setattr(under_test._generator, "next", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            under_test.step()
    assert under_test.discard() == [1]
    assert [uid for uid, _ in under_test.step().refused] == [2]


def test_what_is_set_aside_counts_and_yields_to_who_waits() -> None:
    under_test = adapter(kv=budget(2 * (62 + STEP)))
    one, two = ([start] * 50 for start in (5, 6))
    under_test.submit(request(1, one))
    under_test.submit(request(2, two))
    _until_all_decode(under_test, 2)
    under_test.pause(1)
    assert under_test.parked_bytes > 0
    under_test.submit(request(3, [9] * 50))
    under_test.step()
    assert (under_test.rows, under_test.parked_bytes) == (2, 0)  # stream 3 could not have both
    under_test.resume(1)
    uids = {token.uid for token in _rest(under_test)}
    assert uids == {1, 2, 3}


def test_what_is_set_aside_stays_while_there_is_room() -> None:
    under_test = adapter(kv=budget(3 * (62 + STEP)))
    for uid in (1, 2):
        under_test.submit(request(uid, prompts(8)[uid]))
    _until_all_decode(under_test, 2)
    under_test.pause(1)
    under_test.submit(request(3, [9] * 10))
    under_test.step()
    assert under_test.rows == 2
    assert under_test.parked_bytes > 0


def test_without_a_figure_a_process_takes_its_share_of_half_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 1 << 30)
    assert kv.budget(model(), None, replicas=1).total == 1 << 29
    assert kv.budget(model(), None, replicas=2).total == 1 << 28
    assert kv.budget(model(), 1 << 20, replicas=2).total == 1 << 20


@pytest.mark.parametrize(("given", "passed"), [(None, None), (1 << 20, 1 << 20)])
def test_the_configured_budget_reaches_the_process(given: int | None, passed: int | None) -> None:
    options = worker_options(Path("m"), RuntimeConfig(kv_bytes=given, replicas=3), 0, epoch=1)
    parsed = worker._parse(["--fd=3", "--parent=4", *options])
    assert (parsed.kv_bytes, parsed.replicas) == (passed, 3)


def test_a_budget_without_room_for_a_token_is_an_error_that_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"runtime\.kv_bytes 1000: one row takes 16384 bytes"):
        kv.budget(model(), 1000, replicas=1)


def _until_all_decode(under_test: Adapter, streams: int) -> None:
    while len(under_test.step().tokens) < streams:
        pass


def _rest(under_test: Adapter) -> list[Token]:
    tokens = []
    while under_test.busy:
        tokens += under_test.step().tokens
    return tokens
