"""`--phase5-prometheus`: the ledgers of the judged flags, into the report folder."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from gates.ledger_file import LEDGER_FOLDER
from gates.live import SourceError
from gates.live_ledgers import stays, write_ledgers
from gates.prometheus import Access, Prometheus
from gates.stages import Transition

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
    ca = config.rollout.ca
    try:
        with closing(Prometheus(url, Access(ca=Path(ca) if ca else None))) as source:
            engines = len(config.rollout.engines)
            return without | write_ledgers(folder / LEDGER_FOLDER, source, wanted, engines=engines)
    except SourceError as error:
        return without | {stay.flag: str(error) for stay in wanted}
