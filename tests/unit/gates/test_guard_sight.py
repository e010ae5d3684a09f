from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from live_builders import FIRST, HEADER, counts, drawn, just_after, row, rows

from gates.criteria import Outcome
from gates.findings import Finding
from gates.guarding.sight import Sentence, Sight, breaches, sentences
from gates.judge import Request, judge
from gates.ledger import CONTROL, TREATMENT, Header, Row
from gates.ledger_file import LEDGER_FOLDER, Ledger, name_of, text_of
from gates.live_fold import LiveFold
from gates.live_judge import each_together, folded
from gates.policy import load_policy
from gates.reader import read_folder
from gates.stages import Transition
from gates.standing import Cause
from gates.verdict import Decision, Subject

POLICY = load_policy()
PIPELINE, HTTP2 = "ttft_pipeline", "http2_transport"


def fold(told: Iterable[Row], header: Header = HEADER) -> LiveFold:
    ledger = Ledger(header=header, rows=tuple(told))
    return folded(ledger, POLICY.live, POLICY.stages[header.stage])


def both(bad_pipeline: float, bad_http2: float) -> dict[str, list[Row]]:
    """An hour of two flags at half the traffic each, crossed, with errors of their own."""
    rng = np.random.default_rng(5)
    told: dict[str, list[Row]] = {PIPELINE: [], HTTP2: []}
    for minute in range(60):
        cells = {}
        for name, p in (
            ("off", 0.0),
            (PIPELINE, bad_pipeline),
            (HTTP2, bad_http2),
            (f"{HTTP2}+{PIPELINE}", bad_pipeline + bad_http2),
        ):
            cells[name] = (200, int(rng.binomial(200, p)), 200, 0)
        for flag, rows_of in told.items():
            on = [cell for name, cell in cells.items() if flag in name]
            off = [cell for name, cell in cells.items() if flag not in name]
            arms = [
                counts(arm, sum(c[0] for c in group), sum(c[1] for c in group))
                for arm, group in ((TREATMENT, on), (CONTROL, off))
            ]
            rows_of.append(row(minute, *arms, cells=cells))
    return told


def folds_of(told: dict[str, list[Row]]) -> dict[str, LiveFold]:
    return {
        flag: fold(given, replace(HEADER, flag=flag, share=0.5)) for flag, given in told.items()
    }


def convicted(folds: Mapping[str, LiveFold], now: datetime) -> tuple[Sentence, ...]:
    return sentences(each_together(POLICY.armed, folds, now), folds)


def complained_of(folds: Mapping[str, LiveFold], now: datetime) -> Iterator[tuple[str, Finding]]:
    return breaches(each_together(POLICY.armed, folds, now))


def test_healthy_traffic_convicts_nobody() -> None:
    told = drawn(600, 3)
    assert convicted({PIPELINE: fold(told)}, just_after(told)) == ()


def test_a_flag_that_alone_is_worse_is_convicted_by_a_verdict() -> None:
    told = rows(30, treatment=(60, 6, 0))
    (found,) = convicted({PIPELINE: fold(told)}, just_after(told))
    assert (found.flag, found.cause, found.criterion) == (
        PIPELINE,
        Cause.VERDICT,
        "live_error_rate",
    )
    assert "confidently worse than control" in found.reason


def test_of_two_flags_only_the_guilty_is_convicted() -> None:
    told = both(0.05, 0.0)
    found = convicted(folds_of(told), just_after(told[PIPELINE]))
    assert [(s.flag, s.cause) for s in found] == [(PIPELINE, Cause.VERDICT)]


def test_what_one_flag_did_to_both_arms_of_another_is_no_outage() -> None:
    """Nor is it one when the ledger of the guilty flag has been closed."""
    told = both(0.05, 0.0)
    alone = {HTTP2: folds_of(told)[HTTP2]}
    assert alone[HTTP2].backstops["live_error_rate"].fired is not None
    assert convicted(alone, just_after(told[HTTP2])) == ()


def test_where_two_are_suspect_and_nobody_can_tell_both_go_as_unattributed() -> None:
    told = both(0.05, 0.0)
    without = {
        flag: [replace(r, cells={}, counts=told[PIPELINE][r.minute - FIRST].counts) for r in given]
        for flag, given in told.items()
    }
    found = convicted(folds_of(without), just_after(told[PIPELINE]))
    assert {(s.flag, s.cause) for s in found} == {
        (PIPELINE, Cause.UNATTRIBUTED),
        (HTTP2, Cause.UNATTRIBUTED),
    }


def test_an_outage_of_both_arms_rolls_every_flag_back_and_names_none() -> None:
    told = rows(10, treatment=(60, 30, 0), control=(240, 120, 0))
    folds = {
        PIPELINE: fold(told),
        HTTP2: fold(rows(10), replace(HEADER, flag=HTTP2)),
    }
    found = convicted(folds, just_after(told))
    assert [(s.flag, s.cause) for s in found] == [
        (PIPELINE, Cause.UNATTRIBUTED),
        (HTTP2, Cause.UNATTRIBUTED),
    ]


def test_a_crash_outranks_what_else_is_found() -> None:
    told = [*rows(30, treatment=(60, 6, 0)), row(30, crashes={"e1": 2})]
    (found,) = convicted({PIPELINE: fold(told)}, just_after(told))
    assert (found.cause, found.criterion) == (Cause.CRASH, "live_crashes")


def test_a_limit_broken_in_both_arms_is_a_complaint_and_no_sentence() -> None:
    told = rows(60, treatment=(60, 0, 20), control=(240, 0, 80))
    folds = {PIPELINE: fold(told)}
    assert convicted(folds, just_after(told)) == ()
    found = dict(complained_of(folds, just_after(told)))
    assert "not the treatment's doing, page" in found["live_ttft_p95"].reason


def test_healthy_traffic_is_no_complaint() -> None:
    told = drawn(60, 3)
    assert not list(complained_of({PIPELINE: fold(told)}, just_after(told)))


def test_a_row_that_shows_nothing_leaves_the_last_valid_minute_where_it_was() -> None:
    sight = Sight(flag=PIPELINE, epoch=3).taking(row(0), HEADER)
    after = sight.taking(row(1, invalid="no answer from e1"), HEADER)
    assert (after.last_valid, after.reason) == (FIRST, "no answer from e1")
    assert after.taking(row(2), HEADER).reason == ""


@pytest.mark.parametrize("change", [{"commit": "new"}, {"config_sha256": "new"}, {"commit": ""}])
def test_a_minute_of_another_build_is_not_one_of_what_was_promoted(change: dict[str, str]) -> None:
    sight = Sight(flag=PIPELINE, epoch=3).taking(row(0), HEADER)
    after = sight.taking(row(1, **change), HEADER)
    assert after.last_valid == FIRST
    assert "not " in after.reason


def stay(folder: Path, told: Iterable[Row], now: datetime) -> Decision:
    place = folder / LEDGER_FOLDER / name_of(PIPELINE, 3)
    place.parent.mkdir(parents=True)
    place.write_text(text_of(HEADER, told), encoding="utf-8")
    asked = Request(
        stage="canary",
        transitions={PIPELINE: Transition("canary", "canary")},
        now=now,
        subject=Subject(
            commit="abc", config_sha256="def", engine_version="1", epochs={PIPELINE: 3}
        ),
    )
    verdict = judge(POLICY, read_folder(folder), asked)
    assert {c.id for c in verdict.criteria} == {c.id for c in POLICY.armed}
    assert Outcome.PASS in {c.outcome for c in verdict.criteria}
    assert not verdict.dry_run
    return verdict.verdict


def test_the_judge_says_the_same_of_the_file_when_asked_whether_it_may_stay(
    tmp_path: Path,
) -> None:
    bad, good = rows(30, treatment=(60, 6, 0)), drawn(60, 3)
    assert stay(tmp_path / "bad", bad, just_after(bad)) is Decision.ROLLBACK
    assert stay(tmp_path / "good", good, just_after(good)) is not Decision.ROLLBACK
