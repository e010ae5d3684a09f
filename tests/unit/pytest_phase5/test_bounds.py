"""A test's own bound: tighter than the policy, and compared with what was recorded."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.criteria import Criterion, Kind, Measure
from gates.samples import Outcome, Sample
from pytest_phase5.bounds import SloBroken, bound_mistake, check_bounds, estimate
from pytest_phase5.engines import Engine, EngineIdentity
from pytest_phase5.markers import Slo
from pytest_phase5.recording import Evidence

TTFT = Criterion(
    id="ttft_p95_ms",
    kind=Kind.CEILING,
    measure=Measure.TTFT,
    direction="lower",
    quantile=0.95,
    limit=0.55,
)
SECONDS = replace(TTFT, id="our_ttft")
RATE = Criterion(
    id="error_rate", kind=Kind.CEILING, measure=Measure.ERROR_RATE, direction="lower", limit=0.001
)
RATIO = Criterion(
    id="ttft_p95_vs_control",
    kind=Kind.NON_INFERIORITY,
    measure=Measure.TTFT,
    direction="lower",
    quantile=0.95,
    margin=1.25,
)
CHECKS = Criterion(id="answers", kind=Kind.INVARIANT, measure=Measure.CHECKS, direction="lower")


def sample(
    index: int,
    ttft: float | None = 0.1,
    arm: str = "treatment",
    outcome: Outcome = Outcome.OK,
) -> Sample:
    return Sample(
        index=index,
        arm=arm,
        block=0,
        scheduled=0.0,
        sent=0.0,
        first_token=ttft,
        end=ttft,
        outcome=outcome,
    )


@pytest.mark.parametrize(
    ("criterion", "mark", "word"),
    [
        (TTFT, Slo("ttft_p95_ms", max=550), None),
        (TTFT, Slo("ttft_p95_ms", max=100), None),
        (TTFT, Slo("ttft_p95_ms", max=551), "at most 550 (ms)"),
        (SECONDS, Slo("our_ttft", max=800), "at most 0.55 (s)"),
        (RATE, Slo("error_rate", max=0.01), "at most 0.001 (a share of one)"),
        (RATIO, Slo("ttft_p95_vs_control", max=1.1), None),
        (RATIO, Slo("ttft_p95_vs_control", max=1.3), "at most 1.25 (a ratio)"),
        (CHECKS, Slo("answers", max=1), "no max and no min"),
    ],
)
def test_a_bound_may_tighten_and_never_loosen(
    criterion: Criterion, mark: Slo, word: str | None
) -> None:
    mistake = bound_mistake(criterion, mark)
    assert (mistake is None) == (word is None)
    assert word is None or word in str(mistake)


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=60))
def test_p95_is_a_recorded_value_that_at_most_one_in_twenty_exceeds(times: list[float]) -> None:
    value, n = estimate(TTFT, [sample(i, ttft) for i, ttft in enumerate(times)])
    assert n == len(times)
    assert value in [time * 1000 for time in times]
    assert sum(time * 1000 > value for time in times) <= 0.05 * n


def test_a_request_without_a_token_took_longer_than_any_limit() -> None:
    value, _ = estimate(TTFT, [sample(0, None)])
    assert value == float("inf")


def test_a_comparison_is_the_ratio_of_the_arms() -> None:
    samples = [sample(0, 0.3), sample(1, 0.2, "control")]
    value, _ = estimate(RATIO, samples)
    assert value == pytest.approx(1.5)


def test_what_does_not_count_towards_errors_is_left_out() -> None:
    ends = [Outcome.OK, Outcome.CUT, Outcome.SHED, Outcome.CANCELLED]
    value, _ = estimate(RATE, [sample(i, outcome=end) for i, end in enumerate(ends)])
    assert value == 0.5


@pytest.mark.parametrize("samples", [[], [sample(0, 0.2, "control")]])
def test_nothing_to_compare_is_broken(samples: list[Sample]) -> None:
    identity = EngineIdentity(
        flag_set="all", model="m", model_sha256="", engine_version="", commit="", config_sha256=""
    )
    engine = Engine(url="http://127.0.0.1:1", flag_set="all", identity=identity)
    evidence = Evidence()
    evidence.record(samples, treatment=engine, control=engine)
    with pytest.raises(SloBroken, match="nothing recorded"):
        check_bounds([(TTFT, Slo("ttft_p95_ms", max=100))], evidence)
