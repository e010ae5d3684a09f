"""A brake is stronger than what a file says, and ends with its own id only."""

from hypothesis import given
from hypothesis import strategies as st

from engine.core.brakes import Brake, Cause, braked, standing
from engine.core.flags import FLAGS, FlagState

ids = st.text("0123456789abcdef", min_size=1, max_size=3)
brakes = st.dictionaries(
    st.sampled_from(FLAGS), st.builds(Brake, id=ids, cause=st.sampled_from(Cause))
)
states = st.fixed_dictionaries(
    {name: st.builds(FlagState, st.floats(0, 100), st.just(name)) for name in FLAGS}
)
cited = st.dictionaries(st.sampled_from(FLAGS), st.lists(ids, max_size=3))


@given(states, brakes)
def test_a_braked_flag_serves_nobody_and_no_other_flag_changes(
    asked: dict[str, FlagState], stopped: dict[str, Brake]
) -> None:
    served = braked(asked, stopped)
    assert served.keys() == asked.keys()
    for name, state in served.items():
        assert state == (FlagState(0.0, name) if name in stopped else asked[name])


@given(brakes, cited)
def test_only_a_brake_that_is_cited_for_its_own_flag_is_lifted(
    stopped: dict[str, Brake], lifted: dict[str, list[str]]
) -> None:
    left = standing(stopped, lifted)
    for name, brake in stopped.items():
        assert (name in left) == (brake.id not in lifted.get(name, []))
        assert left.get(name, brake) is brake
