import pytest

from engine.config import QosConfig, SloPolicy
from engine.core.measures import METRICS
from engine.core.qos import QosMonitor, Slo, SloStatus
from engine.core.registry import EventKind, StreamEvent

WINDOW = 60.0
TTFT = Slo(name="ttft", metric="ttft_p95_ms", max=550)
LATENCY = Slo(name="latency", metric="latency_p99_ms", max=2000)
ERRORS = Slo(name="errors", metric="error_rate", max=0.01)
THROUGHPUT = Slo(name="throughput", metric="throughput_tps", min=50)


def event(
    now: float = 1.0,
    *,
    kind: EventKind = "completed",
    ttft: float | None = 0.1,
    duration: float = 1.0,
    tokens: int = 100,
) -> StreamEvent:
    return StreamEvent(
        kind=kind,
        stream_id=1,
        flags=frozenset(),
        now=now,
        waited=0.0,
        ttft=ttft,
        duration=duration,
        prompt_tokens=1,
        output_tokens=tokens,
        reason="",
    )


def evaluate(slo: Slo, *events: StreamEvent, min_samples: int = 1, now: float = 10.0) -> SloStatus:
    monitor = QosMonitor([slo], WINDOW, min_samples)
    for each in events:
        monitor.observe(each)
    (status,) = monitor.evaluate(now)
    return status


@pytest.mark.parametrize("slo", [TTFT, LATENCY, ERRORS, THROUGHPUT], ids=lambda slo: slo.name)
def test_silence_is_no_data_for_every_metric(slo: Slo) -> None:
    assert evaluate(slo) == SloStatus(slo.name, slo.metric, None, 0, "no_data", slo.limit)


@pytest.mark.parametrize(
    ("slo", "good", "bad"),
    [
        pytest.param(TTFT, event(ttft=0.550), event(ttft=0.551), id="ceiling on ttft"),
        pytest.param(LATENCY, event(duration=2.0), event(duration=2.01), id="ceiling on latency"),
        pytest.param(THROUGHPUT, event(tokens=50), event(tokens=49), id="floor on throughput"),
        pytest.param(ERRORS, event(), event(kind="error"), id="ceiling on errors"),
    ],
)
def test_d6_each_metric_is_compared_on_its_own_side(
    slo: Slo, good: StreamEvent, bad: StreamEvent
) -> None:
    assert evaluate(slo, good).state == "ok"
    assert evaluate(slo, bad).state == "violated"


def test_d7_the_error_rate_counts_good_ends_and_bad_ones_but_no_client_that_left() -> None:
    events = [event()] * 198 + [event(kind="error")] * 2 + [event(kind="cancelled")] * 50
    status = evaluate(ERRORS, *events)
    assert (status.value, status.n, status.state) == (0.01, 200, "ok")
    assert evaluate(ERRORS, *events, event(kind="error")).state == "violated"


def test_quantiles_are_exact_and_not_means() -> None:
    # 100 streams of 10 ms to 1,000 ms: the P95 is the 95th.
    status = evaluate(TTFT, *(event(ttft=n / 100) for n in range(1, 101)))
    assert status.value == pytest.approx(950)


def test_a_stream_without_a_token_has_no_ttft_and_one_that_broke_off_has_its_own() -> None:
    status = evaluate(TTFT, event(ttft=None, duration=0.5), event(kind="cancelled", ttft=0.2))
    assert (status.value, status.n) == (pytest.approx(200), 1)


@pytest.mark.parametrize("kind", ["cancelled", "error"])
def test_a_wait_beyond_the_limit_counts_however_it_ended(kind: EventKind) -> None:
    status = evaluate(TTFT, event(kind=kind, ttft=None, duration=9.0))
    assert (status.value, status.n, status.state) == (pytest.approx(9000), 1, "violated")


def test_latency_is_that_of_completed_streams() -> None:
    status = evaluate(LATENCY, event(duration=1.0), event(kind="error", duration=9.0))
    assert (status.value, status.n) == (pytest.approx(1000), 1)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([event(1.0), event(9.0)], 100, id="idle time between streams is left out"),
        pytest.param([event(1.0), event(1.0)], 200, id="streams at once add up"),
        pytest.param([event(1.0), event(1.5)], 200 / 1.5, id="time that overlaps counts once"),
        pytest.param([event(2.0, duration=2.0), event(1.5)], 100, id="one within another"),
    ],
)
def test_d8_throughput_is_tokens_for_each_second_of_work(
    events: list[StreamEvent], expected: float
) -> None:
    assert evaluate(THROUGHPUT, *events).value == pytest.approx(expected)


def test_streams_that_took_no_time_have_no_throughput() -> None:
    assert evaluate(THROUGHPUT, event(duration=0.0)).state == "no_data"


def test_too_few_streams_are_no_data_however_bad_they_are() -> None:
    bad = [event(ttft=9.0)] * 20
    status = evaluate(TTFT, *bad[:19], min_samples=20)
    assert (status.state, status.n, status.value) == ("no_data", 19, pytest.approx(9000))
    assert evaluate(TTFT, *bad, min_samples=20).state == "violated"


def test_a_stream_leaves_the_window() -> None:
    # In slices of 5 s: it stays for 55 s at least and 60 s at most.
    assert evaluate(TTFT, event(4.9, ttft=9.0), now=59.9).state == "violated"
    assert evaluate(TTFT, event(4.9, ttft=9.0), now=60.0).state == "no_data"


def states(monitor: QosMonitor, *steps: tuple[float, float | None]) -> list[str]:
    """Evaluate at each time, after a stream with that TTFT when one is given."""
    seen = []
    for now, ttft in steps:
        if ttft is not None:
            monitor.observe(event(now, ttft=ttft))
        seen.append(monitor.evaluate(now)[0].state)
    return seen


def test_edges_are_counted_and_states_are_not() -> None:
    monitor = QosMonitor([TTFT], WINDOW, 1)
    steps = [(0, 0.9), (1, 0.9), (100, 0.1), (101, 0.1), (200, 0.9), (300, 0.1)]
    assert states(monitor, *steps) == ["violated", "violated", "ok", "ok", "violated", "ok"]
    assert monitor.violations_total == {"ttft": 2}
    assert monitor.recoveries_total == {"ttft": 2}


def test_silence_is_no_recovery_and_the_same_violation_is_not_counted_again() -> None:
    monitor = QosMonitor([TTFT], WINDOW, 1)
    assert states(monitor, (0, 0.9), (100, None), (200, 0.9)) == ["violated", "no_data", "violated"]
    assert monitor.violations_total == {"ttft": 1}
    assert monitor.recoveries_total == {"ttft": 0}


def test_slos_are_judged_each_for_itself_in_the_order_given() -> None:
    monitor = QosMonitor([THROUGHPUT, TTFT], WINDOW, 1)
    monitor.observe(event(ttft=9.0))
    assert [(s.name, s.state) for s in monitor.evaluate(2.0)] == [
        ("throughput", "ok"),
        ("ttft", "violated"),
    ]
    assert monitor.violations_total == {"throughput": 0, "ttft": 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metric": "ttft", "max": 1}, "unknown metric 'ttft'; allowed: ttft_p95_ms, latency_p99"),
        ({"metric": "error_rate"}, "SLO 'x' needs exactly one of max and min"),
        ({"metric": "error_rate", "max": 1, "min": 1}, "needs exactly one of max and min"),
        ({"metric": "error_rate", "max": 1, "recovery": 2}, "recovery 2 is on the bad side of 1"),
        ({"metric": "error_rate", "min": 1, "recovery": 0}, "recovery 0 is on the bad side of 1"),
    ],
)
def test_an_slo_that_cannot_be_judged_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Slo(name="x", **fields)


def test_a_limit_of_zero_is_a_limit() -> None:
    assert Slo(name="x", metric="error_rate", max=0.0).limit == 0.0
    assert not Slo(name="x", metric="error_rate", max=0.0).kept(0.001)


def test_two_slos_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="given more than once: ttft"):
        QosMonitor([TTFT, TTFT], WINDOW, 1)


def test_every_policy_that_the_configuration_allows_is_an_slo() -> None:
    allowed = SloPolicy.model_fields["metric"].annotation.__args__
    assert set(allowed) == set(METRICS)
    for policy in QosConfig().policies:
        slo = policy.slo()
        assert (slo.name, slo.limit, slo.severity) == (policy.name, policy.max, policy.severity)


# Hysteresis.

HELD = Slo(
    name="ttft",
    metric="ttft_p95_ms",
    max=550,
    recovery=400,
    violation_seconds=10,
    recovery_seconds=20,
    window_seconds=1,
)


def edges(slo: Slo, *steps: tuple[float, float | None]) -> list[str | None]:
    monitor, seen = QosMonitor([slo], WINDOW, 1), []
    for now, ttft in steps:
        if ttft is not None:
            monitor.observe(event(now, ttft=ttft))
        seen.append(monitor.evaluate(now)[0].edge)
    return seen


def test_a_violation_begins_after_its_time_and_ends_at_its_own_threshold_after_its_own() -> None:
    bad, between, good = 0.9, 0.5, 0.3
    assert edges(HELD, (0, bad), (9, bad), (10, bad)) == [None, None, "violated"]
    began = [(0, bad), (10, bad)]
    # Between both thresholds nothing changes, and a spell of good looks is broken.
    steps = [*began, (20, between), (30, good), (45, between), (50, good), (69, good), (70, good)]
    assert edges(HELD, *steps) == [None, "violated", *[None] * 5, "recovered"]


def test_one_good_look_ends_a_bad_spell_and_silence_does_not() -> None:
    bad, good = 0.9, 0.3
    assert edges(HELD, (0, bad), (5, good), (12, bad), (21, bad)) == [None] * 4
    assert edges(HELD, (0, bad), (5, None), (12, bad)) == [None, None, "violated"]


def test_a_bad_value_is_pending_until_it_is_a_violation() -> None:
    assert states(QosMonitor([HELD], WINDOW, 1), (0, 0.9), (10, 0.9)) == ["pending", "violated"]


def test_a_violation_stays_active_through_silence() -> None:
    monitor = QosMonitor([TTFT], WINDOW, 1)
    states(monitor, (0, 0.9))
    status = monitor.evaluate(200)[0]
    assert (status.state, status.active) == ("no_data", True)


def test_each_slo_may_have_a_window_and_a_minimum_of_its_own() -> None:
    short = Slo(name="short", metric="ttft_p95_ms", max=550, window_seconds=12, min_samples=2)
    monitor = QosMonitor([short, TTFT], WINDOW, 1)
    monitor.observe(event(0, ttft=9.0))
    assert [s.state for s in monitor.evaluate(1)] == ["no_data", "violated"]
    monitor.observe(event(1, ttft=9.0))
    assert [s.state for s in monitor.evaluate(2)] == ["violated", "violated"]
    assert [s.state for s in monitor.evaluate(20)] == ["no_data", "violated"]


# Trials.


def test_a_trial_counts_only_streams_that_began_after_it() -> None:
    monitor = QosMonitor([TTFT], WINDOW, 2)
    monitor.observe(event(9.0, ttft=9.0))
    monitor.begin_trial("ttft", 10.0)
    monitor.observe(event(10.5, ttft=9.0, duration=1.0))  # began before
    monitor.observe(event(11.5, ttft=0.1, duration=1.0))
    assert monitor.trial("ttft") is None  # one is too few
    monitor.observe(event(11.6, ttft=0.1, duration=1.0))
    assert monitor.trial("ttft") == pytest.approx(100)
    monitor.end_trial("ttft")
    assert monitor.trial("ttft") is None


@pytest.mark.parametrize(
    ("slo", "before", "after", "gain"),
    [(TTFT, 1000, 900, 0.1), (TTFT, 1000, 1100, -0.1), (THROUGHPUT, 10, 11, 0.1), (TTFT, 5, 5, 0)],
)
def test_a_gain_is_positive_for_what_became_better(
    slo: Slo, before: float, after: float, gain: float
) -> None:
    assert slo.gain(before, after) == pytest.approx(gain)


def test_memory_does_not_grow_with_the_streams() -> None:
    monitor = QosMonitor([TTFT, THROUGHPUT], WINDOW, 1)
    for number in range(3_000):
        monitor.observe(event(number * 0.1, duration=0.01, ttft=0.001 * (number % 7)))
    assert monitor.observed == 3_000
    for each in monitor._watched.values():
        assert len(each.window.live(300.0)) <= 12
    # 50 streams a slice, each apart from the others: still exact.
    assert monitor.evaluate(300.0)[1].value == pytest.approx(100 / 0.01)


def test_beyond_the_stretches_that_are_told_apart_short_pauses_count_as_work() -> None:
    events = [event(n * 0.002, duration=0.001, tokens=1) for n in range(1, 200)]
    value = evaluate(THROUGHPUT, *events).value
    assert value is not None
    assert 500 <= value <= 1000
