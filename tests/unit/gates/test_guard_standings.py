"""What the guard shows of flags and criteria, on minutes that are made up."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from made_up_minutes import ENTERED, Clock, MadeUp
from prometheus_client import CollectorRegistry

from gates.guarding.ledgers import Ledgers
from gates.guarding.situation import StoreView
from gates.guarding.standings import StandingMetrics, shown, soaks
from gates.live_judge import each_together
from gates.policy import load_policy
from gates.standing import Standing

FLAG = "ttft_pipeline"
POLICY = load_policy()
STANDING = Standing(
    stage="early", enabled=True, percentage=10.0, entered_at=ENTERED, epoch=3, salt=FLAG
)


@dataclass
class Scrape:
    """Ledgers and what a scrape shows of them."""

    ledgers: Ledgers
    minutes: MadeUp = field(default_factory=MadeUp)
    clock: Clock = field(default_factory=Clock)
    metrics: StandingMetrics = field(default_factory=StandingMetrics)

    def __post_init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self.metrics)

    def after(self, minutes: int, *flags: str) -> None:
        now = self.clock.now = self.clock.now + timedelta(minutes=minutes)
        standings = dict.fromkeys(flags, STANDING)
        self.ledgers.follow(
            standings, lambda flag, standing: self.minutes.header(flag, standing, now), now
        )
        self.ledgers.extend(self.minutes.rows, now)
        folds = self.ledgers.folds
        self.metrics.read(StoreView(where="memory", generation=1, flags=standings))
        self.metrics.judged(shown(each_together(POLICY.live, folds, now), folds), soaks(folds))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"phase5_guard_{name}", {"flag": FLAG, **labels})

    def outcome(self, criterion: str) -> list[str]:
        """The outcomes that are shown as 1."""
        return [
            sample.labels["outcome"]
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "phase5_guard_criterion_outcome"
            and sample.labels["criterion"] == criterion
            and sample.value == 1
        ]


@pytest.fixture
def scrape(tmp_path: Path) -> Scrape:
    return Scrape(Ledgers(tmp_path, POLICY))


def test_a_flag_that_does_well_nears_a_pass_within_its_bounds(scrape: Scrape) -> None:
    scrape.after(-8, FLAG)
    early = scrape.value("criterion_evidence_ratio", criterion="live_error_rate")
    scrape.after(120, FLAG)
    late = scrape.value("criterion_evidence_ratio", criterion="live_error_rate")
    assert early is not None
    assert late is not None
    assert early < 1 <= late
    assert scrape.outcome("live_error_rate") == ["pass"]
    assert scrape.value("criterion_limit", criterion="live_error_rate") == 0.001
    low, high = (
        scrape.value("criterion_bound", criterion="live_error_rate", side=side)
        for side in ("low", "high")
    )
    estimate = scrape.value("criterion_estimate", criterion="live_error_rate")
    assert low is not None
    assert high is not None
    assert low == estimate == 0 < high < 0.001


def test_a_flag_that_breaks_fails_and_its_bounds_pass_the_limit(scrape: Scrape) -> None:
    scrape.after(1, FLAG)
    scrape.minutes.bad = {FLAG: scrape.clock.closed_now() + 1}
    scrape.after(5, FLAG)
    assert scrape.outcome("live_error_rate") == ["fail"]
    low = scrape.value("criterion_bound", criterion="live_error_rate", side="low")
    assert low is not None
    assert low > 0.001


def test_the_soak_and_the_stage_are_those_of_ledger_and_store(scrape: Scrape) -> None:
    scrape.after(1, FLAG)
    before = scrape.value("soak_minutes")
    scrape.after(7, FLAG)
    assert before is not None
    assert scrape.value("soak_minutes") == before + 7
    assert scrape.value("soak_demanded_minutes") == 48 * 60
    assert scrape.value("flag_percentage") == 10
    assert scrape.value("flag_epoch") == 3
    assert [scrape.value("flag_stage", stage=s) for s in ("off", "early", "mid")] == [0, 1, 0]


def test_a_flag_that_is_not_watched_any_more_leaves_nothing_behind(scrape: Scrape) -> None:
    scrape.after(1, FLAG)
    scrape.after(1)
    assert scrape.value("soak_minutes") is None
    assert scrape.outcome("live_error_rate") == []


def test_without_a_store_or_ledger_there_is_nothing_to_show(scrape: Scrape) -> None:
    scrape.metrics.read(None)
    assert not [s for family in scrape.registry.collect() for s in family.samples]
