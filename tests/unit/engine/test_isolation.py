from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from engine.core.isolation import CLEARING_TOKENS, Isolation


def test_at_rest_everyone_may_run() -> None:
    isolation = Isolation()
    assert not isolation.active
    assert isolation.admits(1)


def test_a_single_stream_is_not_convicted_by_its_first_fault() -> None:
    isolation = Isolation()
    assert isolation.faulted({1: 5}) is None
    assert isolation.admits(1)
    assert not isolation.admits(2)
    assert isolation.faulted({1: 5}) == 1
    assert not isolation.active


def test_a_fault_of_nobody_changes_nothing() -> None:
    isolation = Isolation()
    assert isolation.faulted({}) is None
    assert not isolation.active
    isolation.faulted({1: 0})
    assert isolation.faulted({}) is None
    assert isolation.admits(1)


def test_a_suspect_that_gets_beyond_the_fault_is_cleared() -> None:
    isolation = Isolation()
    isolation.faulted({1: 5})
    isolation.emitted(1, 5 + CLEARING_TOKENS - 1)
    assert isolation.active
    isolation.emitted(1, 5 + CLEARING_TOKENS)
    assert not isolation.active


def test_halves_run_one_after_the_other_in_the_order_of_arrival() -> None:
    isolation = Isolation()
    isolation.faulted(dict.fromkeys([1, 2, 3], 0))
    assert [uid for uid in (1, 2, 3) if isolation.admits(uid)] == [1, 2]
    isolation.left(1)
    isolation.left(2)
    assert [uid for uid in (1, 2, 3) if isolation.admits(uid)] == [3]


def test_a_fault_beside_somebody_who_had_not_left_yet_convicts_nobody() -> None:
    isolation = Isolation()
    isolation.faulted({1: 0})
    assert isolation.faulted({1: 0}, alone=False) is None
    assert isolation.admits(1)
    assert isolation.faulted({1: 0}) == 1


def test_a_suspect_in_company_is_not_convicted() -> None:
    isolation = Isolation()
    isolation.faulted({1: 0})
    assert isolation.faulted({1: 0, 9: 3}) is None  # 9 came before anyone knew
    assert isolation.admits(1)
    assert not isolation.admits(9)
    assert isolation.faulted({1: 0}) == 1
    assert isolation.admits(9)
    isolation.left(9)
    assert not isolation.active


@dataclass
class Machine:
    """A process in which some streams fault whenever they reach a certain length."""

    lengths: dict[int, int]
    deadly: dict[int, int]  # stream -> output tokens at which it faults
    isolation: Isolation = field(default_factory=Isolation)
    convicted: list[int] = field(default_factory=list)
    faults: int = 0

    def run(self) -> None:
        emitted = dict.fromkeys(self.lengths, 0)
        while emitted:
            running = [uid for uid in emitted if self.isolation.admits(uid)]
            assert running, "nobody may run, although streams live"
            if any(self.deadly.get(uid) == emitted[uid] for uid in running):
                self.faults += 1
                culprit = self.isolation.faulted({uid: emitted[uid] for uid in running})
                if culprit is not None:
                    self.convicted.append(culprit)
                    del emitted[culprit]
                continue
            for uid in running:
                emitted[uid] += 1
                self.isolation.emitted(uid, emitted[uid])
                if emitted[uid] == self.lengths[uid]:
                    del emitted[uid]
                    self.isolation.left(uid)


@given(st.data())
def test_exactly_the_culprits_are_convicted_whoever_runs_beside_them(data: st.DataObject) -> None:
    lengths = data.draw(
        st.dictionaries(st.integers(0, 999), st.integers(1, 12), min_size=1, max_size=24)
    )
    culprits = data.draw(st.sets(st.sampled_from(sorted(lengths)), max_size=4))
    deadly = {uid: data.draw(st.integers(0, lengths[uid] - 1)) for uid in sorted(culprits)}
    machine = Machine(lengths, deadly)
    machine.run()
    assert sorted(machine.convicted) == sorted(culprits)
    assert machine.faults <= 2 * len(lengths) * max(1, len(culprits))
    assert not machine.isolation.active


@given(st.integers(1, 64), st.data())
def test_one_culprit_is_found_within_logarithmically_many_faults(
    streams: int, data: st.DataObject
) -> None:
    culprit = data.draw(st.integers(0, streams - 1))
    machine = Machine(dict.fromkeys(range(streams), 9), {culprit: data.draw(st.integers(0, 8))})
    machine.run()
    assert machine.convicted == [culprit]
    assert machine.faults <= streams.bit_length() + 2


@given(st.lists(st.tuples(st.sampled_from("feln"), st.integers(0, 9), st.integers(0, 9))))
def test_whatever_is_told_in_whatever_order_it_comes_to_rest(
    events: list[tuple[str, int, int]],
) -> None:
    isolation = Isolation()
    for kind, uid, count in events:
        if kind == "f":
            isolation.faulted({uid: count})
        elif kind == "e":
            isolation.emitted(uid, count)
        elif kind == "l":
            isolation.left(uid)
        else:
            isolation.faulted({uid: count, (uid + 1) % 10: count})
        assert isolation.active == (not all(isolation.admits(uid) for uid in range(10)))
    for uid in range(10):
        isolation.left(uid)
    assert not isolation.active
