"""Builders of evidence for the kinds of criteria that load and chaos serve."""

from dataclasses import replace
from typing import Any

from gate_builders import measurement, sample

from gates.evidence import REPORT_ITEM, Check, Measurement
from gates.journal import ChaosVerdict, Journal
from gates.policy import load_policy
from gates.samples import Sample
from gates.usage import FRONT_END, Usage

POLICY = load_policy().criteria

KILL = Journal(
    experiment="runtime-kill",
    steady_before=True,
    steady_after=True,
    proven=True,
    lost_streams=0,
    verdict=ChaosVerdict.PASS,
    recovery_seconds=4.2,
    requested={"signal": "SIGKILL"},
    read_back={"exit": -9},
    measured={"restarts": 1},
)


def block(arm: str, number: int, rate: float, requests: int = 10, **changes: Any) -> list[Sample]:
    """A round that got so many requests done each second, one after the other."""
    own = "all" if arm == "treatment" else "off"
    begin, step = 100.0 * number, 1 / rate
    return [
        sample(
            1_000 * number + i,
            own,
            arm,
            block=number,
            scheduled=begin + i * step,
            sent=begin + i * step,
            first_token=begin + i * step + step / 2,
            end=begin + (i + 1) * step,
            **changes,
        )
        for i in range(requests)
    ]


def in_turn(rounds: int, faster: float, **changes: Any) -> Measurement:
    """Rounds A B B A, the treatment so much faster; the machine wobbles by some percent."""
    samples: list[Sample] = []
    for number in range(rounds):
        base = 50 * (1 + 0.03 * ((number * 7) % 5 - 2))
        arms = [("treatment", base * faster), ("control", base)]
        for place, (arm, rate) in enumerate(arms if number % 2 == 0 else arms[::-1]):
            samples += block(arm, 2 * number + place, rate)
    return measurement(
        "t", ["throughput_vs_control"], "all", "off", samples=tuple(samples), **changes
    )


def crowd(streams: int, turns: int = 10, waiting: int = 0, **changes: Any) -> Measurement:
    """So many streams generated at once, and so many more that wait for their first token."""
    samples = [
        sample(
            i,
            "all",
            scheduled=float(turn),
            sent=float(turn),
            first_token=turn + (0.1 if i % (streams + waiting) < streams else 0.95),
            end=turn + (0.9 if i % (streams + waiting) < streams else 0.99),
        )
        for turn in range(turns)
        for i in range(turn * (streams + waiting), (turn + 1) * (streams + waiting))
    ]
    return measurement("t", ["streams_75"], samples=tuple(samples), **changes)


def over(protocol: str, connections: int | None, requests: int = 500) -> Measurement:
    """A run of one protocol during which the front end held so many connections."""
    samples = tuple(replace(s, protocol=protocol) for s in block("treatment", 1, 100, requests))
    readings = tuple(
        Usage(at=100 + second / 2, part=FRONT_END, requests=second, connections=connections)
        for second in range(10)
    )
    return measurement(
        "t",
        ["connection_overhead"],
        samples=samples,
        usage=readings,
        id=f"{protocol}-{connections}",
    )


def hits(share: float = 0.5, requests: int = 100) -> Measurement:
    """Requests of which a share found their prompt read."""
    samples = tuple(
        sample(i, "all", cached_tokens=64 if i < share * requests else 0) for i in range(requests)
    )
    return measurement("hits", ["prefix_hit_rate"], samples=samples)


def survived() -> Measurement:
    """Every experiment, proven and survived."""
    names = POLICY["chaos_recovery"].experiments
    journals = tuple(replace(KILL, experiment=name) for name in names)
    return measurement("chaos", ["chaos_recovery"], journals=journals)


def reported(commit: str = "c0ffee", **changes: Any) -> Measurement:
    """A report of another suite, all green."""
    fine = measurement(
        f"{REPORT_ITEM}api",
        (),
        run="",
        arms={},
        commit=commit,
        checks=(Check(name="api::x", ok=True), Check(name="api::y", ok=True)),
        id="report",
    )
    return replace(fine, **changes)


def busy(rate: float = 200.0) -> Measurement:
    """A run that got so many requests done each second."""
    samples = tuple(block("treatment", 1, rate, 2_000))
    return measurement("busy", ["throughput_rps"], samples=samples)
