import difflib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from store_builders import GOVERNOR, HTTP2, MINIMAL, PIPELINE, PRODUCTION, QOS

from engine.config import packaged, parse_config
from gates.rewriting import RewriteError, rewritten

SHIPPED = packaged("runtime.yaml").read_text(encoding="utf-8")
CANARY: dict[str, Any] = {
    "enabled": True,
    "rollout_percentage": 1.0,
    "stage": "canary",
    "entered_at": "2026-03-01T12:00:00+00:00",
    "epoch": 4,
    "tombstones": ["c0ffee@1234"],
}
TOP = {"generation": 7, "history_head": "ab" * 32}


def changed_lines(old: str, new: str) -> list[str]:
    """The lines that differ, with their sign."""
    delta = difflib.ndiff(old.splitlines(keepends=True), new.splitlines(keepends=True))
    return [line for line in delta if line[0] in "+-"]


def test_only_the_keys_of_the_rollout_change_in_the_shipped_file() -> None:
    new = rewritten(SHIPPED, {GOVERNOR: CANARY}, TOP)
    assert "".join(changed_lines(SHIPPED, new)) == (
        "-     enabled: false      # PID-based admission control\n"
        "+     enabled: true       # PID-based admission control\n"
        "-     rollout_percentage: 0\n"
        "+     rollout_percentage: 1\n"
        '+     stage: "canary"\n'
        '+     entered_at: "2026-03-01T12:00:00+00:00"\n'
        "+     epoch: 4\n"
        '+     tombstones: ["c0ffee@1234"]\n'
        "+ generation: 7\n"
        f'+ history_head: "{"ab" * 32}"\n'
    )


@pytest.mark.parametrize("text", [SHIPPED, MINIMAL, PRODUCTION], ids=["shipped", "minimal", "full"])
@pytest.mark.parametrize("flag", [GOVERNOR, HTTP2, PIPELINE, QOS])
def test_a_flag_moves_in_every_example_and_the_rest_stays_byte_for_byte(
    text: str, flag: str
) -> None:
    new = rewritten(text, {flag: CANARY}, TOP)
    for line in changed_lines(text, new):
        key = line[1:].split(":")[0].strip()
        assert key in {*CANARY, *TOP}, line
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in new.splitlines() if "#" in line] == comments
    config = parse_config(new, Path("runtime.yaml"))
    moved = config.phase4_rollout.flag(flag)
    assert (moved.stage, moved.rollout_percentage, moved.epoch) == ("canary", 1, 4)
    assert (config.generation, config.history_head) == (7, "ab" * 32)


def test_a_second_change_touches_only_values() -> None:
    once = rewritten(SHIPPED, {GOVERNOR: CANARY}, TOP)
    twice = rewritten(once, {GOVERNOR: {"epoch": 5}}, {"generation": 8})
    assert changed_lines(once, twice) == [
        "-     epoch: 4\n",
        "+     epoch: 5\n",
        "- generation: 7\n",
        "+ generation: 8\n",
    ]


ODD = """\
# on top

phase4_rollout:
    # four spaces
    adaptive_governor:
        enabled: true     # odd   spacing
        rollout_percentage: 1  # Canary
        tombstones:
        - a   # why a
        - b   # why b

    http2_transport: {enabled: false}  # in braces
    # about the flags


# about the generation
generation: 3  # n
server: {port:   8080,
  host:   'localhost'}
...
"""


def test_comments_order_and_spacing_of_an_odd_text_stay() -> None:
    flags = {
        GOVERNOR: {"tombstones": ["b", "c"]},
        HTTP2: {"enabled": True, "rollout_percentage": 1.0},
        QOS: {"enabled": False},
    }
    expected = [
        ("        - a   # why a\n", ""),
        ("        - b   # why b\n", '        - b   # why b\n        - "c"\n'),
        ("{enabled: false} ", "{enabled: true, rollout_percentage: 1}"),
        ("    # about the", "    qos_monitoring:\n      enabled: false\n    # about the"),
        ("flags\n\n", f'flags\nhistory_head: "{"ab" * 32}"\n\n'),
        ("generation: 3", "generation: 7"),
    ]
    text = ODD
    for old, new in expected:
        text = text.replace(old, new, 1)
    assert rewritten(ODD, flags, TOP) == text


@pytest.mark.parametrize(
    "text",
    [
        "generation: 3\n",
        "generation: 3\nphase4_rollout:\n",
        "phase4_rollout: {}",
        '{"generation": 3, "phase4_rollout": {"adaptive_governor": {"enabled": false}}}',
        "phase4_rollout:\n  adaptive_governor:\n",
        "---\nphase4_rollout:\n  adaptive_governor: {}\n...\n",
        "\ufeffphase4_rollout:\n  adaptive_governor: {}\n",
    ],
)
def test_a_flag_moves_in_a_text_of_any_shape(text: str) -> None:
    new = rewritten(text, {GOVERNOR: CANARY}, TOP)
    assert yaml.safe_load(new)["phase4_rollout"][GOVERNOR] == CANARY
    assert parse_config(new, Path("runtime.yaml")).generation == 7


def test_line_endings_stay() -> None:
    text = MINIMAL.replace("\n", "\r\n")
    assert rewritten(text, {GOVERNOR: CANARY}, TOP) == rewritten(
        MINIMAL, {GOVERNOR: CANARY}, TOP
    ).replace("\n", "\r\n")


def test_what_is_gone_stays_as_null_with_its_comment() -> None:
    text = "phase4_rollout:\n  adaptive_governor:\n    held: 'odd'  # ask Ada\n"
    new = rewritten(text, {GOVERNOR: {"held": None, "lifted": []}}, {})
    assert "held: null   # ask Ada\n" in new
    assert "lifted: []\n" in new


@pytest.mark.parametrize(
    "word", ["on", "null", "1e5", "0x1f", "1:30", "2026-03-01", "~", "a: b # c"]
)
def test_text_stays_text_whatever_it_looks_like(word: str) -> None:
    new = rewritten(MINIMAL, {GOVERNOR: {"held": word, "tombstones": [word]}}, {})
    flag = yaml.safe_load(new)["phase4_rollout"][GOVERNOR]
    assert (flag["held"], flag["tombstones"]) == (word, [word])


def test_a_flag_whose_text_is_shared_with_another_is_refused() -> None:
    text = "phase4_rollout:\n  adaptive_governor: &one {enabled: false}\n  http2_transport: *one\n"
    with pytest.raises(RewriteError, match="cannot write adaptive_governor without changing"):
        rewritten(text, {GOVERNOR: {"enabled": True}}, {})


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(words, st.lists(words, unique=True, max_size=4), st.sampled_from([1, 2, 4, 7]))
def test_whatever_is_written_is_read_back_and_nothing_else_changes(
    held: str, dead: list[str], indent: int
) -> None:
    text = re.sub(
        "^ +", lambda found: " " * (len(found[0]) // 2 * indent), MINIMAL, flags=re.MULTILINE
    )
    changes = {GOVERNOR: {"held": held, "tombstones": dead}}
    try:
        new = rewritten(text, changes, TOP)
    except RewriteError:
        # YAML has no way to write some characters; then nothing is written.
        assert any(not c.isprintable() for c in "".join([held, *dead]))
        return
    data = yaml.safe_load(text)
    data["phase4_rollout"][GOVERNOR].update(changes[GOVERNOR])
    assert yaml.safe_load(new) == {**data, **TOP}
    for line in changed_lines(text, new):
        assert line[1:].split(":")[0].strip() in {"held", "tombstones", *TOP}
