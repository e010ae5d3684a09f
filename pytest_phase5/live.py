"""`--phase5-prometheus`: the ledgers of the judged flags, into the report folder."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from engine.core.flags import FLAGS
from gates.hygiene import answer_faults, clock_fault
from gates.ledger import minute_of
from gates.ledger_file import LEDGER_FOLDER
from gates.live import SourceError, header_for
from gates.live_ledgers import Stay, stays, write_ledgers
from gates.prometheus import Access, Prometheus
from gates.stages import OFF, STAGES, Policy, Transition

if TYPE_CHECKING:
    from engine.config import Config


def gather_live(
    folder: Path, url: str, config: "Config", steps: Mapping[str, Transition]
) -> dict[str, str]:
    """Write what live traffic showed of every flag at a live stage; why not, by flag.

    Args:
        folder: the report folder.
        url: of the Prometheus server.
        config: in use; its `rollout` says how many engines there are and whom to trust.
        steps: of the judged flags.
    """
    wanted, without = stays(config, steps)
    if not wanted:
        return without
    try:
        with closing(_prometheus(url, config)) as source:
            engines = len(config.rollout.engines)
            return without | write_ledgers(folder / LEDGER_FOLDER, source, wanted, engines=engines)
    except SourceError as error:
        return without | {stay.flag: str(error) for stay in wanted}


def faults_of(url: str, config: "Config", policy: Policy) -> Iterator[str]:
    """Why what a Prometheus tells at this moment could not be judged; nothing when it could."""
    standing = {flag: config.phase4_rollout.flag(flag).stage or OFF for flag in FLAGS}
    live = {f: Transition(s, STAGES[-1]) for f, s in standing.items() if s != OFF}
    wanted, without = stays(config, live)
    yield from without.values()
    try:
        with closing(_prometheus(url, config)) as source:
            now = source.now()
            yield from filter(None, [clock_fault(now, datetime.now(UTC))])
            for stay in wanted:
                yield from _faults(source, stay, minute_of(now), policy)
    except SourceError as error:
        yield str(error)


def _faults(source: Prometheus, stay: Stay, minute: int, policy: Policy) -> Iterator[str]:
    for edge in source.edges(minute, minute):
        header = header_for(
            edge, flag=stay.flag, epoch=stay.epoch, stage=stay.stage, share=stay.share
        )
        criteria = [c for c in policy.criteria.values() if c.source == "live"]
        yield from answer_faults(edge, header, criteria)


def _prometheus(url: str, config: "Config") -> Prometheus:
    ca = config.rollout.ca
    return Prometheus(url, Access(ca=Path(ca) if ca else None))
