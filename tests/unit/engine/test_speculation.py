"""The decision, on machines and streams that are only numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.speculation import (
    KEEP,
    LONGEST_REST,
    QUIET_STEPS,
    START,
    Curve,
    Source,
    Speculation,
)

LONGEST = 8


@dataclass
class Machine:
    """Streams of one batch whose drafts hold with a probability a token, and what steps take.

    Attributes:
        rows: of the batch; all of them have drafts.
        holds: the probability that a drafted token is right, if those before it are.
        price: seconds of a step with drafts of a length; a plain one takes one second.
    """

    rows: int
    holds: float
    price: Callable[[int], float]
    source: Source = Source.LOOKUP
    decision: Speculation = field(default_factory=lambda: Speculation(LONGEST))
    luck: Random = field(default_factory=lambda: Random(1))  # noqa: S311 - reproducible
    tokens: int = 0
    seconds: float = 0.0
    drafts: int = 0
    looks: int = 0

    def __post_init__(self) -> None:
        self.curves = [self.decision.curve(self.source) for _ in range(self.rows)]

    def run(self, steps: int) -> "Machine":
        self.tokens = self.drafts = self.looks = 0
        self.seconds = 0.0
        for _ in range(steps):
            self.step()
        return self

    def step(self) -> None:
        plan = None
        if self.decision.attentive(self.rows):
            self.looks += 1
            plan = self.decision.plan(self.rows, {self.source: self.curves})
        if plan is None:
            self.decision.observe_plain(self.rows, 1.0)
            self.tokens, self.seconds = self.tokens + self.rows, self.seconds + 1.0
            return
        accepted = [self.accepted(plan.length) for _ in range(self.rows)]
        for curve, count in zip(self.curves, accepted, strict=True):
            self.decision.observe_draft(self.source, curve, plan.length, count)
        took = self.price(plan.length)
        self.decision.observe(self.rows, plan, self.rows + sum(accepted), took)
        self.drafts += 1
        self.tokens += self.rows + sum(accepted)
        self.seconds += took

    def accepted(self, length: int) -> int:
        count = 0
        while count < length and self.luck.random() < self.holds:
            count += 1
        return count

    @property
    def speedup(self) -> float:
        return self.tokens / self.seconds / self.rows


def linear(each: float) -> Callable[[int], float]:
    """Every drafted token makes a step so much longer."""
    return lambda length: 1 + each * length


def test_drafts_that_hold_are_made_nearly_always_and_as_long_as_may_be() -> None:
    machine = Machine(1, 1.0, linear(0.1)).run(200)
    assert machine.drafts > 190
    assert machine.decision.active
    assert machine.speedup > 4
    assert machine.decision.gain(1) == pytest.approx(9 / 1.8, rel=0.1)


@pytest.mark.parametrize("rows", [1, 4, 20])
def test_drafts_that_never_hold_end_at_once_and_cost_next_to_nothing(rows: int) -> None:
    machine = Machine(rows, 0.0, linear(0.25))
    begun = machine.run(100).speedup
    later = machine.run(3000)
    assert begun > 0.9
    assert later.speedup > 0.995
    assert later.drafts <= 3000 / LONGEST_REST + 4
    assert not machine.decision.active


def test_what_is_looked_up_in_vain_is_looked_up_ever_less() -> None:
    machine = Machine(1, 0.0, linear(0.25))
    machine.run(500)
    assert machine.run(1600).looks <= 1600 / 16 + 10


@settings(max_examples=settings.default.max_examples // 5)
@given(st.floats(0, 1), st.floats(0.02, 1.2), st.sampled_from([1, 3, 16]))
def test_no_mix_of_price_and_luck_loses_more_than_a_little(
    holds: float, each: float, rows: int
) -> None:
    machine = Machine(rows, holds, linear(each))
    machine.run(300)
    assert machine.run(1500).speedup > 0.96


@settings(max_examples=settings.default.max_examples // 5)
@given(st.floats(0.75, 1), st.floats(0.02, 0.1))
def test_a_clear_gain_is_taken(holds: float, each: float) -> None:
    machine = Machine(2, holds, linear(each))
    machine.run(200)
    best = max(
        (1 + sum(holds**n for n in range(1, length + 1))) / (1 + each * length)
        for length in machine.decision.lengths
    )
    assert machine.run(1000).speedup > 0.85 * best


def test_each_size_of_batch_learns_for_itself() -> None:
    decision = Speculation(LONGEST)
    alone = Machine(1, 0.7, linear(0.05), decision=decision)
    crowd = Machine(16, 0.7, linear(0.9), decision=decision)
    for _ in range(60):
        alone.run(10)
        crowd.run(10)
    assert alone.run(100).drafts > 80
    assert crowd.run(100).drafts < 5


def test_streams_that_begin_to_copy_are_noticed() -> None:
    machine = Machine(1, 0.0, linear(0.1))
    machine.run(2000)
    machine.holds = 1.0
    machine.run(LONGEST_REST + 20)
    assert machine.run(100).speedup > 3


def test_a_machine_that_gets_slow_at_drafts_ends_them_by_the_measured_gain() -> None:
    machine = Machine(1, 0.6, linear(0.05))
    assert machine.run(300).drafts > 250
    machine.price = linear(1.5)
    machine.run(60)
    assert machine.run(300).drafts < 20
    assert not machine.decision.active


def test_steps_that_cost_more_than_their_drafts_explain_end_them_too() -> None:
    """What is expected of the streams says yes, what was measured says no."""
    machine = Machine(1, 0.0, linear(0.1))
    decision = machine.decision
    rested = []
    decision.observe_plain(1, 1.0)
    for _ in range(40):
        decision.attentive(1)
        plan = decision.plan(1, {Source.LOOKUP: [Curve([1.0] * LONGEST)]})
        if plan is None:
            decision.observe_plain(1, 1.0)
        else:
            rested.append(decision.observe(1, plan, 1, 1.2))
    assert rested.count(True) == 1
    assert len(rested) < 15
    assert decision.gain(1) < KEEP


def test_between_the_two_thresholds_nothing_changes() -> None:
    between = (START + KEEP) / 2
    for before in (False, True):
        decision = Speculation(1)
        decision.observe_plain(1, 1.0)
        if before:
            decision.attentive(1)
            assert decision.plan(1, {Source.LOOKUP: [Curve([1.0])]})
        decision.attentive(1)
        plan = decision.plan(1, {Source.LOOKUP: [Curve([between - 1])]})
        assert (plan is not None) is before


def test_no_length_is_tried_before_the_next_shorter_one_has_its_price() -> None:
    decision = Speculation(LONGEST)
    decision.observe_plain(1, 1.0)
    tried = []
    for _ in range(3):
        decision.attentive(1)
        plan = decision.plan(1, {Source.LOOKUP: [Curve([1.0] * LONGEST)]})
        assert plan is not None
        tried.append(plan.length)
        decision.observe(1, plan, 1 + plan.length, 1.1)
    assert tried == [2, 4, 8]


@given(st.lists(st.floats(0.001, 5), min_size=10, max_size=40))
def test_prices_by_chance_below_that_of_a_plain_step_are_borne(prices: list[float]) -> None:
    decision = Speculation(LONGEST)
    decision.observe_plain(1, 1.0)
    for price in [0.5, *prices]:
        decision.attentive(1)
        plan = decision.plan(1, {Source.LOOKUP: [Curve([1.0] * LONGEST)]})
        if plan is None:
            decision.observe_plain(1, 1.0)
        else:
            decision.observe(1, plan, 1 + plan.length, price)


def test_the_longest_draft_bounds_all_lengths() -> None:
    assert Speculation(8).lengths == [2, 4, 8]
    assert Speculation(3).lengths == [1, 3]
    assert Speculation(1).lengths == [1]


def test_the_cheaper_source_is_taken_where_it_is_as_good() -> None:
    decision = Speculation(LONGEST)
    decision.observe_plain(1, 1.0)
    sure = Curve([1.0] * LONGEST)
    decision.attentive(1)
    plan = decision.plan(1, {Source.LOOKUP: [sure], Source.MODEL: [sure]})
    assert plan is not None
    assert plan.source is Source.LOOKUP


def test_without_a_baseline_there_are_no_drafts() -> None:
    decision = Speculation(LONGEST)
    assert decision.attentive(5)
    assert decision.plan(5, {Source.LOOKUP: [Curve([1.0] * LONGEST)]}) is None


def test_it_is_quiet_a_while_after_the_last_drafts() -> None:
    machine = Machine(1, 1.0, linear(0.1)).run(50)
    assert machine.decision.active
    for _ in range(QUIET_STEPS):
        machine.decision.attentive(1)
    assert not machine.decision.active


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), max_size=60))
def test_a_curve_never_rises_and_stays_a_probability(drafts: list[tuple[int, int]]) -> None:
    curve = Curve.hopeful(LONGEST)
    for length, accepted in drafts:
        curve.observe(length, min(length, accepted), 0.2)
    steps = [curve.expected(n + 1) - curve.expected(n) for n in range(LONGEST)]
    assert all(-1e-9 <= later <= sooner + 1e-9 <= 1 + 2e-9 for sooner, later in pairwise(steps))
