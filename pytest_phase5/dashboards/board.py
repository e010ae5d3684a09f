"""A dashboard: what is chosen above the panels, what is marked in them, and where they stand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from pytest_phase5.dashboards.panels import SOURCE, WIDTH, Panel, Query
from pytest_phase5.dashboards.promql import SPAN, increase

#: By it the dashboards find each other, and people find all of them.
TAG: Final = "phase5"

#: What changed what one sees, drawn into every panel.
MARKS: Final = (
    Query(f"sum by (flag, cause) (increase(phase5_guard_rollbacks_total[{SPAN}])) > 0", "Rollback"),
    Query(increase("phase5_runtime_restarts_total", by=["instance"]) + " > 0", "Runtime restart"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading. The spans of those that stand beside each other fill the width."""

    title: str
    panels: Sequence[Panel]


def board(uid: str, title: str, text: str, rows: Iterable[Row]) -> model.Dashboard:
    """A dashboard of rows.

    Args:
        uid: stays the same, since links and bookmarks go by it.
        title: as people know it.
        text: what it answers.
        rows: from what cannot wait to what explains it.
    """
    made = dashboard.Dashboard(title).uid(uid).description(text).tags([TAG]).readonly()
    made.time("now-1h", "now").refresh("30s").timezone("browser").id(0).version(1)
    made.tooltip(model.DashboardCursorSync.CROSSHAIR)
    made.link(
        dashboard.DashboardLink("phase5")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(as_dropdown=True)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
    made.with_variable(
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    )
    made.with_variable(_engines())
    for mark in MARKS:
        made.annotation(_mark(mark))
    for row in rows:
        made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            made.with_panel(panel)
    return _numbered(made.build())


def _engines() -> dashboard.QueryVariable:
    every = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        dashboard.QueryVariable("instance")
        .label("Engine")
        .description("Engines by the address at which Prometheus scrapes them.")
        .query("label_values(phase5_build_info, instance)")
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(multi=True)
        .include_all(include_all=True)
        .current(every)
    )


def _mark(query: Query) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name(query.legend)
        .datasource(SOURCE)
        .expr(query.expr)
        .enable(enable=True)
        .icon_color("red")
    )


def _numbered(made: model.Dashboard) -> model.Dashboard:
    """Every panel gets an id of its own, which links to it name; the kit leaves all at 0."""
    made.id_val = None
    for number, panel in enumerate(made.panels or [], 1):
        panel.id_val = number
    return made


def fills(row: Row) -> bool:
    """Whether the lines of a row's panels end exactly at its width."""
    column = 0
    for panel in row.panels:
        position = panel.build().grid_pos
        column += position.w if position else 0
        if column > WIDTH:
            return False
        column %= WIDTH
    return column == 0
