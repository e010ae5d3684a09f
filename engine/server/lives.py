"""Whether the life before this one ended as it was told to.

The runtime's deaths are counted by its supervisor; this is about the engine itself. A marker stands
in the state folder while the engine serves, and goes when it was told to stop. One that is found
at the start was left by an engine that crashed or was killed. The machine's own end is no crash of
the engine's: with another boot of the system the marker says nothing.
"""

import logging
from pathlib import Path
from typing import Final

from engine.server import durable
from engine.server.settings import Settings
from engine.server.state import state_folder

log = logging.getLogger("engine.server")

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Life:
    """The marker of an engine.

    Args:
        marker: its file; None for an engine that remembers nothing.

    Attributes:
        unclean: whether the last life left it.
    """

    def __init__(self, marker: Path | None) -> None:
        self._marker = marker
        self.unclean = _read(marker) == _boot() if marker else False
        if self.unclean:
            log.warning("the last process of this engine ended without being told to")

    @classmethod
    def of(cls, settings: Settings, engine_id: str) -> "Life":
        """The life of an engine. One under `--flags` remembers nothing."""
        if settings.forced is not None:
            return cls(None)
        return cls(state_folder(settings.path) / f"{engine_id}.serving")

    def begin(self) -> None:
        """The engine serves. Blocks."""
        if self._marker:
            try:
                durable.write_new(self._marker, _boot())
            except OSError as error:
                log.warning("%s: a crash will not be noticed: %s", self._marker, error.strerror)

    def end(self) -> None:
        """The engine was told to stop. Blocks."""
        if self._marker:
            try:
                durable.remove(self._marker)
            except OSError as error:
                log.warning("%s: this stop will count as a crash: %s", self._marker, error.strerror)


def _read(marker: Path) -> bytes | None:
    try:
        return marker.read_bytes()
    except OSError:
        return None  # as a rule there is none


def _boot() -> bytes:
    """The system's boot; empty where it has no name, and then every boot is the same."""
    return _read(_BOOT) or b""
