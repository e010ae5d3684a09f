"""A model that drafts: here the model itself, whose drafts must all be right."""

from typing import Any

import mlx.core as mx
import pytest
from adapter_runs import Run, adapter, model, prompts, request, sliding
from speculation_runs import LONGEST, Always, speculating

from engine.core.speculation import Source
from engine.runtime import serving
from engine.runtime.adapter import Adapter
from engine.runtime.drafting import CATCH_UP, ModelDrafter
from engine.runtime.kv import budget, measure
from engine.runtime.messages import Sampling, Submit
from engine.runtime.sampling import Row

SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0.9, top_p=0.9),
    Sampling(temperature=0.7, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.6),
]


def requests(sampling: Sampling, **options: Any) -> list[Submit]:
    given = {"max_tokens": 28, "sampling": sampling, "speculate": True, **options}
    return [request(uid, prompt, **given) for uid, prompt in enumerate(prompts(3))]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_model_that_drafts_for_itself_is_always_right(sampling: Sampling, ahead: bool) -> None:
    """It draws with the same noise, penalties and filters at the same positions."""
    given = requests(sampling)
    decision = Always()
    under_test = speculating(ModelDrafter(model()), decision, ahead=ahead)
    run = Run(under_test, given)
    assert run.outputs == Run(adapter(ahead=ahead), given).outputs
    assert decision.accepted[Source.MODEL] == decision.drafted[Source.MODEL] > 30


def test_another_model_changes_no_output() -> None:
    mx.random.seed(4)
    other = type(model())(model().args)
    given = requests(SAMPLINGS[1])
    run = Run(speculating(ModelDrafter(other)), given)
    assert run.outputs == Run(adapter(), given).outputs


def test_a_long_text_is_read_in_bounded_steps_before_the_first_draft() -> None:
    drafter, state = ModelDrafter(model()), _state()
    known = [token % 250 + 3 for token in range(3 * CATCH_UP + 5)]
    drafts = [drafter.draft(1, known, state, 4) for _ in range(5)]
    assert [len(draft) for draft in drafts] == [0, 0, 0, 4, 4]
    assert drafts[3] == drafts[4] == ModelDrafterOnce(known).draft()


class ModelDrafterOnce:
    """The same without a cache."""

    def __init__(self, known: list[int]) -> None:
        self._known = list(known)

    def draft(self) -> list[int]:
        tokens = list(self._known)
        for _ in range(4):
            logits = model()(mx.array([tokens]))[0, -1]
            tokens.append(int(mx.argmax(logits).item()))  # type: ignore[arg-type]  # mlx's stub
        return tokens[-4:]


def test_what_was_drafted_wrongly_is_taken_back() -> None:
    drafter, state = ModelDrafter(model()), _state()
    known = prompts(3)[2]
    first = drafter.draft(1, known, state, 4)
    turned = [*known, first[0], (first[1] + 1) % 250]
    assert drafter.draft(1, turned, state, 4) == ModelDrafterOnce(turned).draft()


def test_caches_of_rows_that_left_are_dropped() -> None:
    drafter, state = ModelDrafter(model()), _state()
    for row in (1, 2, 3):
        drafter.draft(row, [5, 6, 7], state, 2)
    three = drafter.nbytes
    drafter.keep([3, 9])
    assert drafter.nbytes == three // 3 > 0
    drafter.keep([])
    assert drafter.nbytes == 0


def test_the_caches_of_a_drafting_model_count() -> None:
    drafter = ModelDrafter(model())
    under_test = speculating(drafter)
    shown: list[tuple[int, int]] = []

    def look() -> None:
        of_rows = under_test._generator.prompt_cache_nbytes
        shown.append((drafter.nbytes, under_test.kv_bytes - of_rows))

    Run(under_test, requests(SAMPLINGS[0]), after_step=look)
    assert all(held == counted for held, counted in shown)
    assert max(shown) > (0, 0)
    assert under_test.kv_bytes == 0
    both = budget(model(), 1 << 30, 1, draft_model=model(), draft_tokens=LONGEST)
    assert len(both.layers) == 2 * len(measure(model()))
    assert both.needed(1, 50) == 2 * budget(model(), 1 << 30, 1).needed(1, 50 + LONGEST)


def test_a_shortage_of_memory_ends_the_caches_of_drafts_and_no_stream() -> None:
    given = requests(SAMPLINGS[0])
    drafter = ModelDrafter(model())
    under_test = speculating(drafter)
    for one in given:
        under_test.submit(one)
    while drafter.nbytes == 0:
        under_test.step()
    tokens = {uid: list(under_test._streams[uid].output) for uid in range(3)}
    under_test.evict(0)
    assert drafter.nbytes == 0
    while under_test.busy:
        for token in under_test.step().tokens:
            tokens[token.uid].append(token.token)
    assert list(tokens.values()) == Run(adapter(), given).outputs


@pytest.mark.parametrize("culprit", ["model", "draft model"])
def test_caches_that_cannot_be_cut_and_a_drafting_model_are_an_error(culprit: str) -> None:
    models = (sliding(), model()) if culprit == "model" else (model(), sliding())
    with pytest.raises(ValueError, match=f"KV cache of the {culprit} cannot be cut"):
        serving.make_speculator(models[0], 8, models[1])


def test_a_model_whose_caches_cannot_be_cut_is_served_without_speculation() -> None:
    assert serving.make_speculator(sliding(), 8, None) is None
    assert serving.make_speculator(model(), 0, None) is None
    assert serving.make_speculator(model(), 8, None) is not None


def test_streams_that_do_not_ask_are_served_as_ever_where_a_model_drafts() -> None:
    given = [request(uid, prompt) for uid, prompt in enumerate(prompts(3))]
    under_test: Adapter = speculating(ModelDrafter(model()))
    assert Run(under_test, given).outputs == Run(adapter(), given).outputs


def _state() -> Row:
    return Row.of(request(1, [5]), [], ())
