"""An engine that was killed says so in its next life; one that was told to stop leaves no trace."""

from pathlib import Path

from probe import Probe
from served import PATIENCE, serving

CONFIG = "generation: 1\n"


def test_a_killed_engine_is_told_of_by_the_next(tmp_path: Path) -> None:
    with serving(tmp_path, None, config=CONFIG) as served:
        assert Probe(served, tmp_path).metric("phase5_unclean_starts_total") == 0
        served.process.kill()
        served.process.wait(PATIENCE)
    with serving(tmp_path, None, config=CONFIG) as served:
        assert Probe(served, tmp_path).metric("phase5_unclean_starts_total") == 1
    assert not list((tmp_path / "runtime.yaml.state").glob("*.serving"))
