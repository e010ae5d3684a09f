"""A rollback rehearsed under load: it works, it is quick, and nobody loses a stream."""

from pathlib import Path

import pytest

from pytest_phase5.doors import config_path
from pytest_phase5.recording import Evidence
from pytest_phase5.stash import SETTINGS

#: Enough that a rollback falls into many streams; `phase5 drill` rehearses it under 75.
STREAMS = 24


@pytest.mark.slo("drill")
def test_a_rollback_under_load_loses_no_stream(
    request: pytest.FixtureRequest, evidence: Evidence, tmp_path: Path
) -> None:
    """On engines and a store of its own; what runs elsewhere is drilled by `phase5 drill`."""
    from gates.guarding.drill import journal_of
    from gates.journal import ChaosVerdict
    from pytest_phase5.drilling import Scratch, drill, engine_of, requested

    settings = request.config.stash[SETTINGS]
    if settings.engine_url or request.config.hook.pytest_phase5_start_engine.get_hookimpls():
        pytest.skip("drills are for engines that are started here; see phase5 drill")
    scratch = Scratch.of(settings, config_path(settings), STREAMS)
    drilled = drill(scratch, tmp_path)
    journal = journal_of(drilled, requested(scratch))
    evidence.record_journal(journal, treatment=engine_of(drilled))
    assert journal.verdict is ChaosVerdict.PASS, journal
