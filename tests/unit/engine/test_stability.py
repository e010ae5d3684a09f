import pytest

from engine.core.stability import (
    FALLING,
    STEADY,
    SWINGING,
    TURNS,
    WINDOW,
    WORSE_WHILE_FALLING,
    Calm,
    Stability,
)


def troubles(limits: list[int], ttfts: list[float] | None = None) -> list[str]:
    """What was wrong, interval by interval, where something was."""
    subject = Stability(limits[0])
    seen = [
        subject.trouble(limit, ttft)
        for limit, ttft in zip(limits, ttfts or [1.0] * len(limits), strict=True)
    ]
    return [one for one in seen if one is not None]


def test_d11_the_swing_of_the_original_is_noticed() -> None:
    """The PID of the original went 16, 80, 16, 80 for ever."""
    assert SWINGING in troubles([16, 80] * (TURNS + 1))


def test_a_swing_that_takes_several_intervals_each_way_is_one() -> None:
    assert SWINGING in troubles([50, 60, 70, 60, 50] * (TURNS + 1))


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param([50] * 200, id="at rest"),
        pytest.param(list(range(4, 101)), id="on its way up"),
        pytest.param([50, 51, 50, 49] * 50, id="noise"),
        pytest.param([50, 40, 30, 20, 22, 21, 35, 50, 55, 50] + [50] * 60, id="there and back"),
        pytest.param(([50] * WINDOW + [20] * WINDOW) * 5, id="turns far apart"),
    ],
)
def test_a_limit_that_settles_or_follows_the_load_is_no_swing(limits: list[int]) -> None:
    assert troubles(limits) == []


def falling(share: float = 0.8) -> list[int]:
    """A limit on its way from 100 down to 4."""
    return [max(4, round(100 * share**turn)) for turn in range(FALLING + 1)]


def rising(first: float = 1.2) -> list[float]:
    return [first + 0.1 * turn for turn in range(FALLING + 1)]


def test_a_ttft_that_rises_while_the_limit_falls_is_noticed_within_a_minute() -> None:
    assert WORSE_WHILE_FALLING in troubles(falling(), rising())
    assert troubles(falling()[: FALLING - 1], rising()[: FALLING - 1]) == []


@pytest.mark.parametrize(
    ("limits", "ttfts"),
    [
        pytest.param(falling(), [2.0] * (FALLING + 1), id="no better, no worse"),
        pytest.param(falling(0.97), rising(), id="hardly falling"),
        pytest.param([*falling()[:6], *falling()[:7]], rising(), id="rose in between"),
        pytest.param(falling(), [*rising()[:6], 1.0, *rising()[7:]], id="on target in between"),
        pytest.param(
            falling(),
            [1.1, 3, 6, 9, 9, 8, 7, 5, 4, 3, 2.5, 2, 1.5],
            id="the load has just come, and what began under the old limit is slow",
        ),
    ],
)
def test_other_falls_are_none(limits: list[int], ttfts: list[float]) -> None:
    assert troubles(limits, ttfts) == []


def test_it_is_calm_after_so_many_steady_intervals_in_a_row() -> None:
    calm = Calm(3)
    assert [calm.sample(ttft) for ttft in (1.0, 1.2, 1.0)] == [False, False, True]


def test_a_jump_begins_the_calm_anew_and_silence_is_calm() -> None:
    calm = Calm(3)
    jump = 1.01 * STEADY
    assert [calm.sample(ttft) for ttft in (1.0, 1.0, jump, jump, jump)] == [False] * 4 + [False]
    assert calm.silent(1)


def test_a_limit_that_nobody_reaches_is_not_to_blame() -> None:
    """Something else bounds what runs, and the machine gets slower."""
    subject = Stability(100)
    pairs = zip(falling(), rising(), strict=True)
    assert not any(subject.trouble(limit, ttft, reached=False) for limit, ttft in pairs)
