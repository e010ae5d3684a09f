"""Panels of one look: every one has a unit, a legend, and says what to do about what it shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import statetimeline as timeline
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model

from pytest_phase5.dashboards.limits import Line

#: Columns of Grafana's grid.
WIDTH: Final = 24

#: The one server that is chosen above the panels.
SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

#: Of the two arms, so that they are told apart in the same way everywhere; blue and orange
#: differ for people who do not see red and green apart, too.
COLOURS: Final = {"treatment": "orange", "control": "blue"}

#: Colours of states.
FINE: Final = "green"
WATCH: Final = "yellow"
ACT: Final = "red"
IDLE: Final = "text"

Panel = timeseries.Panel | stat.Panel | timeline.Panel

_Kind = TypeVar("_Kind", timeseries.Panel, stat.Panel, timeline.Panel)


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and how its series are called: a text in which {{label}} stands for a value."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What every panel has.

    Attributes:
        title: what is shown.
        text: how to read it, and what to do.
        unit: an id of Grafana's; `suffix:` begins one of our own.
        span: width in columns.
    """

    title: str
    text: str
    unit: str = "short"
    span: int = 8


def graph(
    about: About, *queries: Query, line: Line | None = None, stacked: bool = False
) -> timeseries.Panel:
    """Lines over time, with the limit drawn where there is one."""
    panel = _common(timeseries.Panel().height(8), about, queries)
    panel.min(0).line_width(1).fill_opacity(30 if stacked else 5)
    panel.show_points(looks.VisibilityMode.NEVER)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(looks.LegendDisplayMode.LIST)
        .placement(looks.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )
    panel.tooltip(
        common.VizTooltipOptions()
        .mode(looks.TooltipDisplayMode.MULTI)
        .sort(looks.SortOrder.DESCENDING)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if line:
        panel.thresholds(_steps(line))
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(looks.GraphTresholdsStyleMode.DASHED)
        )
    for query in queries:
        if query.legend in COLOURS:
            panel.override_by_name(query.legend, [_colour(COLOURS[query.legend])])
    return panel


def number(about: About, query: Query, *, line: Line | None = None) -> stat.Panel:
    """The latest value, coloured by its limit where there is one."""
    panel = _common(stat.Panel().height(4), about, (query,))
    panel.graph_mode(looks.BigValueGraphMode.AREA).color_mode(looks.BigValueColorMode.VALUE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.thresholds(_steps(line) if line else _plain())


def states(
    about: About, *queries: Query, colours: Mapping[str, str], height: int = 8
) -> timeline.Panel:
    """Which of some states held when; a query gives the place of the state in `colours`."""
    panel = _common(timeline.Panel().height(height), about, queries)
    texts = {
        str(place): model.ValueMappingResult(text=name, color=colour, index=place)
        for place, (name, colour) in enumerate(colours.items())
    }
    return panel.mappings([model.ValueMap(options=texts)]).merge_values(merge_values=True)


def _common(panel: _Kind, about: About, queries: Sequence[Query]) -> _Kind:
    panel.title(about.title).description(about.text).unit(about.unit).span(about.span)
    panel.datasource(SOURCE)
    for place, query in enumerate(queries):
        panel.with_target(
            prometheus.Dataquery()
            .expr(query.expr)
            .legend_format(query.legend)
            .ref_id(chr(ord("A") + place))
            .range()
        )
    return panel


def _steps(line: Line) -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig().steps(
        [
            model.Threshold(value=None, color=line.below),
            model.Threshold(value=line.value, color=line.above),
        ]
    )


def _plain() -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig().steps([model.Threshold(value=None, color=IDLE)])


def _colour(name: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": name})
