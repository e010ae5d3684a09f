"""What our batches rely on inside mlx-lm: a new version of it must be read, not only installed."""

import importlib
import inspect
import textwrap
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import mlx.core as mx
import pytest
from adapter_runs import model, prompts
from mlx_lm.generate import BatchGenerator, PromptProcessingBatch

from engine.runtime.batch import Generator
from engine.runtime.messages import Sampling
from engine.runtime.sampling import Row

#: The version that these digests and engine/runtime/batch.py were written against.
READ = "0.32.2"

#: What to re-check, and the digests of the source that it is about.
RELIED_ON: dict[str, dict[str, str]] = {
    (
        "decoding in engine/runtime/batch.py overrides `_step` and `extract_cache`, and calls "
        "`__init__`: compare each attribute that `_forward`, `_enter`, "
        "`PromptDecodingBatch` and `Verifying` (engine/runtime/verifying.py, which also ends "
        "rows as `next` does) set with what these do"
    ): {
        "mlx_lm.generate:GenerationBatch.__init__": "71048db7048f",
        "mlx_lm.generate:GenerationBatch._step": "0a6350567a43",
        "mlx_lm.generate:GenerationBatch.next": "88a3c6b2d9dc",
        "mlx_lm.generate:GenerationBatch.filter": "847dfc0504e8",
        "mlx_lm.generate:GenerationBatch.extend": "d4d19c9fed66",
        "mlx_lm.generate:GenerationBatch.extract_cache": "a6007923b6dd",
        "mlx_lm.generate:GenerationBatch.empty": "9dc2cc2e08f1",
    },
    (
        "prefill in engine/runtime/batch.py overrides `generate`, which takes the lists of "
        "the batch over and relies on last segments of one token; `prefill_step_size` is set "
        "for each turn"
    ): {
        "mlx_lm.generate:PromptProcessingBatch.__init__": "819a5a224286",
        "mlx_lm.generate:PromptProcessingBatch.extract_cache": "a6007923b6dd",
        "mlx_lm.generate:PromptProcessingBatch.extend": "86a00a818101",
        "mlx_lm.generate:PromptProcessingBatch._copy": "55801bea2dbf",
        "mlx_lm.generate:PromptProcessingBatch.split": "e23eda5b0afc",
        "mlx_lm.generate:PromptProcessingBatch.filter": "c94b6c6df1e4",
        "mlx_lm.generate:PromptProcessingBatch.prompt": "caeb1003f8f3",
        "mlx_lm.generate:PromptProcessingBatch.generate": "e103c324273f",
        "mlx_lm.generate:PromptProcessingBatch.empty": "d4e3d57dc1f6",
    },
    (
        "the adapter hands over no more rows than there are places, learns from the counters, and "
        "takes rows out by `_find_uids` and `remove`: compare the order inside `_next`, the "
        "stages, and what `remove` returns"
    ): {
        "mlx_lm.generate:BatchGenerator.__init__": "4ba63a2bd86d",
        "mlx_lm.generate:BatchGenerator.close": "e30472950864",
        "mlx_lm.generate:BatchGenerator.insert": "5b236b69763f",
        "mlx_lm.generate:BatchGenerator.insert_segments": "2547bef2d1ee",
        "mlx_lm.generate:BatchGenerator._find_uids": "4131742e1aee",
        "mlx_lm.generate:BatchGenerator.extract_cache": "d99b79b0076d",
        "mlx_lm.generate:BatchGenerator.remove": "41c40d91c628",
        "mlx_lm.generate:BatchGenerator._make_batch": "06683f6adfe5",
        "mlx_lm.generate:BatchGenerator._next": "83e1aa6208fc",
        "mlx_lm.generate:BatchGenerator.next": "71cd3562ad46",
        "mlx_lm.generate:BatchGenerator.prompt_cache_nbytes": "4ece837eb651",
        "mlx_lm.generate_utils:BatchCounters": "e49b72f261e0",
    },
    (
        "an end token is a stop sequence of one token, whose matcher keeps nothing between "
        "tokens: a resumed row begins with a fresh one"
    ): {
        "mlx_lm.generate:StopSequences": "afd3428ec011",
    },
    (
        "engine/runtime/kv.py counts what these allocate, engine/runtime/ragged.py does the same "
        "work with rows of their own lengths, and engine/runtime/stream.py cuts "
        "them: compare steps, padding, `merge`, `extract` and `trim`"
    ): {
        "mlx_lm.generate:_merge_caches": "999fa426a0a5",
        "mlx_lm.generate:_extend_cache": "15c766408c4c",
        "mlx_lm.models.base:create_attention_mask": "a8ebacf963b3",
        "mlx_lm.models.base:create_causal_mask": "e99d5e475b02",
        "mlx_lm.models.cache:make_prompt_cache": "ae8ee8ce5ac6",
        "mlx_lm.models.cache:can_trim_prompt_cache": "840a6f74cafc",
        "mlx_lm.models.cache:trim_prompt_cache": "bec42e4c8029",
        "mlx_lm.models.cache:KVCache": "9e33b1620e27",
        "mlx_lm.models.cache:BatchKVCache": "474e6fe46261",
    },
}


def digest(name: str) -> str:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    source = inspect.getsource(found.fget if isinstance(found, property) else found)
    return sha256(textwrap.dedent(source).encode()).hexdigest()[:12]


@pytest.mark.parametrize(("what", "names"), RELIED_ON.items(), ids=range(len(RELIED_ON)))
def test_the_source_that_we_rely_on_is_the_one_that_was_read(
    what: str, names: dict[str, str]
) -> None:
    changed = {name: now for name, known in names.items() if (now := digest(name)) != known}
    assert not changed, (
        f"mlx-lm {version('mlx-lm')} differs from {READ}, against which our batches were "
        f"written. Re-check: {what}. Then run the tests of the adapter, and write these "
        f"digests here: {changed}"
    )


def test_a_digest_notices_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mlx_lm.generate:BatchGenerator.next"
    before = digest(name)
    monkeypatch.setattr(BatchGenerator, "next", lambda self: self._next())
    assert digest(name) != before


@pytest.fixture(params=["stock", "ours", "ours ahead"])
def generator(request: pytest.FixtureRequest) -> Any:
    options: dict[str, Any] = {"completion_batch_size": 4, "prefill_batch_size": 4}
    if request.param == "stock":
        return BatchGenerator(model(), prefill_step_size=16, **options)
    return Generator(model(), ahead=request.param == "ours ahead", prefill_step_size=16, **options)


def insert(generator: Any, given: list[list[int]], max_tokens: int = 4) -> list[int]:
    samplers = [Row(sampling=Sampling(), seed=0, position=0, keep_cache=True) for _ in given]
    uids: list[int] = generator.insert(
        given,
        max_tokens=[max_tokens] * len(given),
        samplers=samplers if isinstance(generator, Generator) else None,
    )
    return uids


def test_each_turn_brings_one_token_of_every_row_that_decodes(generator: Any) -> None:
    uids = insert(generator, [[5], [6, 7], [8, 9, 10]])
    seen: dict[int, int] = dict.fromkeys(uids, 0)
    while not all(count == 4 for count in seen.values()):
        decoding = set(generator._generation_batch.uids)
        _, tokens = generator.next()
        assert {token.uid for token in tokens} == decoding
        assert len(tokens) == len(decoding)
        for token in tokens:
            seen[token.uid] += 1
            assert token.finish_reason == ("length" if seen[token.uid] == 4 else None)
    assert generator.next() == ([], [])


def test_a_row_waits_then_reads_then_decodes(generator: Any) -> None:
    (uid,) = insert(generator, [[5] * 40])
    stages, progress = [], []
    while found := generator._find_uids([uid]):
        stages.append(found[uid][0])
        prefills, _ = generator.next()
        progress += [(one.progress, one.end_of_prompt) for one in prefills]
    assert stages == sorted(stages)
    assert set(stages) == {0, 1, 2}
    chunks = [((16, 40), False), ((32, 40), False), ((39, 40), False), ((40, 40), True)]
    assert progress == chunks


def test_a_cache_holds_exactly_the_tokens_that_go_with_it(generator: Any) -> None:
    (uid,) = insert(generator, [[5] * 40], max_tokens=30)
    for _ in range(10):
        generator.next()
        cache, tokens = generator.extract_cache([uid])[uid]
        assert cache[0].offset == len(tokens)
    assert tokens is generator.extract_cache([uid])[uid][1]  # theirs, and growing: copy it


@pytest.mark.parametrize("turns", [1, 2, 6])
def test_a_removed_row_leaves_its_cache_and_the_others_as_they_were(
    generator: Any, turns: int
) -> None:
    first, second = insert(generator, [[5] * 40, [6] * 30], max_tokens=5)
    for _ in range(turns):
        generator.next()
    cache, tokens = generator.remove([first], return_prompt_caches=True)[first]
    assert cache[0].offset == len(tokens) > 0
    assert generator.remove([first]) == {}
    output = []
    while generator._find_uids([second]):
        output += [token.token for token in generator.next()[1]]
    alone = BatchGenerator(model())
    alone.insert([[6] * 30], max_tokens=[5])
    expected: list[int] = []
    while len(expected) < 5:
        expected += [token.token for token in alone.next_generated()]
    assert expected[5 - len(output) :] == output


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "reason"), [([], 4, "empty prompt"), ([5], 0, "max_tokens")]
)
def test_what_cannot_begin_is_refused_before_anything_changes(
    generator: Any, prompt: list[int], max_tokens: int, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        insert(generator, [prompt], max_tokens)
    assert len(generator._unprocessed_sequences) == 0


def test_work_is_counted_as_it_is_done(generator: Any) -> None:
    insert(generator, [[5] * 16])
    generator.next()
    assert generator._counters.prompt_tokens == 15  # the last one is read by decoding
    assert generator._counters.prompt_time > 0


def test_the_chunk_can_be_set_for_every_turn() -> None:
    generator = Generator(model(), ahead=False, completion_batch_size=4, prefill_batch_size=4)
    insert(generator, [[5] * 40])
    done = [generator.next_with_chunk(chunk)[0][-1].progress[0] for chunk in (5, 20, 7)]
    assert done == [5, 25, 32]
    assert isinstance(generator._prompt_batch, PromptProcessingBatch)


def test_nothing_is_computed_ahead_unless_asked() -> None:
    for ahead, held in ((False, 3), (True, 4)):
        generator = Generator(model(), ahead=ahead, completion_batch_size=4, prefill_batch_size=4)
        (uid,) = insert(generator, [prompts(1)[0][:1] * 3])
        while not generator.next()[1]:
            pass
        cache, _ = generator.extract_cache([uid])[uid]
        mx.eval(cache[0].state)
        assert cache[0].offset == held  # of three prompt tokens and one output token
