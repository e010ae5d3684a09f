import pytest

from engine.core.aggregates import MAX_SAMPLES, WINDOW_SECONDS, Aggregate, Quantiles
from engine.core.registry import StreamEvent, StreamRegistry


def reraise(_told: StreamEvent | Aggregate, error: Exception) -> None:
    raise error


def subscribed(seconds: float = 5.0) -> tuple[StreamRegistry, list[Aggregate]]:
    registry, told = StreamRegistry(reraise), []
    registry.subscribe(told.append, seconds, 0.0)
    return registry, told


def served(registry: StreamRegistry, stream_id: int, *, at: float, ttft: float) -> None:
    """A stream of three tokens that ends two seconds after its first."""
    registry.admit(stream_id, frozenset(), 7, at)
    registry.start(stream_id, at)
    registry.token(stream_id, at + ttft, 3)
    registry.complete(stream_id, at + ttft + 2, "stop")


def test_an_aggregate_tells_what_changed_since_the_last_and_how_things_stand() -> None:
    registry, told = subscribed()
    served(registry, 1, at=1.0, ttft=0.5)
    registry.admit(2, frozenset(), 7, 2.0)
    registry.admit(3, frozenset(), 7, 2.0)
    registry.start(3, 2.0)
    registry.admit(4, frozenset(), 7, 2.0)
    registry.cancel(4, 3.0, "client_gone")
    registry.admit(5, frozenset(), 7, 2.0)
    registry.fail(5, 3.0, "lost")
    registry.export(4, 6.0)
    assert told == [
        Aggregate(
            now=6.0,
            seconds=6.0,
            live=2,
            queued=1,
            running=1,
            admitted=5,
            completed=1,
            failed=1,
            cancelled=1,
            ttft=Quantiles(0.5, 0.5, 0.5),
            duration=Quantiles(2.5, 2.5, 2.5),
            tokens_per_second=0.5,
            limit=4,
            utilisation=0.25,
        )
    ]
    registry.export(4, 11.0)
    last = told[-1]
    assert (last.seconds, last.admitted, last.completed, last.tokens_per_second) == (5.0, 0, 0, 0)
    assert (last.live, last.queued, last.running) == (2, 1, 1)


def test_quantiles_of_no_data_are_none() -> None:
    registry, told = subscribed()
    registry.export(1, 5.0)
    assert (told[0].ttft, told[0].duration) == (None, None)


def test_a_stream_that_fails_has_a_ttft_and_no_duration() -> None:
    registry, told = subscribed()
    registry.admit(1, frozenset(), 7, 0.0)
    registry.start(1, 0.0)
    registry.token(1, 1.0)
    registry.fail(1, 2.0, "lost")
    registry.export(1, 5.0)
    assert told[0].ttft == Quantiles(1.0, 1.0, 1.0)
    assert told[0].duration is None


def test_what_left_the_window_no_longer_counts() -> None:
    registry, told = subscribed()
    served(registry, 1, at=0.0, ttft=9.0)
    served(registry, 2, at=WINDOW_SECONDS, ttft=1.0)
    registry.export(1, WINDOW_SECONDS + 9.5)
    assert told[0].ttft == Quantiles(1.0, 1.0, 1.0)


def test_quantiles_are_those_of_the_samples() -> None:
    registry, told = subscribed()
    for number in range(1, 101):
        served(registry, number, at=float(number) / 100, ttft=float(number))
    registry.export(1, 103.5)  # at the window's length of 60 s, the first 43 have left it
    ttfts = sorted(float(number) for number in range(44, 101))
    ttft = told[0].ttft
    assert ttft is not None
    assert (ttft.p50, ttft.p95, ttft.p99) == (ttfts[28], ttfts[54], ttfts[56])


def test_each_subscriber_has_its_own_interval_and_its_own_last_time() -> None:
    registry, often = subscribed(1.0)
    seldom: list[Aggregate] = []
    registry.subscribe(seldom.append, 3.0, 0.0)
    for second in range(1, 7):
        registry.admit(second, frozenset(), 1, float(second))
        registry.export(1, float(second))
    assert [each.admitted for each in often] == [1] * 6
    assert [(each.now, each.admitted) for each in seldom] == [(3.0, 3), (6.0, 3)]


def test_a_subscriber_that_was_forgotten_for_long_is_told_once() -> None:
    registry, told = subscribed(1.0)
    registry.export(1, 10.0)
    registry.export(1, 10.5)
    assert [each.seconds for each in told] == [10.0]


def test_a_subscriber_that_raises_is_reported_and_the_others_still_hear() -> None:
    reported: list[str] = []
    registry = StreamRegistry(lambda told, error: reported.append(f"{type(told)} {error}"))
    heard: list[Aggregate] = []

    def broken(_aggregate: Aggregate) -> None:
        raise RuntimeError("broken")

    registry.subscribe(broken, 1.0, 0.0)
    registry.subscribe(heard.append, 1.0, 0.0)
    registry.export(1, 1.0)
    assert len(heard) == 1
    assert registry.listener_errors == len(reported) == 1


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0 seconds, given 0"):
        subscribed(0)


def test_memory_is_bounded_however_many_streams_come() -> None:
    registry, told = subscribed()
    for number in range(MAX_SAMPLES + 5):
        served(registry, number, at=0.0, ttft=0.0 if number < 5 else 1.0)
    registry.export(1, 5.0)
    ttft = told[0].ttft
    assert ttft == Quantiles(1.0, 1.0, 1.0)
