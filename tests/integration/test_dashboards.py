"""Every panel of every dashboard has something to show, asked of a real Prometheus."""

from collections.abc import Iterator
from math import isfinite
from pathlib import Path

import pytest
from served import until
from watched import Asking, watched

from pytest_phase5.dashboards.files import FOLDER
from pytest_phase5.dashboards.reading import Asked, asked, filled

ROOT = Path(__file__).resolve().parents[2]
QUERIES = [
    query
    for path in sorted((ROOT / FOLDER).glob("*.json"))
    for query in asked(path.read_text(encoding="utf-8"))
]

#: Scrapes are a second apart here: more than four of them, as Grafana's own would be.
SPAN = "8s"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    with watched(tmp_path_factory.mktemp("watched")) as found:
        yield found


def shows(asking: Asking, query: Asked) -> bool:
    """Whether some series has a number; NaN is drawn as nothing."""
    engines = "|".join(asking.values("instance", "phase5_build_info"))
    expr = filled(query.expr, {"instance": engines, "__rate_interval": SPAN})
    return any(isfinite(value) for series in asking.series(expr) for value in series)


def test_every_panel_and_mark_shows_numbers(asking: Asking) -> None:
    empty = list(QUERIES)

    def all_show() -> bool:
        empty[:] = [query for query in empty if not shows(asking, query)]
        return not empty

    assert len(QUERIES) > 150
    try:
        until(all_show)
    except AssertionError as error:
        raise AssertionError("empty: " + "\n".join(map(str, empty))) from error


def test_a_query_for_a_metric_that_was_renamed_shows_nothing(asking: Asking) -> None:
    query = next(query for query in QUERIES if "phase5_requests_total" in query.expr)
    renamed = query.expr.replace("phase5_requests_total", "phase5_answers_total")
    assert not shows(asking, Asked(query.board, query.panel, renamed))
