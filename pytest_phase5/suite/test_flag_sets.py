"""Every combination of the flags starts, answers and stops."""

import pytest

from engine.core.flags import every_flag_set, flag_set_name, joined, parse_flag_set
from pytest_phase5.fixtures import Engines
from pytest_phase5.recording import Evidence

FLAG_SETS = [flag_set_name(flags) for flags in every_flag_set()]
#: The flags of a stream show with its first word: a few are enough.
ANSWER_TOKENS = 8


@pytest.mark.slo("flag_sets_start")
@pytest.mark.flag_set(model="tiny")
@pytest.mark.parametrize("flags", FLAG_SETS)
def test_engine_starts_answers_and_stops(flags: str, engines: Engines, evidence: Evidence) -> None:
    """One engine with these flags; leaving the block stops it and checks that nothing is left."""
    with engines.start(flags) as engine:
        evidence.serves(engine)
        answer = engine.ask("Say something.", max_tokens=ANSWER_TOKENS)
        expected = joined(parse_flag_set(flags))
        evidence.check("ready", engine.status()["ready"] is True)
        evidence.check("answers", answer.text != "", f"{answer.output_tokens} tokens")
        evidence.check("flags", answer.flags == expected, f"{answer.flags}, expected {expected}")
    evidence.check("stopped clean", ok=True)
    assert all(check.ok for check in evidence.checks), evidence.checks
