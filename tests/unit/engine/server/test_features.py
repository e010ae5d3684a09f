from typing import Any

from engine.config import Config, forced_states
from engine.core.flags import FLAGS, FlagState
from engine.server.features import BLOCK_SECONDS, Features, wants_http2

GOVERNOR = frozenset({"adaptive_governor"})


def features(flags: frozenset[str], **config: Any) -> Features:
    return Features(Config.model_validate(config), forced_states(flags), "engine-1")


def test_the_limit_is_fixed_without_the_governor() -> None:
    fixed = features(frozenset())
    fixed.limit(50, 0.0, 0.0)
    for second in range(60):
        fixed.first_text(1, 9.0, float(second), at_limit=True)
    assert fixed.limit(50, 60.0, 60.0) == 50


def test_the_governor_begins_at_the_current_limit_and_lowers_it_when_slow() -> None:
    adaptive = features(GOVERNOR)
    assert adaptive.limit(50, 0.0, 0.0) == 50
    for second in range(60):
        adaptive.first_text(1, 9.0, float(second), at_limit=True)
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


def test_two_flags_that_act_on_the_engine_have_blocks_of_their_own() -> None:
    states = {name: FlagState(50.0, name) for name in FLAGS}
    both = Features(Config(), states, "engine-1")
    seen = {
        (both.block_on("adaptive_governor", wall), both.block_on("qos_monitoring", wall))
        for wall in range(0, 40 * BLOCK_SECONDS, BLOCK_SECONDS)
    }
    assert len(seen) == 4


def test_the_second_port_is_wanted_from_the_first_hundredth_of_a_percent() -> None:
    states = forced_states(frozenset())
    assert not wants_http2(states)
    assert wants_http2(states | {"http2_transport": FlagState(0.01, "salt")})
