import pytest

from engine.core.checkpoints import Checkpoints

PROMPT = list(range(100))


@pytest.mark.parametrize(("cuts", "worth"), [(True, []), (False, [40])])
def test_of_a_prompt_seen_once_only_the_first_boundary_is_kept_and_only_where_caches_cannot_be_cut(
    cuts: bool, worth: list[int]
) -> None:
    checkpoints = Checkpoints(32, cuts=cuts)
    checkpoints.note(PROMPT, [40, 80])
    assert checkpoints.worth(PROMPT, [40, 80]) == worth


def test_what_two_prompts_share_is_worth_a_copy_and_the_rest_is_not() -> None:
    checkpoints = Checkpoints(32, cuts=True)
    other = [*PROMPT[:60], *range(900, 940)]
    for prompt in (PROMPT, other):
        checkpoints.note(prompt, [40, 80])
    assert checkpoints.worth(other, [40, 80]) == [40]


def test_short_beginnings_and_whole_prompts_are_no_checkpoints() -> None:
    checkpoints = Checkpoints(32, cuts=True)
    for _ in range(2):
        checkpoints.note(PROMPT, [31, 32, 100])
    assert checkpoints.worth(PROMPT, [31, 32, 100]) == [32]


def test_the_least_recently_seen_is_forgotten() -> None:
    checkpoints = Checkpoints(1, cuts=True, remembered=2)
    for start in (1, 1, 2, 3):
        checkpoints.note([start, 0], [1])
    assert len(checkpoints) == 2
    assert checkpoints.worth([1, 0], [1]) == []
