"""`python -P -m gates.actions gate|apply|watch`."""

import sys
from collections.abc import Callable, Sequence
from typing import Final

from gates.actions.apply import apply
from gates.actions.gate import gate
from gates.actions.watch import watch
from gates.exits import USAGE, warn

_COMMANDS: Final[dict[str, Callable[[], int]]] = {"gate": gate, "apply": apply, "watch": watch}


def main(arguments: Sequence[str]) -> int:
    """Run the one that is named; returns the exit status."""
    if len(arguments) != 1 or arguments[0] not in _COMMANDS:
        warn(f"given {' '.join(arguments) or 'nothing'}; allowed: {', '.join(_COMMANDS)}")
        return USAGE
    return _COMMANDS[arguments[0]]()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
