from collections.abc import Mapping

import numpy as np
import pytest

from engine.core.flags import FLAGS, FlagSet, every_flag_set
from gates.attribution import blame, effects
from gates.groups import Counts

A, B = "adaptive_governor", "http2_transport"


def cells(rates: Mapping[FlagSet, float], seed: int, n: int = 2_000) -> dict[FlagSet, Counts]:
    """Requests of every flag set; errors at the highest rate of any set that it contains."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for flags in every_flag_set():
        rate = max((r for on, r in rates.items() if on <= flags), default=0.0)
        drawn[flags] = Counts(int(rng.binomial(n, rate)), n)
    return drawn


OFF: FlagSet = frozenset()


def test_the_guilty_flag_is_named_and_no_other() -> None:
    seen = cells({OFF: 0.001, frozenset({A}): 0.02}, 1)
    verdict = blame([A, B], seen)
    assert verdict.guilty == frozenset({A})
    assert A in verdict.reason


def test_an_effect_is_estimated_with_its_interval() -> None:
    seen = cells({OFF: 0.01, frozenset({A}): 0.04}, 2)
    found = {effect.flags: effect for effect in effects(seen)}
    assert found[frozenset({A})].low < 0.04 * 0.99 / (0.01 * 0.96) < found[frozenset({A})].high
    assert found[frozenset({B})].low < 1 < found[frozenset({B})].high


def test_flags_that_only_fail_together_are_both_named_and_so_is_the_pair() -> None:
    seen = cells({OFF: 0.002, frozenset({A, B}): 0.05}, 3)
    verdict = blame([A, B], seen)
    assert verdict.guilty == frozenset({A, B})
    assert "together" in verdict.reason


def test_a_mix_that_differs_by_mistake_puts_no_errors_on_another_flag() -> None:
    # B was assigned to most of A's treatment: alone, B looks as bad as A.
    seen = {
        OFF: Counts(2, 2_000),
        frozenset({A}): Counts(10, 200),
        frozenset({B}): Counts(0, 200),
        frozenset({A, B}): Counts(100, 2_000),
    }
    assert blame([A, B], seen).guilty == frozenset({A})


@pytest.mark.parametrize("seen", [{}, {OFF: Counts(0, 100)}, {frozenset({A, B}): Counts(9, 9)}])
def test_without_both_settings_of_a_flag_nobody_is_named(seen: dict[FlagSet, Counts]) -> None:
    verdict = blame([A, B], seen)
    assert verdict.guilty == frozenset()
    assert "cannot tell" in verdict.reason


def test_innocent_flags_are_hardly_ever_named() -> None:
    wrong = 0
    for seed in range(200):
        seen = cells({OFF: 0.001, frozenset({A}): 0.02}, 100 + seed, n=500)
        wrong += bool(blame(FLAGS, seen).guilty - {A})
    assert wrong / 200 <= 0.02
