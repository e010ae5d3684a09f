"""What a run found, as one document, tables, and a picture."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from bench_rounds import a_round

from engine.runtime.models import ModelFiles
from gates.exits import USAGE
from pytest_phase5.bench import tables
from pytest_phase5.bench.arms import OFF, ON, PEER
from pytest_phase5.bench.cells import Cell
from pytest_phase5.bench.cli import Options, run
from pytest_phase5.bench.document import document, sound
from pytest_phase5.bench.identity import Identity, matches
from pytest_phase5.bench.limit import Observed, Pair, row
from pytest_phase5.bench.limit_rounds import Result
from pytest_phase5.bench.picture import picture
from pytest_phase5.bench.running import Compared, Outcome

MODEL = ModelFiles(name="tiny", path=Path("/nowhere"), sha256="ab", builtin=True)


def told(same: int = 8, *, unequal: bool = False) -> dict[str, object]:
    rounds = [
        a_round(arm, n, rate, ttft, state="unequal" if unequal and n else "whole")
        for n in range(3)
        for arm, rate, ttft in ((ON, 30.0 + n, 50.0), (OFF, 20.0, 80.0), (PEER, 10.0, 100.0))
    ]
    cell = Cell(workload="chat", streams=10, requests=20, bound=1.0)
    outcome = Outcome(
        cells=[Compared(cell=cell, rounds=rounds)],
        options={ON: "phase5 serve --flags all"},
        environment={ON: {"LD_PRELOAD": "/some/where/libopenblas.so.0"}},
        identities=[Identity(ON, same, 8)],
    )
    pair = Pair(
        http=Observed(Result(900, 1.0, 0.0), 0.5), alone=Observed(Result(1000, 1.0, 0.5), 0.5)
    )
    return document(MODEL, 3, 3, outcome, [row(32, [pair, pair])])


def test_a_document_has_medians_ratios_and_how_it_was_measured() -> None:
    facts = told()
    assert facts["environment"] == {ON: {"LD_PRELOAD": "libopenblas.so.0"}}
    (cell,) = facts["cells"]  # type: ignore[misc] # a list
    (rate, *_) = cell["ratios"]
    assert (rate["measure"], rate["of"], rate["to"], rate["ratio"]) == (
        "requests_per_second",
        ON,
        PEER,
        3.1,
    )
    assert rate["low"] < 3.1 < rate["high"]
    assert sound(facts)


@pytest.mark.parametrize("facts", [told(same=7), told(unequal=True)])
def test_other_answers_or_other_work_are_not_sound(facts: dict[str, object]) -> None:
    assert not sound(facts)


def test_tables_name_each_server_and_each_ratio_with_its_interval() -> None:
    facts = told()
    assert [line[1] for line in tables.arms(facts).rows] == [PEER, OFF, ON]
    assert ("chat, 10 streams", "requests a second", "on / peer") in [
        line[:3] for line in tables.ratios(facts).rows
    ]
    (limit,) = tables.limit(facts).rows
    assert limit[:4] == ("32 streams", "900", "1000", "0.90 (0.90 to 0.90)")
    assert "8 of 8 greedy answers" in tables.heading(facts)[1]
    assert tables.reasons(told(unequal=True))


def test_the_picture_is_an_svg_with_a_row_for_each_drawn_ratio() -> None:
    drawn = picture(told())
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    labels = [node.get("aria-label") for node in root.iter() if node.get("class") == "forest"]
    assert len(labels) == 6  # two measures, three pairs of arms
    assert "3.10" in drawn


def test_answers_are_counted_word_for_word() -> None:
    assert matches(["a", "b"], ["a", "B"]) == 1
    with pytest.raises(ValueError, match="argument 2"):
        matches(["a"], [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(workloads=("nothing",)), "--workload 'nothing'; allowed: chat,"),
        (Options(arms=("vllm",)), "--arm 'vllm'; allowed: peer, peer-wide, off, on"),
        (Options(rounds=0), "allowed: 1 or more"),
        (Options(report=Path(__file__)), "not empty; allowed: a new or empty folder"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    options: Options, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(options, as_json=False) == USAGE
    assert message in capsys.readouterr().err
