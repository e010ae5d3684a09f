from typing import Any

from engine.config import Config, forced_states
from engine.core.flags import FLAGS, FlagState
from engine.core.registry import StreamEvent
from engine.server.features import BLOCK_SECONDS, Features, wants_http2

GOVERNOR = frozenset({"adaptive_governor"})
QOS = frozenset({"qos_monitoring"})


def features(flags: frozenset[str], **config: Any) -> Features:
    return Features(Config.model_validate(config), forced_states(flags), "engine-1")


def event(stream_id: int, ttft: float) -> StreamEvent:
    return StreamEvent(
        kind="completed",
        stream_id=stream_id,
        flags=QOS,
        now=10.0,
        waited=0.0,
        ttft=ttft,
        duration=ttft,
        prompt_tokens=1,
        output_tokens=1,
        reason="stop",
    )


def test_the_limit_is_fixed_without_the_governor() -> None:
    fixed = features(frozenset())
    fixed.limit(50, 0.0, 0.0)
    for second in range(60):
        fixed.first_text(9.0, float(second), at_limit=True)
    assert fixed.limit(50, 60.0, 60.0) == 50


def test_the_governor_begins_at_the_current_limit_and_lowers_it_when_slow() -> None:
    adaptive = features(GOVERNOR)
    assert adaptive.limit(50, 0.0, 0.0) == 50
    for second in range(60):
        adaptive.first_text(9.0, float(second), at_limit=True)
    assert adaptive.limit(50, 60.0, 60.0) < 50


def test_the_governor_never_admits_more_than_the_batch_has_rows() -> None:
    adaptive = features(GOVERNOR, runtime={"max_rows": 8})
    assert adaptive.limit(50, 0.0, 0.0) == 8


def test_the_governor_is_assigned_by_block_and_to_every_stream_of_it() -> None:
    states = {name: FlagState(0.0, name) for name in FLAGS}
    half = Features(Config(), states | {"adaptive_governor": FlagState(50.0, "salt")}, "engine-1")
    arms = []
    for block in range(40):
        start = block * BLOCK_SECONDS
        seen = {
            half.assign(f"key {n}", start + second)
            for n in range(5)
            for second in (0, BLOCK_SECONDS - 1)
        }
        assert len(seen) == 1
        arms.append(bool(seen.pop()))
    assert 5 < sum(arms) < 35


def test_every_nth_stream_is_watched_and_a_violation_found() -> None:
    rollout = {"qos_monitoring": {"enabled": True, "sample_rate": 2}}
    watching = features(QOS, phase4_rollout=rollout, qos={"min_samples": 3})
    for stream_id in range(6):
        watching.began(stream_id, QOS)
        watching.ended(event(stream_id, 9.0 if stream_id % 2 == 0 else 0.1))
    status = watching.evaluate(10.0)[0]
    assert (status.n, status.state) == (3, "violated")
    assert watching.violations()[status.name] == 1


def test_streams_of_the_control_arm_are_not_watched() -> None:
    watching = features(QOS, qos={"min_samples": 1})
    watching.began(1, frozenset())
    watching.ended(event(1, 9.0))
    assert watching.evaluate(10.0)[0].state == "no_data"


def test_the_second_port_is_wanted_from_the_first_hundredth_of_a_percent() -> None:
    states = forced_states(frozenset())
    assert not wants_http2(states)
    assert wants_http2(states | {"http2_transport": FlagState(0.01, "salt")})
