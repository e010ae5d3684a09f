"""`python -P -m chaos.sweeping URL PREFIX`: deletes our proxies once we are gone.

Standard input is a pipe from whoever made them, so its end of file means just that.
"""

import os
import sys

from chaos.toxiproxy import Toxiproxy


def main(url: str, prefix: str) -> int:
    """Wait for the end, then sweep."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server = Toxiproxy(url)
    for name in server.proxies():
        if name.startswith(prefix):
            server.ask("delete", f"/proxies/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
