"""D2 and D4: a remedy that only claims success is found out, and the breaker can open."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.breaker import BreakerState
from engine.core.qos import Slo, SloState, SloStatus
from engine.core.remediation import Order, Remediator
from engine.core.remedies import Action, Policy, PolicyStore, Remedy
from engine.core.safeguards import Limits, Refusal

LIMITS = Limits(
    cooldown_seconds=60,
    settle_seconds=30,
    max_per_window=5,
    window_seconds=300,
    loop_moves=4,
    loop_seconds=900,
    breaker_failures=3,
    breaker_seconds=300,
)
BAD, BETTER, GOOD = 1000.0, 900.0, 100.0


def policy(name: str, action: Action = "throttle", *, metric: str = "ttft_p95_ms") -> Policy:
    bound = {"min": 550.0} if metric == "throughput_tps" else {"max": 550.0}
    return Policy(Slo(name=name, metric=metric, **bound), Remedy(action))  # type: ignore[arg-type]  # given as text


class FakeTrials:
    """What the streams that came later show."""

    def __init__(self) -> None:
        self.shows: float | None = None
        self.running: dict[str, float] = {}

    def begin_trial(self, name: str, now: float) -> None:
        self.running[name] = now

    def trial(self, name: str) -> float | None:
        return self.shows if name in self.running else None

    def end_trial(self, name: str) -> None:
        self.running.pop(name, None)


@dataclass
class Scene:
    """A remediator, and a shell that does what it says at once."""

    policies: list[Policy]
    dry_run: bool = False
    changes: bool = True
    trials: FakeTrials = field(default_factory=FakeTrials)
    orders: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.remediator = Remediator(
            PolicyStore(self.policies),
            LIMITS,
            self.trials,
            refused=self.refusals.append,
            judged=lambda _, outcome: self.outcomes.append(outcome),
            dry_run=self.dry_run,
        )
        self.caps = 0

    def look(self, now: float, *names: str, state: SloState = "violated") -> list[Order]:
        """A look at which the named SLOs are violated; no name: all of them."""
        bad = set(names) or {each.slo.name for each in self.policies}
        return self.remediator.look(self.statuses(bad, state), now)

    def quiet(self, now: float) -> list[Order]:
        """A look at which every SLO is kept."""
        return self.remediator.look(self.statuses(set(), "ok"), now)

    def statuses(self, bad: set[str], state: SloState) -> list[SloStatus]:
        return [
            SloStatus(
                each.slo.name,
                each.slo.metric,
                BAD if each.slo.name in bad else GOOD,
                50,
                state if each.slo.name in bad else "ok",
                each.slo.limit,
                active=each.slo.name in bad,
            )
            for each in self.policies
        ]

    def play(self, orders: list[Order], now: float) -> list[str]:
        """Carry orders out."""
        for order in orders:
            self.orders.append((order.kind, order.policy.slo.name))
            if order.kind == "execute":
                self.caps += order.actuator == "limit" and self.changes
                self.remediator.done(order, now, changed=self.changes)
            elif order.kind == "take_back":
                self.caps -= order.actuator == "limit"
            elif order.kind == "ease":
                self.caps -= 1
                self.remediator.eased(order, now, over=self.caps == 0)
        return [order.kind for order in orders]

    def violated(self, now: float, *names: str) -> list[str]:
        return self.play(self.look(now, *names), now)

    def kept(self, now: float) -> list[str]:
        return self.play(self.quiet(now), now)

    def breaker(self, now: float) -> BreakerState:
        return self.remediator.safeguards["limit"].breaker.state(now)


def test_fifty_violations_at_once_execute_one_remedy() -> None:
    scene = Scene([policy(f"slo {n}") for n in range(50)])
    assert scene.violated(0) == ["execute"]
    assert scene.refusals == [Refusal.OWNED] * 49
    assert scene.violated(5) == []


def test_fifty_violations_that_ask_for_an_alert_are_told_in_one() -> None:
    scene = Scene([policy(f"slo {n}", "alert") for n in range(50)])
    (order,) = scene.look(0)
    assert len({status.name for status in order.statuses}) == 50
    scene.play([order], 0)
    assert scene.violated(1000) == []  # told once, however long it lasts
    assert scene.kept(1001) == ["resolve"] * 50
    assert scene.violated(2000) == ["execute"]  # another violation


def test_nothing_is_done_while_nothing_is_violated() -> None:
    scene = Scene([policy("a"), policy("b", "alert"), policy("c", "scale_up")])
    for now in range(0, 1000, 5):
        assert scene.kept(now) == []
    assert (scene.refusals, scene.outcomes) == ([], [])


@pytest.mark.parametrize("state", ["no_data", "pending", "ok"])
def test_neither_silence_nor_a_pending_violation_is_remedied(state: SloState) -> None:
    scene = Scene([policy("a")])
    assert scene.look(0, "a", state=state) == []


def test_a_policy_without_a_remedy_is_only_watched() -> None:
    assert Scene([policy("a", "none")]).violated(0) == []


def test_a_remedy_that_helped_is_held_and_given_up_step_by_step() -> None:
    scene = Scene([policy("a")])
    scene.violated(0)
    scene.trials.shows = GOOD
    assert scene.violated(29) == []  # not settled
    assert scene.outcomes == []
    assert scene.violated(30) == []
    assert scene.outcomes == ["helped"]
    assert scene.violated(200) == []  # the window still has old streams; later ones are good
    assert scene.kept(205) == ["ease"]
    assert scene.remediator.safeguards["limit"].owner is None


def test_easing_takes_one_step_each_cooldown() -> None:
    scene = Scene([policy("a")])
    scene.violated(0)
    scene.trials.shows = BETTER
    scene.violated(30)
    assert scene.violated(60) == ["execute"]  # it got better, and is still violated: once more
    scene.trials.shows = GOOD
    scene.violated(90)
    assert scene.kept(120) == ["ease"]
    assert scene.kept(150) == []
    assert scene.kept(180) == ["ease"]
    assert scene.kept(400) == []


@pytest.mark.parametrize("shown", [BAD, BAD * 1.2, BAD * 0.96], ids=["same", "worse", "no gain"])
def test_a_remedy_that_did_not_help_is_taken_back(shown: float) -> None:
    scene = Scene([policy("a")])
    scene.violated(0)
    scene.trials.shows = shown
    assert scene.violated(30) == ["take_back"]
    assert scene.outcomes == ["taken_back"]
    assert scene.caps == 0


def test_a_second_step_that_did_not_help_is_taken_back_and_the_first_stays() -> None:
    scene = Scene([policy("a")])
    scene.violated(0)
    scene.trials.shows = BETTER
    scene.violated(30)
    scene.violated(60)
    scene.trials.shows = BAD
    assert scene.violated(90) == ["take_back"]
    assert scene.caps == 1
    assert scene.remediator.safeguards["limit"].owner == "a"
    assert scene.kept(200) == ["ease"]
    assert scene.caps == 0


def test_without_streams_nobody_knows_whether_it_helped() -> None:
    scene = Scene([policy("a")])
    scene.violated(0)
    for now in range(30, 600, 30):
        assert scene.violated(now) == []
    scene.trials.shows = GOOD
    scene.violated(600)
    assert scene.outcomes == ["helped"]


def test_a_remedy_that_never_helps_opens_the_breaker_and_a_good_probe_closes_it() -> None:
    scene = Scene([policy("a")])
    scene.trials.shows = BAD
    done = [kind for now in range(0, 300, 10) for kind in scene.violated(now)]
    assert done == ["execute", "take_back"] * 3
    assert scene.breaker(300) is BreakerState.OPEN
    assert scene.violated(400) == []
    assert scene.refusals[-1] is Refusal.BREAKER
    opened = 60 + 60 + 30
    assert scene.breaker(opened + 300) is BreakerState.HALF_OPEN
    assert scene.violated(opened + 300) == ["execute"]  # the probe
    scene.trials.shows = GOOD
    scene.violated(opened + 330)
    assert scene.breaker(opened + 330) is BreakerState.CLOSED


def test_a_probe_that_does_not_help_opens_the_breaker_again() -> None:
    scene = Scene([policy("a")])
    scene.trials.shows = BAD
    for now in range(0, 460, 10):
        scene.violated(now)
    assert scene.orders.count(("execute", "a")) == 4
    assert scene.violated(480) == ["take_back"]
    assert scene.breaker(481) is BreakerState.OPEN


def test_remedies_that_cannot_be_carried_out_open_the_breaker_as_well() -> None:
    scene = Scene([policy("a", "scale_up")])
    for now in (0, 60, 120):
        (order,) = scene.look(now)
        scene.remediator.failed(order, now)
    assert scene.outcomes == ["failed"] * 3
    assert scene.look(180) == []
    assert scene.refusals == [Refusal.BREAKER]


def test_a_restart_that_did_not_help_has_failed_and_is_not_taken_back() -> None:
    scene = Scene([policy("a", "restart")])
    scene.violated(0)
    scene.trials.shows = BAD
    assert scene.violated(30) == []
    assert scene.outcomes == ["failed"]


def test_at_a_bound_nothing_is_in_effect() -> None:
    scene = Scene([policy("a")], changes=False)
    scene.violated(0)
    assert scene.trials.running == {}
    assert scene.remediator.safeguards["limit"].owner is None
    assert scene.violated(30) == []
    assert (scene.outcomes, scene.refusals) == ([], [Refusal.COOLDOWN])


def test_two_policies_that_scale_to_and_fro_are_a_loop() -> None:
    up = policy("up", "scale_up", metric="throughput_tps")
    down = policy("down", "scale_down", metric="throughput_tps")
    down = Policy(Slo(name="down", metric="throughput_tps", max=600), down.remedy)
    scene = Scene([up, down])
    for now, name in ((0, "up"), (100, "down"), (200, "up")):
        assert scene.violated(now, name) == ["execute"]
        scene.kept(now + 50)
    assert scene.violated(300, "down") == []
    assert scene.refusals == [Refusal.LOOP]
    guard = scene.remediator.safeguards["replicas"]
    assert guard.breaker.state(300) is BreakerState.OPEN


def test_a_throttle_that_has_to_come_back_each_time_it_is_eased_is_a_loop() -> None:
    scene = Scene([policy("a")])
    scene.trials.shows = GOOD
    for start in (0, 200):
        assert scene.violated(start) == ["execute"]
        scene.violated(start + 30)
        assert scene.kept(start + 70) == ["ease"]
    assert scene.violated(400) == []
    assert scene.refusals == [Refusal.LOOP]


def test_an_open_breaker_of_one_actuator_silences_no_alert() -> None:
    scene = Scene([policy("a"), policy("b", "alert")])
    scene.trials.shows = BAD
    for now in range(0, 200, 10):
        scene.violated(now, "a")
    assert scene.breaker(200) is BreakerState.OPEN
    assert scene.violated(200, "b") == ["execute"]


def test_critical_violations_come_first() -> None:
    late = Policy(
        Slo(name="late", metric="error_rate", max=1, severity="critical"), Remedy("alert")
    )
    scene = Scene([policy("a", "alert"), late])
    (order,) = scene.look(0)
    assert order.policy is late


def test_a_dry_run_says_what_it_would_do_and_does_nothing() -> None:
    scene = Scene([policy("a")], dry_run=True)
    assert scene.violated(0) == ["rehearse"]
    assert scene.violated(30) == []
    assert scene.violated(60) == ["rehearse"]
    assert (scene.trials.running, scene.outcomes, scene.caps) == ({}, [], 0)


def test_a_reset_forgets_what_is_in_effect_and_keeps_what_the_breaker_knows() -> None:
    scene = Scene([policy("a")])
    scene.trials.shows = BAD
    for now in range(0, 200, 10):
        scene.violated(now)
    scene.remediator.reset()
    assert scene.breaker(200) is BreakerState.OPEN
    assert scene.trials.running == {}


def test_what_was_under_way_at_a_reset_is_no_news_afterwards() -> None:
    scene = Scene([policy("a")])
    (order,) = scene.look(0)
    scene.remediator.reset()
    scene.remediator.done(order, 1)
    scene.remediator.failed(order, 1)
    assert (scene.outcomes, scene.trials.running) == ([], {})


LOOKS = st.lists(
    st.tuples(
        st.sets(st.sampled_from(["a", "b", "c", "d"])),
        st.sampled_from([None, GOOD, BETTER, BAD]),
        st.integers(1, 90),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(LOOKS)
def test_whatever_happens_the_safeguards_hold(
    looks: list[tuple[set[str], float | None, int]],
) -> None:
    scene = Scene([policy("a"), policy("b"), policy("c", "scale_up"), policy("d", "restart")])
    times: dict[str, list[float]] = {"limit": [], "replicas": [], "runtime": []}
    now = 0.0
    for bad, shown, pause in looks:
        now += pause
        scene.trials.shows = shown
        orders = scene.look(now, *bad) if bad else scene.quiet(now)
        executed = [order.actuator for order in orders if order.kind == "execute"]
        assert len(executed) == len(set(executed))
        for actuator in executed:
            times[actuator].append(now)
        scene.play(orders, now)
        assert scene.caps >= 0
        assert (scene.caps > 0) == (scene.remediator.safeguards["limit"].owner is not None)
    for moves in times.values():
        gaps = [after - before for before, after in pairwise(moves)]
        assert all(gap >= LIMITS.cooldown_seconds for gap in gaps)
        for first, sixth in zip(moves, moves[LIMITS.max_per_window :], strict=False):
            assert sixth - first >= LIMITS.window_seconds
