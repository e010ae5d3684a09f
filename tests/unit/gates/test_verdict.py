import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gate_builders import answers, evidence, healthy, pace, policy, request, swapped
from jsonschema import Draft202012Validator

from gates.evidence import EvidenceError
from gates.judge import judge
from gates.stages import Transition
from gates.verdict import (
    Decision,
    Verdict,
    digest,
    from_json,
    rounded,
    schema_path,
    to_json,
    worst_decision,
    write_verdict,
)

REQUIRED = {
    "schema",
    "verdict",
    "transition",
    "criteria",
    "flags",
    "subject",
    "evidence",
    "created",
    "expires",
    "environment",
    "dry_run",
}


def good() -> Verdict:
    return judge(policy(), evidence(), request(environment={"python": "3.11"}))


def verdicts() -> list[Verdict]:
    mixed = {
        "http2_transport": Transition("off", "canary"),
        "ttft_pipeline": Transition("canary", "early"),
    }
    return [
        good(),
        judge(policy(), evidence(swapped(healthy(), answers(failed=60))), request()),
        judge(policy(), evidence(swapped(healthy(), pace(pairs=10))), request()),
        judge(policy(), evidence(()), request(dry_run=True)),
        judge(policy(), evidence(), request(transitions=mixed)),
        judge(policy(), evidence(), request([])),
    ]


@pytest.mark.parametrize("verdict", verdicts(), ids=lambda v: v.verdict.value)
def test_every_verdict_fits_the_shipped_schema_and_comes_back(verdict: Verdict) -> None:
    schema = json.loads(schema_path().read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    text = to_json(verdict)
    Draft202012Validator(schema).validate(json.loads(text))
    assert to_json(from_json(text)) == text


def test_the_keys_are_those_of_the_contract() -> None:
    parsed = json.loads(to_json(good()))
    assert parsed.keys() == REQUIRED
    assert parsed["transition"]["from"] == "off"
    assert parsed["transition"]["to"] == "canary"
    contract = {
        "id", "outcome", "reason", "estimate", "interval", "limit", "n", "source", "needs",
    }  # fmt: skip
    assert all(contract <= row.keys() for row in parsed["criteria"])


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "ship it"},
        {"extra": 1},
        {"dry_run": "no"},
        {"flags": {"magic": "promote"}},
        {"criteria": [{"id": "x"}]},
    ],
)
def test_the_schema_refuses_what_is_no_verdict(change: dict[str, Any]) -> None:
    schema = json.loads(schema_path().read_text(encoding="utf-8"))
    parsed = {**json.loads(to_json(good())), **change}
    assert not Draft202012Validator(schema).is_valid(parsed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "v.json: not a verdict"),
        ("[]", "expected an object, given list"),
        ("{}", "schema None; allowed: 'phase5.verdict/1'"),
        ('{"schema": "phase5.verdict/1"}', "keys that differ: created, criteria"),
        (to_json(good()).replace('"promote"', '"ship it"'), "'ship it' is not a valid"),
        (to_json(good()).replace('"off"', '"moon"'), "goes from 'moon'"),
        (to_json(good()).replace("+00:00", ""), "has no zone"),
        (to_json(good()).replace("2026-", "soon-"), "Invalid isoformat"),
        (to_json(good()).replace('"models": {', '"models": 3, "more": {'), "given 3"),
        (to_json(good()).replace("http2_transport", "magic"), "flags .*magic.*; allowed: "),
    ],
)
def test_what_is_no_verdict_is_refused_and_says_why(text: str, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        from_json(text, "v.json")


def test_the_digest_follows_every_byte(tmp_path: Path) -> None:
    verdict = good()
    path = tmp_path / "verdict.json"
    assert write_verdict(path, verdict) == digest(path.read_text(encoding="utf-8"))
    assert write_verdict(path, replace(verdict, dry_run=True)) != digest(to_json(verdict))
    assert [entry.name for entry in tmp_path.iterdir()] == ["verdict.json"]


@pytest.mark.parametrize(
    ("number", "stated"),
    [
        (0.1 + 0.2, 0.3),
        (1234567.8, 1234570.0),
        (float("inf"), None),
        (float("nan"), None),
        (None, None),
    ],
)
def test_numbers_are_stated_to_six_digits(number: float | None, stated: float | None) -> None:
    assert rounded(number) == stated


def test_the_worst_decision_wins_and_none_holds() -> None:
    assert worst_decision([Decision.PROMOTE, Decision.ROLLBACK, Decision.HOLD]) is Decision.ROLLBACK
    assert worst_decision([Decision.PROMOTE, Decision.HOLD]) is Decision.HOLD
    assert worst_decision([]) is Decision.HOLD
