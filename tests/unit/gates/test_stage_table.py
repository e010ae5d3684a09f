from pathlib import Path

from stage_table import tables

PAGE = Path(__file__).parents[3] / "docs" / "phase5" / "reference" / "rollout.md"


def test_the_documentation_has_the_table_of_all_states_and_events() -> None:
    """`.venv/bin/python tests/unit/gates/stage_table.py` prints it anew."""
    assert tables() in PAGE.read_text(encoding="utf-8")
