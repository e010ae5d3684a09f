"""The dashboards as files: written once, and compared ever after."""

from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from engine.core.flags import FLAGS
from gates.stages import Policy
from pytest_phase5.dashboards.flag import flag_board
from pytest_phase5.dashboards.overview import overview
from pytest_phase5.dashboards.pressure import pressure
from pytest_phase5.dashboards.rollout import rollout
from pytest_phase5.generated import differing, put

#: Where they stand in this project.
FOLDER: Final = Path("config/grafana/dashboards")


def files(policy: Policy) -> dict[str, str]:
    """The text of every dashboard by the name of its file: that of its uid, without ours."""
    boards = (
        overview(policy),
        *(flag_board(flag, policy) for flag in FLAGS),
        rollout(policy),
        pressure(policy),
    )
    return {f"{_name(board)}.json": _text(board) for board in boards}


def write(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write what differs; the paths that were written.

    Raises:
        OSError: the folder cannot be written.
    """
    return put(folder, texts, differing(folder, texts))


def stale(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Files that are missing, differ, or are of no dashboard."""
    others = {path.name for path in folder.glob("*.json")} - texts.keys()
    differ = differing(folder, texts)
    return [folder / name for name in sorted(others.union(differ))]


def _name(board: model.Dashboard) -> str:
    return (board.uid or "").removeprefix("phase5-")


def _text(board: model.Dashboard) -> str:
    return dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
