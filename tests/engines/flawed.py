"""The real engine with a flag that is broken, for proving that the guard finds out which.

    python tests/engines/flawed.py --flag ttft_pipeline --while FILE --model tiny --port 0

Everything else goes to `phase5 serve`. While FILE is there, every second stream that has the flag
fails at its first token, as a feature with a bug would make it; all others are served.
"""

import argparse
import sys
from pathlib import Path
from typing import Any


def break_flag(flag: str, broken: Path) -> None:
    """Make the streams of a flag fail while a file is there."""
    from engine.server.streams import Stream

    stock = Stream.on_token

    def on_token(self: Any, token: Any) -> None:
        if flag in self.flags and self.uid % 2 and self.output_tokens == 0 and broken.exists():
            self.on_fault("injected by tests/engines/flawed.py")
        else:
            stock(self, token)

    Stream.on_token = on_token  # type: ignore[method-assign] # this is the bug


def main() -> None:
    """Serve with a bug."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flag", required=True)
    parser.add_argument("--while", type=Path, required=True, dest="broken")
    options, arguments = parser.parse_known_args()
    break_flag(options.flag, options.broken)
    from pytest_phase5.cli import main as phase5

    sys.argv = ["phase5", "serve", *arguments]
    phase5()


if __name__ == "__main__":
    main()
