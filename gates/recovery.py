"""Chaos: the fault is proven to have happened, service came back in time, nothing was lost."""

from collections.abc import Iterator
from math import isfinite

from gates.criteria import Criterion, Outcome
from gates.findings import Finding, compared, number, plain
from gates.groups import Group
from gates.journal import ChaosVerdict, Journal
from gates.statistics import Interval
from gates.text import seconds

_SAID = {
    ChaosVerdict.FAIL: Outcome.FAIL,
    ChaosVerdict.INCONCLUSIVE: Outcome.INCONCLUSIVE,
    ChaosVerdict.INVALID: Outcome.INVALID,
    ChaosVerdict.ABORTED: Outcome.NO_DATA,
}


def recovery(criterion: Criterion, group: Group) -> Iterator[Finding]:
    """Each journal of a group; what an experiment did not prove is invalid, whatever it says."""
    journals = [(journal, m) for m in group.measurements for journal in m.journals]
    for journal, measurement in journals:
        doubt = _doubt(journal) or ("" if measurement.arms else "about no engine")
        if doubt:
            yield plain(criterion, group, Outcome.INVALID, f"{journal.experiment}: {doubt}")
        elif journal.verdict is ChaosVerdict.PASS:
            yield _in_time(criterion, group, journal)
        else:
            yield _in_its_words(criterion, group, journal)
    if not journals:
        yield plain(criterion, group, Outcome.NO_DATA, "no experiment was carried out")


def carried_out(journals: "tuple[Journal, ...]", criterion: Criterion) -> Iterator[str]:
    """The experiments of a criterion that have fewer runs than it asks for, in words."""
    for name in criterion.experiments:
        runs = sum(journal.experiment == name for journal in journals)
        if runs < criterion.min_samples:
            yield f"{runs} runs of experiment {name!r}; needs {criterion.min_samples}"


def _doubt(journal: Journal) -> str:
    """Why a journal shows nothing, unless it shows that something broke."""
    if not journal.steady_before:
        return "nothing was steady before the fault"
    if not journal.proven:
        return "the fault is not proven to have happened"
    if not (journal.requested and journal.read_back and journal.measured):
        return "no account of the fault as requested, read back and measured"
    if journal.lost_streams < 0:
        return f"{journal.lost_streams} lost streams"
    found = journal.recovery_seconds
    if found is not None and not (isfinite(found) and found >= 0):
        return f"recovery after {found} s"
    return ""


def _in_time(criterion: Criterion, group: Group, journal: Journal) -> Finding:
    limit, took = number(criterion, "limit"), journal.recovery_seconds
    name = journal.experiment
    if journal.lost_streams:
        words = f"{name}: {journal.lost_streams} > 0 streams lost"
        return plain(criterion, group, Outcome.FAIL, words, attributed=True)
    if took is None or not journal.steady_after:
        words = f"{name}: service did not come back"
        return plain(criterion, group, Outcome.FAIL, words, attributed=True)
    outcome = Outcome.PASS if took <= limit else Outcome.FAIL
    return compared(
        criterion,
        group,
        outcome,
        seconds,
        estimate=took,
        interval=Interval(took, took),
        limit=limit,
        n=1,
        bounds="",
        of=f" run of {name}",
        attributed=outcome is Outcome.FAIL,
    )


def _in_its_words(criterion: Criterion, group: Group, journal: Journal) -> Finding:
    outcome = _SAID[journal.verdict]
    because = "; ".join(journal.reasons) or "without a reason"
    words = f"{journal.experiment}: {journal.verdict}: {because}"
    return plain(criterion, group, outcome, words, attributed=outcome is Outcome.FAIL)
