"""A view as one HTML page that needs nothing else: no script, no network, light, dark or paper."""

from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from gates.verdict import Decision
from pytest_phase5.look import LIGHT, STYLE, variables
from pytest_phase5.reporting import drawings
from pytest_phase5.reporting.view import Distribution, Row, View

_HERE: Final = Path(__file__).resolve().parent

#: The parts of the page: anchor and name.
PARTS: Final = (
    ("flags", "Flags"),
    ("criteria", "Criteria"),
    ("effects", "Effects"),
    ("times", "Times"),
    ("timeline", "Timeline"),
    ("evidence-over-time", "Evidence over time"),
    ("environment", "Environment"),
    ("files", "Files"),
)


def page(view: View) -> str:
    """The page of a view. Everything that comes from outside is escaped by the template."""
    return _template().render(
        head=view.headline,
        rows=view.rows,
        effects=view.effects,
        distributions=view.distributions,
        not_drawn=view.not_drawn,
        timeline=view.timeline,
        live=view.live,
        environment=view.environment,
        files=view.files,
        problems=view.problems,
        verification=view.verification,
        verify_command=view.verify_command,
        digest=view.digest,
        parts=PARTS,
        style=Markup(_style()),  # noqa: S704 - our own files
    )


def _style() -> str:
    own = (_HERE / "report.css").read_text(encoding="utf-8")
    return STYLE + own.replace("LIGHT_PALETTE", variables(LIGHT))


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.globals.update(
        tone=tone,
        forest=_forest,
        distribution=_distribution,
        growth=lambda steps: Markup(drawings.growth(steps)),  # noqa: S704 - escaped where drawn
        draw_live=lambda *given: Markup(drawings.live(*given)),  # noqa: S704 - as above
        draw_timeline=lambda shown: Markup(drawings.timeline(shown)),  # noqa: S704 - as above
    )
    return environment.get_template("report.html.j2")


def tone(word: str) -> str:
    """The class whose colour a word has; what is no decision has that of none."""
    return word if word in set(Decision) else "none"


def _forest(row: Row) -> Markup:
    told = row.told
    label = f"{told.id}: {told.estimate}, interval {told.interval}, limit {told.limit}"
    return Markup(drawings.forest(row.mark, label))  # noqa: S704 - escaped where drawn


def _distribution(one: Distribution) -> Markup:
    return Markup(drawings.distribution(one))  # noqa: S704 - escaped where drawn
