"""Writes `report.html` and `summary.md` of a folder, from one view."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gates.stages import Policy
from pytest_phase5.reporting.markdown import markdown
from pytest_phase5.reporting.page import page
from pytest_phase5.reporting.reading import gather
from pytest_phase5.reporting.view import View, view_of

REPORT_FILE: Final = "report.html"
SUMMARY_FILE: Final = "summary.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written, and what it shows."""

    view: View
    files: tuple[Path, ...]


def write_report(folder: Path, policy: Policy) -> Written:
    """Write both forms into a folder; a reader never sees half of one.

    Raises:
        OSError: one cannot be written; what stood there before stands.
    """
    view = view_of(gather(folder, policy), datetime.now(UTC))
    files = (folder / REPORT_FILE, folder / SUMMARY_FILE)
    replace_text(files[0], page(view))
    replace_text(files[1], "\n".join(markdown(view.headline)) + "\n")
    return Written(view=view, files=files)


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: it cannot be written; it names the file.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
